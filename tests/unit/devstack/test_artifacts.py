"""The JVM parts: pinned, fetched from a Maven repository, verified, cached."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import stamina
from rich.console import Console

from devstack import artifacts
from devstack.artifacts import Artifact, ArtifactSet
from devstack.errors import DevstackError

CONTENT = b"not really a jar" * 100
PATH = "/org/example/thing/1.0/thing-1.0.jar"


class Repository:
    """A Maven repository on this machine, which can be made to misbehave."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.broken_answers = 0
        self.asked = 0
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != PATH:
                    self.send_error(404)
                    return
                repository.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(repository.content)))
                self.end_headers()
                whole = repository.broken_answers == 0
                repository.broken_answers = max(0, repository.broken_answers - 1)
                self.wfile.write(repository.content if whole else repository.content[:100])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    pinned = Artifact(
        "org.example:thing:1.0:jar", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)
    )
    lock = {"thing": ArtifactSet("thing", ("org.example:thing:1.0",), (pinned,))}
    monkeypatch.setattr(artifacts, "read_lock", lambda: lock)
    repository = Repository()
    with stamina.set_testing(True, attempts=3):
        yield repository
    repository.close()


def ensure(cache: Path, mirror: str) -> list[Path]:
    return artifacts.ensure("thing", Console(file=io.StringIO()), cache=cache, mirror=mirror)


def leftovers(cache: Path) -> list[Path]:
    return list(cache.glob("partial-*"))


def test_the_committed_lock_pins_every_file() -> None:
    """Each set must have files, each with a whole sha256 and a size, and its roots among them."""
    lock = artifacts.read_lock()
    assert set(lock) == {"kafka", "opensearch", "flink-connector", "zstd", "ecj"}
    for artifact_set in lock.values():
        coordinates = {file.coordinate for file in artifact_set.files}
        for root in artifact_set.roots:
            assert root in coordinates or f"{root}:jar" in coordinates
        for file in artifact_set.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0


def test_a_missing_file_is_fetched_once(repository: Repository, tmp_path: Path) -> None:
    """What was fetched must be the pinned file, and must not be fetched again."""
    (path,) = ensure(tmp_path, repository.url)
    assert path.read_bytes() == CONTENT
    assert ensure(tmp_path, "http://127.0.0.1:1") == [path]
    assert repository.asked == 1
    assert leftovers(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(
    repository: Repository, tmp_path: Path
) -> None:
    """A cached file with a wrong byte must be replaced by the right one."""
    (path,) = ensure(tmp_path, repository.url)
    path.write_bytes(b"X" + CONTENT[1:])
    assert ensure(tmp_path, repository.url)[0].read_bytes() == CONTENT


def test_a_file_that_is_not_the_pinned_one_is_refused(
    repository: Repository, tmp_path: Path
) -> None:
    """A file with another sha256 must be named and must not enter the cache."""
    repository.content = b"Z" * len(CONTENT)
    with pytest.raises(DevstackError, match=r"org\.example:thing:1\.0:jar.*sha256"):
        ensure(tmp_path, repository.url)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_broken_connection_is_tried_again(repository: Repository, tmp_path: Path) -> None:
    """A download that breaks off must not be taken for the file, and must be repeated."""
    repository.broken_answers = 1
    assert ensure(tmp_path, repository.url)[0].read_bytes() == CONTENT
    assert repository.asked == 2


def test_a_repository_that_cannot_be_reached_is_one_clear_line(
    repository: Repository, tmp_path: Path
) -> None:
    """The error must name the file and what to do, and leave nothing half done."""
    with pytest.raises(DevstackError, match=r"cannot fetch org\.example.*MAVEN_REPOSITORY_URL"):
        ensure(tmp_path, "http://127.0.0.1:1")
    assert leftovers(tmp_path) == []
