"""Starts processes in sessions of their own, identifies them reliably, and stops them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from devstack.errors import DevstackError
from devstack.service import Service

STACK_MARK: Final = "FRAUDSTREAM_STACK"
"""Environment variable of every process of a stack; its value is the stack's state folder."""

_POLL_S: Final = 0.05
_EXCERPT_LINES: Final = 6
_EXCERPT_START: Final = 120
_EXCERPT_END: Final = 280
_reaping: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies a process even if its pid is reused later.

    Attributes:
        pid: Process id.
        born: Start time: on Linux in clock ticks since boot, which clock changes do not affect;
            elsewhere in epoch seconds.
    """

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a running process; None if the pid is unused or a zombie."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, _born(process))
        except (psutil.Error, OSError):
            return None

    def is_alive(self) -> bool:
        """Return whether the process still runs and was not replaced by another with its pid."""
        return Identity.of(self.pid) == self


def _born(process: psutil.Process) -> str:
    if sys.platform == "linux":
        # Field 22 of stat(5); the name in field 2 may hold spaces and brackets.
        stat = Path(f"/proc/{process.pid}/stat").read_text("utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    return f"{process.create_time():.2f}"


def spawn(service: Service, log: Path) -> subprocess.Popen[bytes]:
    """Start a service's process as leader of a new session; append its output to a log file.

    Raises:
        DevstackError: The program cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                service.command,
                env=dict(service.env),
                cwd=service.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=service.run_as.uid if service.run_as else None,
                group=service.run_as.gid if service.run_as else None,
                extra_groups=[] if service.run_as else None,
            )
    except OSError as error:
        raise DevstackError(
            f"{service.name}: cannot start {service.command[0]}: {error}"
        ) from error


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a child has ended; if so, kill the rest of its process group and reap it.

    The group is killed while the child is still a zombie: until it is reaped, its group id cannot
    be reused, so the signal cannot reach processes of others.
    """
    with _reaping:
        if process.returncode is not None:
            return True
        try:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # reaped elsewhere: the group id may have been reused
            process.wait()
            return True
        if ended is not None:
            _kill_group(process.pid)
            process.wait()
        return ended is not None


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Send SIGTERM to a child; kill its process group if it does not end in time."""
    if has_ended(process):
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while not has_ended(process):
        if time.monotonic() > deadline:
            _kill_group(process.pid)
        time.sleep(_POLL_S)


def stop_strangers(victims: Iterable[Identity], timeout_s: float) -> None:
    """Stop processes that are not our children: first SIGTERM, after `timeout_s` SIGKILL."""
    left = [victim for victim in victims if _signal(victim, signal.SIGTERM)]
    deadline = time.monotonic() + timeout_s
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [victim for victim in left if victim.is_alive()]
    for victim in left:
        _signal(victim, signal.SIGKILL)
    while any(victim.is_alive() for victim in left):
        time.sleep(_POLL_S)


def find_marked(mark: str) -> list[Identity]:
    """Return all processes with a stack's mark in their environment, except the current one.

    Args:
        mark: Value of `STACK_MARK`, the stack's state folder.
    """
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(STACK_MARK) == mark:
                identity = Identity.of(process.pid)
                if identity:
                    found.append(identity)
    return found


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants, MB; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            total += member.memory_info().rss
    return total / 1e6


def wait_until(
    done: Callable[[], str | None], timeout_s: float, what: str, poll_s: float = 0.1
) -> None:
    """Poll a probe until it returns None.

    Args:
        done: The probe; returns what it still waits for.
        timeout_s: Longest wait, seconds.
        what: Name for the error message.
        poll_s: Pause between calls, seconds.

    Raises:
        TimeoutError: The probe did not return None in time; the message has its last answer.
    """
    deadline = time.monotonic() + timeout_s
    while (waiting := done()) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not ready after {timeout_s:.0f} s: {waiting}")
        time.sleep(poll_s)


@contextmanager
def running(service: Service, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one service without a supervisor, as tests do; it is ready in the block, then stopped.

    Raises:
        DevstackError: The process ended before it was ready; the message has the end of its log.
        TimeoutError: The service was not ready in time.
    """
    if service.prepare:
        service.prepare()
    log = logs / f"{service.name}.log"
    process = spawn(service, log)

    def probe() -> str | None:
        if has_ended(process):
            raise DevstackError(
                f"{service.name} ended with exit code {process.returncode}; its log ends:\n"
                + tail(log)
            )
        return service.ready()

    try:
        wait_until(probe, service.start_timeout_s, service.name)
        yield process
    finally:
        stop(process, service.stop_timeout_s)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64_000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def excerpt(log: Path) -> str:
    """Return the last lines of a log for an error message; long lines are cut in the middle."""
    shown = []
    for line in tail(log, _EXCERPT_LINES).splitlines():
        is_long = len(line) > _EXCERPT_START + _EXCERPT_END
        shown.append(f"{line[:_EXCERPT_START]} ... {line[-_EXCERPT_END:]}" if is_long else line)
    return "\n".join(shown)


def _signal(victim: Identity, number: signal.Signals) -> bool:
    if not victim.is_alive():
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(victim.pid, number)
        return True
    return False


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
