"""What devstack runs: one declaration per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

Probe = Callable[[], str | None]
"""Gives None when the service does its work, else one line saying what it waits for.

It may block for about two seconds and never raises for a server that is not there yet.
"""


def not_asked() -> str | None:
    """Stand in for the probe of a one-shot, which is never called."""
    return None


_NO_PORTS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RunAs:
    """A user to start a process as; only root can."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised process, or one that runs once before others start.

    Attributes:
        name: Of the log file too; what `logs` and `status` call it.
        command: Program and arguments, run without a shell.
        ready: Probe; of a one-shot it is never called.
        env: Whole environment of the process.
        needs: Names of services that must be ready (a one-shot: must have ended well) before.
        ports: Setting's name to the port that the process listens on, checked before the start.
        address: Where a person finds it; empty if there is nothing to see.
        prepare: Called before each start, in a thread; makes folders and configuration.
        cwd: Working folder; the current one if None.
        run_as: Whom to run as; the current user if None.
        one_shot: It ends by itself, and exit code 0 is success.
        start_timeout_s: After this long without getting ready it is stopped and started again.
        stop_timeout_s: Between SIGTERM and SIGKILL.
        stage: Shutdown order: the higher stops first (services 2, Flink 1, servers 0).
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
