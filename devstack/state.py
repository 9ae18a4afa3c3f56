"""The record of the running stack: written by the supervisor, read by all other commands."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from devstack.process import Identity

_FILE: Final = "stack.json"


class Phase(StrEnum):
    """Phases of the supervisor's life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceState(StrEnum):
    """States of a supervised service."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    BACKING_OFF = "backing off"
    DONE = "done"
    STOPPED = "stopped"


OK_STATES: Final = frozenset({ServiceState.READY, ServiceState.DONE})


@dataclass(slots=True)
class ServiceRecord:
    """Current state of one service.

    Attributes:
        state: State of the service.
        detail: What the service waits for, or why it is not ready; may be empty.
        identity: Process of the service; None if it is not running.
        since_ms: Start of the current state, UTC epoch milliseconds.
        ready_after_s: Time from the start of the stack until the service was first ready; None
            before that.
        restarts: Number of restarts.
        address: Address to show to people; may be empty.
        stage: Shutdown order, highest first.
    """

    state: ServiceState = ServiceState.WAITING
    detail: str = ""
    identity: Identity | None = None
    since_ms: int = 0
    ready_after_s: float | None = None
    restarts: int = 0
    address: str = ""
    stage: int = 2


@dataclass(slots=True)
class StackRecord:
    """Current state of the whole stack.

    Attributes:
        supervisor: Process of the supervisor.
        phase: Phase of the supervisor.
        started_ms: When the supervisor started, UTC epoch milliseconds.
        failure: Why the start failed, possibly with the end of a log; empty if it did not.
        services: Services by name, in start order.
    """

    supervisor: Identity | None = None
    phase: Phase = Phase.STARTING
    started_ms: int = 0
    failure: str = ""
    services: dict[str, ServiceRecord] = field(default_factory=dict)

    def is_supervised(self) -> bool:
        """Return whether the supervisor that wrote the record still runs."""
        return self.supervisor is not None and self.supervisor.is_alive()

    def is_healthy(self) -> bool:
        """Return whether the supervisor runs and every service is ready or done."""
        return (
            self.phase is Phase.RUNNING
            and self.is_supervised()
            and all(service.state in OK_STATES for service in self.services.values())
        )

    def processes(self) -> list[Identity]:
        """Return the processes of the services, in shutdown order."""
        ordered = sorted(self.services.values(), key=lambda service: -service.stage)
        return [service.identity for service in ordered if service.identity]


def write(folder: Path, record: StackRecord) -> None:
    """Write the record to the state folder, atomically for readers."""
    target = folder / _FILE
    draft = target.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(record), indent=1), "utf-8")
    draft.replace(target)


def read(folder: Path) -> StackRecord | None:
    """Read the record in a state folder; return None if the stack never ran there."""
    try:
        document = json.loads((folder / _FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    services = {
        name: ServiceRecord(
            **{
                **service,
                "state": ServiceState(service["state"]),
                "identity": _identity(service["identity"]),
            }
        )
        for name, service in document["services"].items()
    }
    return StackRecord(
        supervisor=_identity(document["supervisor"]),
        phase=Phase(document["phase"]),
        started_ms=document["started_ms"],
        failure=document["failure"],
        services=services,
    )


def _identity(document: Mapping[str, Any] | None) -> Identity | None:
    return Identity(document["pid"], document["born"]) if document else None


class LockedError(Exception):
    """Another process holds the lock; the message is its pid, if known."""


@contextmanager
def exclusive(lock: Path, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file; the operating system releases it when the process ends, even if killed.

    Raises:
        LockedError: Another process still holds it after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    with lock.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise LockedError(file.read().strip()) from None
                time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
