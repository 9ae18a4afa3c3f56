"""Brings a fault about, and ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from benchmarks.faults.plan import Fault
from benchmarks.faults.stack import FaultStack, clock_file, hold_file

End = Callable[[], None]

_HOUR_BACK: Final = "-3600"
_400_DAYS_AHEAD: Final = "+34560000"
_VICTIM_S: Final = 120
_GONE_S: Final = 30
_LOOK_S: Final = 0.1
_WRITERS: Final = 4
_WRITE_BYTES: Final = 4_000_000


def begin(stack: FaultStack, fault: Fault) -> End:
    """Begin a fault; the result ends it.

    Raises:
        TimeoutError: The victim does not run.
    """
    return _KINDS[fault.kind](stack, fault)


def _victims(stack: FaultStack, victim: str) -> list[psutil.Process]:
    """Wait for a victim, which may be on its way back from an earlier fault."""
    deadline = time.monotonic() + _VICTIM_S
    while not (found := stack.processes(victim)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{victim} did not run within {_VICTIM_S} s")
        time.sleep(_LOOK_S)
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


def _kill(stack: FaultStack, fault: Fault) -> End:
    (process, *_) = _victims(stack, fault.victim)
    _signal(process, signal.SIGKILL)
    process.wait(_GONE_S)
    return lambda: None


def _pause(stack: FaultStack, fault: Fault) -> End:
    (process, *_) = _victims(stack, fault.victim)
    _signal(process, signal.SIGSTOP)
    return lambda: _signal(process, signal.SIGCONT)


def _away(stack: FaultStack, fault: Fault) -> End:
    hold = hold_file(stack.folder, fault.victim)
    hold.parent.mkdir(exist_ok=True)
    hold.touch()
    _kill(stack, fault)
    return hold.unlink


def _cut(stack: FaultStack, fault: Fault) -> End:
    client, _, server = fault.victim.partition(" to ")
    proxy = stack.proxies[server]
    _victims(stack, client)

    def ports() -> set[int]:
        found = set()
        for process in stack.processes(client):
            with suppress(psutil.Error):
                found |= {
                    connection.laddr.port
                    for connection in process.net_connections("tcp")
                    if connection.raddr and connection.raddr.port == proxy.port
                }
        return found

    proxy.cut(ports)
    return proxy.mend


def _slow_disk(stack: FaultStack, _: Fault) -> End:
    """Keep the disk busy with writers that wait for it, as a slow one would make everyone wait."""
    done = threading.Event()
    files = [stack.folder / f"busy-{number}" for number in range(_WRITERS)]

    def work(path: Path) -> None:
        block = os.urandom(_WRITE_BYTES)
        with path.open("wb", buffering=0) as file:
            while not done.is_set():
                file.seek(0)
                file.write(block)
                os.fsync(file.fileno())

    writers = [threading.Thread(target=work, args=(path,)) for path in files]
    for writer in writers:
        writer.start()

    def end() -> None:
        done.set()
        for writer, path in zip(writers, files, strict=True):
            writer.join()
            path.unlink()

    return end


def _full_disk(stack: FaultStack, _: Fault) -> End:
    """Fill the disk, and keep it full whatever is deleted meanwhile."""
    done = threading.Event()
    path = stack.folder / "filler"

    def work() -> None:
        with path.open("wb") as file:
            size = 0
            while not done.wait(_LOOK_S):
                status = os.statvfs(stack.folder)
                while free := status.f_bavail * status.f_frsize // 2:
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), size, free)
                        size += free
                    if os.statvfs(stack.folder).f_bavail == status.f_bavail:
                        break
                    status = os.statvfs(stack.folder)

    filler = threading.Thread(target=work)
    filler.start()

    def end() -> None:
        done.set()
        filler.join()
        path.unlink()

    return end


def _clock(offset: str) -> Callable[[FaultStack, Fault], End]:
    def begin_step(stack: FaultStack, fault: Fault) -> End:
        clock = clock_file(stack.folder, fault.victim)
        _set(clock, offset)
        return lambda: _set(clock, "+0")

    return begin_step


def _set(clock: Path, offset: str) -> None:
    draft = clock.with_suffix(".new")
    draft.write_text(f"{offset}\n")
    draft.replace(clock)


def _restart(stack: FaultStack, _: Fault) -> End:
    stack.down()
    return stack.up


def _power_cut(stack: FaultStack, _: Fault) -> End:
    stack.kill_everything()
    return stack.up


_KINDS: Final[dict[str, Callable[[FaultStack, Fault], End]]] = {
    "kill": _kill,
    "pause": _pause,
    "away": _away,
    "cut": _cut,
    "slow disk": _slow_disk,
    "full disk": _full_disk,
    "clock back": _clock(_HOUR_BACK),
    "clock ahead": _clock(_400_DAYS_AHEAD),
    "restart": _restart,
    "power cut": _power_cut,
}
