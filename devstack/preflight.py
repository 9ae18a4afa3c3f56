"""Checks before a start; each problem is one line that says what to do."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from devstack.errors import DevstackError
from devstack.java import java
from devstack.settings import DevstackSettings

_GB: Final = 1e9
_CONNECT_S: Final = 3.0
_CGROUP: Final = Path("/sys/fs/cgroup")


def problems(
    settings: DevstackSettings, ports: Mapping[str, int], needs_flink: bool = True
) -> list[str]:
    """Return all problems that keep the stack from starting; empty when it can start.

    Args:
        settings: Settings of devstack.
        ports: Ports that the services will listen on, by setting.
        needs_flink: Whether Flink will run, so that memory and disk are checked, too.
    """
    found = [*_platform(), *_state_folder(settings.state_dir)]
    if needs_flink:
        found += [
            *_memory(settings.min_memory_gb),
            *_disk(settings.state_dir, settings.min_disk_gb),
        ]
    return [*found, *busy_ports(settings.bind_host, ports), *_own_servers(settings)]


def _platform() -> Iterator[str]:
    if os.name != "posix":
        yield "this system is not supported; use Linux or macOS (on Windows: inside WSL), or docker compose up"
        return
    if shutil.which("bash") is None:
        yield "bash is not installed and Flink's scripts need it; install it and run this again"
    try:
        subprocess.run([java(), "-version"], capture_output=True, timeout=30, check=True)
    except DevstackError as error:
        yield str(error)
    except (OSError, subprocess.SubprocessError):
        yield (
            f"the Java runtime of this Python environment does not run here ({os.uname().machine}); "
            "it needs Linux with glibc or macOS, on x86-64 or arm64: use such a machine, or docker compose up"
        )


def _state_folder(folder: Path) -> Iterator[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        yield f"cannot write to the state folder {folder} ({error.strerror}); make it writable for you, or set STATE_DIR in .env to another folder"


def _memory(needed_gb: float) -> Iterator[str]:
    free_gb = free_memory() / _GB
    if free_gb < needed_gb:
        yield (
            f"{free_gb:.1f} GB of memory are free and the stack needs {needed_gb:g}; close other "
            "programs or use a bigger machine (MIN_MEMORY_GB in .env changes this limit)"
        )


def free_memory() -> int:
    """Return the available memory in bytes: of the machine, or of the container if that is less."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text("ascii"))  # "max" means none
        statistics = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text("ascii").splitlines()
        )
        used = int((_CGROUP / "memory.current").read_text("ascii"))
        # Inactive page cache counts as used, but the kernel frees it on demand.
        free = min(free, limit - used + int(statistics["inactive_file"]))
    return free


def _disk(folder: Path, needed_gb: float) -> Iterator[str]:
    place = folder
    while not place.exists():
        place = place.parent
    free_gb = shutil.disk_usage(place).free / _GB
    if free_gb < needed_gb:
        yield (
            f"{free_gb:.1f} GB of disk are free at {place} and the stack needs {needed_gb:g}; free "
            "some or set STATE_DIR in .env to a folder on another disk (MIN_DISK_GB changes this limit)"
        )


def busy_ports(host: str, ports: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each port that is not free, with its setting and, if known, its user."""
    users: dict[int, list[str]] = {}
    for setting, port in ports.items():
        users.setdefault(port, []).append(setting)
    for port, settings in users.items():
        if len(settings) > 1:
            yield f"{' and '.join(settings)} are all port {port}; give each its own in .env"
            continue
        (setting,) = settings
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                yield _why_not(error, host, port, setting)
                if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                    return


def _why_not(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use{_owner(port)}; stop that, or set {setting} in .env to a free port"
    if error.errno == errno.EACCES:
        return f"port {port} needs root; set {setting} in .env to a port from 1024 up"
    return f"BIND_HOST {host} is not an address of this machine; correct it in .env"


def _owner(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status != psutil.CONN_LISTEN or not address or not connection.pid:
                continue
            if address.port == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def _own_servers(settings: DevstackSettings) -> Iterator[str]:
    """Check that the user's own servers can be reached, and that settings agree about them."""
    if settings.without("kafka"):
        first = settings.kafka_bootstrap_servers.split(",")[0]
        yield from _reachable("KAFKA_BOOTSTRAP_SERVERS", "kafka", f"//{first}", 9092)
    elif settings.kafka_bootstrap_servers and not _is_local(
        settings, f"//{settings.kafka_bootstrap_servers}", settings.kafka_port
    ):
        yield _contradiction("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers, "kafka")
    if settings.without("opensearch"):
        port = 443 if settings.opensearch_url.startswith("https:") else 9200
        yield from _reachable("OPENSEARCH_URL", "opensearch", settings.opensearch_url, port)
    elif settings.opensearch_url and not _is_local(
        settings, settings.opensearch_url, settings.opensearch_port
    ):
        yield _contradiction("OPENSEARCH_URL", settings.opensearch_url, "opensearch")
    if settings.without("mail"):
        server = f"//{settings.smtp_host}:{settings.smtp_port}" if settings.smtp_host else ""
        yield from _reachable("SMTP_HOST", "mail", server, settings.smtp_port)
    elif settings.smtp_host and not _is_local(
        settings, f"//{settings.smtp_host}", settings.smtp_port
    ):
        yield _contradiction("SMTP_HOST", settings.smtp_host, "mail")


def _reachable(setting: str, server: str, address: str, default_port: int) -> Iterator[str]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or default_port
    except ValueError:
        host, port = None, 0
    if not host:
        yield f"DEVSTACK_WITHOUT leaves out {server}, so {setting} must say where yours is; set it in .env"
        return
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        yield f"{setting}: cannot connect to {host}:{port} ({error.strerror or error}); start that server or correct the setting"


def _is_local(settings: DevstackSettings, address: str, port: int) -> bool:
    try:
        parts = urlsplit(address.split(",")[0])
        given_port = parts.port or port
    except ValueError:
        return False
    # Another port of this machine is not a contradiction: the address may be from before KAFKA_PORT
    # was changed, and the port setting wins.
    local = {"localhost", "127.0.0.1", "::1", settings.bind_host, settings.advertised_host}
    return parts.hostname in local and bool(given_port)


def _contradiction(setting: str, value: str, server: str) -> str:
    return (
        f"{setting} is {value} but the local {server} would be started too; add {server} to "
        f"DEVSTACK_WITHOUT in .env to use yours, or remove {setting}"
    )


def in_one_line(found: Iterable[str]) -> str:
    """Join problems into the text of one error, with a line for each."""
    return "\nfraudstream: ".join(found)
