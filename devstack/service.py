"""Declarations of the processes that devstack runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

Probe = Callable[[], str | None]
"""Returns None when the service is ready, else one line that says what it waits for.

A probe may block for about two seconds and never raises if the server is not up yet.
"""


def not_asked() -> str | None:
    """Placeholder probe for one-shot services, whose probe is never called."""
    return None


_NO_PORTS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RunAs:
    """A user to start a process as, which only root can do."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Service:
    """A supervised process, or a one-shot that runs to its end before others start.

    Attributes:
        name: Name in commands and in the name of the log file.
        command: Program and arguments, run without a shell.
        ready: Readiness probe; not called for a one-shot.
        env: Complete environment of the process.
        needs: Services that must be ready (one-shots: must have succeeded) before this one starts.
        ports: Ports that the process listens on, by setting; they are checked before the start.
        address: Address to show to people; empty if there is nothing to open.
        prepare: Creates folders and configuration; called in a thread before each start.
        cwd: Working folder; None means the current one.
        run_as: User to run as; None means the current one.
        one_shot: Whether the process ends by itself, with exit code 0 as success.
        start_timeout_s: Time to become ready, after which the process is restarted.
        stop_timeout_s: Time between SIGTERM and SIGKILL.
        stage: Shutdown order, highest first: services 2, Flink 1, servers 0.
    """

    name: str
    command: tuple[str, ...]
    ready: Probe
    env: Mapping[str, str]
    needs: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=lambda: _NO_PORTS)
    address: str = ""
    prepare: Callable[[], None] | None = None
    cwd: Path | None = None
    run_as: RunAs | None = None
    one_shot: bool = False
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 20.0
    stage: int = 2
