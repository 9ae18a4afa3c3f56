"""Downloads the JVM files that `artifacts.lock` pins from Maven, verifies and caches them.

A file is used only if its size and sha256 equal those in the lock. It is downloaded into a
temporary folder and moved into the cache once verified, so an interrupted download leaves no partial
file, and files that did arrive are not downloaded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any, Final

import stamina
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from devstack.errors import DevstackError

LOCK_NAME: Final = "artifacts.lock"
_FETCHES_AT_ONCE: Final = 4
_TIMEOUT_S: Final = 60
"""Timeout while the repository sends nothing; the whole download may take longer."""
_TRIES: Final = 3
_CHUNK: Final = 1 << 20
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of the lock.

    Attributes:
        coordinate: Maven coordinate, `group:artifact:version:packaging`.
        sha256: SHA-256 of the file, hexadecimal.
        size: Size in bytes.
    """

    coordinate: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """Name of the file in a Maven repository.

        Example:
            >>> Artifact("org.eclipse.jdt:ecj:3.40.0:jar", "", 0).file_name
            'ecj-3.40.0.jar'
        """
        _, artifact, version, packaging = self.coordinate.split(":")
        return f"{artifact}-{version}.{packaging}"

    def path(self, cache: Path) -> Path:
        """Return the path of the file in a cache folder."""
        group = self.coordinate.split(":", 1)[0]
        return cache / "artifacts" / group / self.file_name


@dataclass(frozen=True, slots=True)
class ArtifactSet:
    """The files of one server.

    Attributes:
        name: Name in the lock, such as `kafka`.
        roots: Coordinates chosen by hand, `group:artifact:version[:packaging]`.
        files: Files of the roots and of all their dependencies.
    """

    name: str
    roots: tuple[str, ...]
    files: tuple[Artifact, ...]


def cache_folder() -> Path:
    """Return the user's cache folder for this project, which may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fraudstream"


def read_lock(text: str | None = None) -> dict[str, ArtifactSet]:
    """Parse the sets of a lock, by name; without a text, those of the project's own lock."""
    document = tomllib.loads(text or files("devstack").joinpath(LOCK_NAME).read_text("utf-8"))
    return {
        name: ArtifactSet(
            name,
            tuple(content["roots"]),
            tuple(
                Artifact(coordinate, pinned["sha256"], pinned["size"])
                for coordinate, pinned in content.get("files", {}).items()
            ),
        )
        for name, content in document.items()
    }


def is_intact(path: Path, artifact: Artifact) -> bool:
    """Return whether a file exists and has the pinned size and sha256."""
    try:
        if path.stat().st_size != artifact.size:
            return False
        return _sha256(path) == artifact.sha256
    except FileNotFoundError:
        return False


def paths(name: str, cache: Path | None = None) -> list[Path]:
    """Return the paths of a set's files; they exist once `ensure` has fetched them."""
    return [file.path(cache or cache_folder()) for file in read_lock()[name].files]


def ensure(
    name: str, console: Console, *, cache: Path | None = None, mirror: str = ""
) -> list[Path]:
    """Return the verified files of a set, after downloading those that the cache lacks.

    Args:
        name: A set of the lock: `kafka`, `opensearch`, `flink-connector`, `zstd` or `ecj`.
        console: Shows progress, as bars on a terminal and as lines elsewhere.
        cache: Cache folder; None means the user's.
        mirror: Address of a Maven repository to use instead of Maven Central.

    Returns:
        Paths of the files, in the lock's order.

    Raises:
        DevstackError: A file cannot be downloaded, or differs from the pinned one.
    """
    cache = cache or cache_folder()
    wanted = read_lock()[name].files
    missing = [file for file in wanted if not is_intact(file.path(cache), file)]
    if missing:
        _fetch_all(name, missing, console, cache, mirror)
    return paths(name, cache)


def _fetch_all(
    name: str, missing: Sequence[Artifact], console: Console, cache: Path, mirror: str
) -> None:
    total = sum(file.size for file in missing)
    cancelled = Event()
    with (
        _progress(name, len(missing), total, console) as show,
        ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="fetch") as pool,
    ):

        def advance(fetched: int) -> None:
            if cancelled.is_set():
                raise DevstackError("the download was interrupted")
            show(fetched)

        tasks = [pool.submit(_fetch, file, cache, mirror, advance) for file in missing]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(artifact: Artifact, cache: Path, mirror: str, advance: Callable[[int], None]) -> None:
    target = artifact.path(cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # jgo raises OSError (from requests) for network errors and RuntimeError for "not found".
        for attempt in stamina.retry_context(
            on=(OSError, RuntimeError), attempts=_TRIES, timeout=None
        ):
            with attempt, tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as staging:
                fetched = _download(artifact, Path(staging), mirror, advance)
                if fetched.stat().st_size < artifact.size:
                    raise OSError("the connection broke off")
                if not is_intact(fetched, artifact):
                    raise DevstackError(
                        f"{artifact.coordinate}: what was fetched is not what {LOCK_NAME} pins "
                        f"(sha256 {_sha256(fetched)}, pinned {artifact.sha256}); "
                        "check the Maven repository, or run this again"
                    )
                fetched.replace(target)
    except (OSError, RuntimeError) as error:
        raise DevstackError(
            f"cannot fetch {artifact.coordinate}: {error}; check the network "
            "(MAVEN_REPOSITORY_URL names a mirror) and run this again"
        ) from error


def _download(
    artifact: Artifact, folder: Path, mirror: str, advance: Callable[[int], None]
) -> Path:
    group, name, version, packaging = artifact.coordinate.split(":")
    context = _maven(folder, mirror, advance)
    component = context.project(group, name).at_version(version)
    return Path(component.artifact(packaging=packaging).resolve())


def _maven(folder: Path, mirror: str, advance: Callable[[int], None]) -> Any:
    # jgo is slow to import and only needed when a file is missing.
    from jgo.maven import MavenContext, PythonResolver

    logging.getLogger("jgo").setLevel(logging.ERROR)

    @contextmanager
    def progress(_file: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    return MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=folder,
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=_TIMEOUT_S,
    )


@contextmanager
def _progress(
    name: str, count: int, total: int, console: Console
) -> Iterator[Callable[[int], None]]:
    files_text = f"{count} file{'s' if count > 1 else ''}"
    if not console.is_terminal:
        console.print(f"fetching {name}: {files_text}, {total / _MB:.0f} MB", highlight=False)
        yield lambda _bytes: None
        console.print(f"fetched {name}", highlight=False)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(f"fetching {name} ({files_text})", total=total)
        yield lambda fetched: bars.advance(bar, fetched)
        bars.update(bar, completed=total)


def lock(current: str, console: Console, *, mirror: str = "") -> str:
    """Resolve the roots of a lock again.

    Args:
        current: Text of a lock; its roots are kept, its files are replaced.
        console: Shows progress.
        mirror: Address of a Maven repository to use instead of Maven Central.

    Returns:
        Text of the new lock.
    """
    lines = [
        "# The JVM parts: what each server needs, and the sha256 of every file.",
        "# Change `roots`, then run `python -m devstack lock-artifacts`, which rewrites `files`.",
    ]
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="partial-") as staging:
        context = _maven(Path(staging), mirror, lambda _bytes: None)
        for name, artifact_set in read_lock(current).items():
            console.print(f"resolving {name}", highlight=False)
            roots = ", ".join(f'"{root}"' for root in artifact_set.roots)
            lines += ["", f"[{name}]", f"roots = [{roots}]", f"[{name}.files]"]
            for coordinate, path in _resolve(context, artifact_set.roots):
                pinned = f'sha256 = "{_sha256(path)}", size = {path.stat().st_size}'
                lines.append(f'"{coordinate}" = {{ {pinned} }}')
    return "\n".join(lines) + "\n"


def _resolve(context: Any, roots: Sequence[str]) -> list[tuple[str, Path]]:
    found: dict[str, Path] = {}
    for root in roots:
        group, name, version, *packaging = root.split(":")
        if packaging:  # a distribution, not a library with dependencies
            artifact = (
                context.project(group, name).at_version(version).artifact(packaging=packaging[0])
            )
            found[root] = Path(artifact.resolve())
            continue
        _, nodes = context.resolver.get_dependency_list([context.create_dependency(root)])
        own = context.create_dependency(root).artifact
        for artifact in [own, *(node.dep.artifact for node in nodes)]:
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}:jar"
            found[coordinate] = Path(artifact.resolve())
    return list(found.items())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
