"""A stack of the run's own: devstack's services, with proxies, clocks and a disk that can fail.

`python -m benchmarks.faults.stack` is its supervisor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console

from benchmarks.faults.proxy import PROXY_HOST, Proxy
from devstack import stack as devstack
from devstack import state
from devstack.commands import SUPERVISOR_LOCK, down
from devstack.ports import free_ports
from devstack.process import find_marked
from devstack.servers.flink import discard_leftovers
from devstack.service import Service
from devstack.settings import DevstackSettings
from devstack.supervisor import StackSupervisor
from flink_job.cluster import Cluster, ClusterUnreachableError

PORTS: Final = (
    "KAFKA_PORT",
    "OPENSEARCH_PORT",
    "API_PORT",
    "FLINK_PORT",
    "SMTP_PORT",
    "MAIL_UI_PORT",
    "PRODUCER_OPS_PORT",
    "FLINK_JOB_OPS_PORT",
    "NOTIFIER_OPS_PORT",
    "INDEXER_OPS_PORT",
)
_PROXIED: Final = {
    "kafka": "KAFKA_PORT",
    "opensearch": "OPENSEARCH_PORT",
    "mail": "SMTP_PORT",
    "jobmanager": "FLINK_PORT",
}
CLOCKS: Final = ("notifier", "indexer")
"""Services whose clock can be changed."""

_FAKE_CLOCK: Final = "FAULTS_CLOCK_LIBRARY"
_TASKMANAGERS: Final = "FAULTS_TASKMANAGERS"
_UP_S: Final = 900
_START_S: Final = 600
"""Longest start of a service: the machine may be busy, and each start competes with all others."""

_LOOK_S: Final = 0.25


def fake_clock_library() -> Path | None:
    """Return libfaketime for programs with threads, if it is installed."""
    for folder in ("/usr/lib", "/usr/local/lib", "/usr/lib64"):
        for found in Path(folder).glob("**/faketime/libfaketimeMT.so.1"):
            return found
    return None


def clock_file(folder: Path, name: str) -> Path:
    """Return the file whose content a service's clock is off by, in seconds."""
    return folder / "clocks" / name


def hold_file(folder: Path, name: str) -> Path:
    """Return the file while which exists a service is not started."""
    return folder / "held" / name


def services(settings: DevstackSettings) -> list[Service]:
    """Declare devstack's services, except the producer, as this run needs them."""
    names = [name for name in devstack.NAMES if name != "producer"]
    return [
        changed
        for service in devstack.build(settings, names)
        for changed in _changed(settings, service)
    ]


def _changed(settings: DevstackSettings, service: Service) -> Iterator[Service]:
    folder, name = settings.state_dir, service.name
    env = {
        **service.env,
        "OPENSEARCH_URL": f"http://{PROXY_HOST}:{settings.opensearch_port}",
        "SMTP_HOST": PROXY_HOST,
        "FLINK_URL": f"http://{PROXY_HOST}:{settings.flink_port}",
    }
    library = os.environ.get(_FAKE_CLOCK)
    if library and name in CLOCKS:
        clock = clock_file(folder, name)
        clock.parent.mkdir(exist_ok=True)
        if not clock.exists():
            clock.write_text("+0\n")
        env |= {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def prepare() -> None:
        while hold_file(folder, name).exists():
            time.sleep(_LOOK_S)
        if service.prepare:
            service.prepare()

    patience_s = max(service.start_timeout_s, _START_S)
    changed = replace(service, env=env, prepare=prepare, start_timeout_s=patience_s)
    yield changed
    if name == "taskmanager":
        for number in range(2, int(os.environ[_TASKMANAGERS]) + 1):
            own_id = ("-D", f"taskmanager.resource-id=taskmanager-{number}")
            yield replace(changed, name=f"{name}-{number}", command=(*service.command, *own_id))


class FaultStack:
    """A stack as seen by those who break it.

    Args:
        folder: Its state folder.
        env: Its environment.
        proxies: By server; empty when clients reach the servers directly.
        disk: Whether the folder is a file system of its own.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        *,
        proxies: Mapping[str, Proxy] | None = None,
        disk: bool = False,
    ) -> None:
        self.folder = folder
        self.env = env
        self.proxies = dict(proxies or {})
        self.has_disk = disk
        self.kafka = f"127.0.0.1:{env['KAFKA_PORT']}"
        if self.proxies:
            self.kafka = f"{PROXY_HOST}:{env['KAFKA_PORT']}"
        self.opensearch = f"http://127.0.0.1:{env['OPENSEARCH_PORT']}"
        self.mail_api = f"http://127.0.0.1:{env['MAIL_UI_PORT']}"
        self._cluster = Cluster(f"http://127.0.0.1:{env['FLINK_PORT']}")

    @property
    def taskmanagers(self) -> int:
        """How many TaskManagers it has."""
        return int(self.env.get(_TASKMANAGERS, "1"))

    def up(self) -> None:
        """Start the supervisor and wait until everything is ready.

        Raises:
            RuntimeError: It ended, or was not ready in time.
        """
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "supervisor.log").open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.stack"],
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _UP_S
        while True:
            record = state.read(self.folder)
            is_ours = record and record.supervisor and record.supervisor.pid == supervisor.pid
            if record and is_ours and record.is_healthy():
                return
            if supervisor.poll() is not None or time.monotonic() > deadline:
                failure = record.failure if record and is_ours else ""
                raise RuntimeError(f"the stack did not start; see {logs}\n{failure}")
            time.sleep(_LOOK_S)

    def down(self) -> None:
        """Stop all services in order."""
        # The settings of devstack come from this process's environment.
        settings = DevstackSettings(state_dir=self.folder)
        down(settings, Console(quiet=True))

    def kill_everything(self) -> None:
        """Kill all processes at once, the supervisor among them."""
        for identity in (*self._supervisor(), *find_marked(str(self.folder))):
            with suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGKILL)

    def _supervisor(self) -> list[state.Identity]:
        record = state.read(self.folder)
        return [record.supervisor] if record and record.supervisor else []

    def is_well(self) -> bool:
        """Check whether every service is ready and the job runs."""
        record = state.read(self.folder)
        try:
            job = self._cluster.active_job("fraudstream")
        except ClusterUnreachableError:
            return False
        return bool(record and record.is_healthy() and job and job.running)

    def what_is_wrong(self) -> str:
        """Return the services that are not ready."""
        record = state.read(self.folder)
        return ", ".join(
            f"{name} {service.state.value} {service.detail}".strip()
            for name, service in (record.services.items() if record else ())
            if service.state not in state.OK_STATES
        )

    def job_cold_start_s(self) -> float | None:
        """Return how long Flink and the job took from nothing to running, when the stack started.

        The time to create topics and to train a model is not part of it.
        """
        record = state.read(self.folder)
        if record is None:
            return None
        after = {name: service.ready_after_s or 0 for name, service in record.services.items()}
        waited = max(after.get(name, 0) for name in ("topics", "train", "taskmanager"))
        return round(after["flink_job"] - waited + after["taskmanager"], 1)

    def processes(self, victim: str) -> list[psutil.Process]:
        """Return the processes of a victim, the one to hit first; empty while it does not run."""
        if victim == "job":
            return [process for name in self._names() for process in self._of_service(name)]
        if victim.endswith(" worker"):
            return self._workers(decides=victim.startswith("deciding"))
        return self._of_service(victim)

    def _names(self) -> list[str]:
        numbers = range(2, self.taskmanagers + 1)
        return ["taskmanager", *(f"taskmanager-{number}" for number in numbers)]

    def _of_service(self, name: str) -> list[psutil.Process]:
        record = state.read(self.folder)
        service = record.services.get(name) if record else None
        if service is None or service.identity is None or not service.identity.is_alive():
            return []
        with suppress(psutil.Error):
            return [psutil.Process(service.identity.pid)]
        return []

    def _workers(self, *, decides: bool) -> list[psutil.Process]:
        """Return the Python processes of one of the two functions; one alone has a model."""
        found = []
        for manager in self.processes("job"):
            with suppress(psutil.Error):
                for process in manager.children(recursive=True):
                    with suppress(psutil.Error):
                        if any(
                            "beam_boot" in part for part in process.cmdline()
                        ) and decides == any(
                            "xgboost" in file.path for file in process.memory_maps()
                        ):
                            found.append(process)
        return found


def kinds_missing(*, disk: bool, library: Path | None) -> dict[str, str]:
    """Return the kinds of faults that this machine cannot have, with the reason."""
    missing = {}
    if not disk:
        missing["full disk"] = "needs root, mkfs.ext4 and a loop device, for a disk of its own"
    if library is None:
        missing["clock back"] = missing["clock ahead"] = "needs libfaketime"
    return missing


@contextmanager
def own_stack(
    folder: Path, *, records: int, exactly_once: bool, parallelism: int
) -> Iterator[FaultStack]:
    """Start a stack on free ports, with its state on a disk of its own where that is possible.

    Args:
        folder: Temporary folder.
        records: How many its disk must take.
        exactly_once: See `FLINK_DELIVERY`.
        parallelism: See `FLINK_PARALLELISM`; above 1 each instance has a TaskManager.
    """
    with ExitStack() as stack:
        home = folder / "state"
        home.mkdir()
        disk = stack.enter_context(_disk(folder, megabytes=4000 + records // 50))
        library = fake_clock_library()
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        env = {
            **os.environ,
            **ports,
            "STATE_DIR": str(home),
            "ADVERTISED_HOST": PROXY_HOST,
            "DEVSTACK_WITHOUT": "producer",
            "NOTIFIER_DIGEST_S": "0",
            "MAIL_MAX_MESSAGES": "1000000",
            "FLINK_DELIVERY": "exactly-once" if exactly_once else "at-least-once",
            "FLINK_PARALLELISM": str(parallelism),
            "FLINK_TASK_SLOTS": "4" if parallelism == 1 else "1",
            _TASKMANAGERS: str(parallelism),
            _FAKE_CLOCK: str(library or ""),
        }
        proxies = {name: Proxy(int(ports[port])) for name, port in _PROXIED.items()}
        for proxy in proxies.values():
            proxy.start()
            stack.callback(proxy.stop)
        found = FaultStack(home, env, proxies=proxies, disk=disk)
        stack.callback(found.down)
        found.up()
        yield found


@contextmanager
def _disk(folder: Path, *, megabytes: int) -> Iterator[bool]:
    """Mount a file as the state folder; yield whether that was possible."""
    image, home = folder / "disk.img", folder / "state"
    with image.open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    commands = (
        # No blocks kept for root: those who are not would find the disk full before the others.
        ["mkfs.ext4", "-q", "-m", "0", str(image)],
        ["mount", "-o", "loop", str(image), str(home)],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        image.unlink()
        yield False
        return
    try:
        home.chmod(0o755)
        yield True
    finally:
        subprocess.run(["umount", "-l", str(home)], check=False, capture_output=True)  # noqa: S607


def main() -> None:
    """Supervise the services of the environment until SIGTERM."""
    settings = DevstackSettings()
    with state.exclusive(settings.state_dir / SUPERVISOR_LOCK):
        discard_leftovers(settings.state_dir / "flink")
        supervisor = StackSupervisor(
            services(settings),
            settings.state_dir,
            devstack.log_folder(settings),
            settings.log_file_mb,
        )
        sys.exit(asyncio.run(supervisor.run()))


if __name__ == "__main__":
    main()
