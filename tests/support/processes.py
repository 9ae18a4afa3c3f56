"""Our services as real processes, and topics to feed them by."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.ports import free_ports

_NUMBERS = itertools.count()


def until(done: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll a condition with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.05)


class OutputTopic:
    """A topic of one's own, with a name that no other test has."""

    def __init__(self, servers: str, kind: str = "processed", partitions: int = 2) -> None:
        self.servers = servers
        self.name = f"{kind}-{os.getpid()}-{next(_NUMBERS)}"
        self._partitions = partitions
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(30)
        self._producer = Producer({"bootstrap.servers": servers, "log_level": 0})

    def produce(
        self, values: Iterable[bytes | None], headers: dict[str, bytes] | None = None
    ) -> None:
        """Write records; they are readable when this returns."""
        for number, value in enumerate(values):
            self._producer.produce(
                self.name, value, partition=number % self._partitions, headers=headers
            )
        assert self._producer.flush(30) == 0


class ServiceProcess:
    """`python -m MODULE` with an environment, as a context manager that leaves nothing running.

    Args:
        module: Such as `notifier`; its ops port is set by `<MODULE>_OPS_PORT`.
        env: Settings.
        log: File that its output is appended to.
    """

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self.port = free_ports(1, "127.0.0.1")[0]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=os.environ | env | {f"{module.upper()}_OPS_PORT": str(self.port)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.kill()

    def ready(self) -> str | None:
        """Ask for readiness: None when ready, else what it waits for."""
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=5)
        except httpx.TransportError:
            return "its port"
        return None if answer.status_code == 200 else answer.text.strip()

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        until(lambda: self.ready() is None, "readiness")

    def metric(self, name: str, **labels: str) -> float:
        """Read a metric; 0 if it does not exist, or not yet."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        except httpx.TransportError:
            return 0.0
        for line in text.splitlines():
            if line.startswith(name) and all(
                f'{label}="{value}"' in line for label, value in labels.items()
            ):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def stop(self) -> int:
        """Ask it to end by SIGTERM and give its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def kill(self) -> None:
        """End it by kill -9."""
        self._process.kill()
        self._process.wait(30)
