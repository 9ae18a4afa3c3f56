"""The supervisor, on small real processes: order, restarts, giving up, shutdown."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack import state
from devstack.process import Identity, find_marked, wait_until
from devstack.service import Service, not_asked
from devstack.state import Phase, ServiceState, StackRecord
from devstack.supervisor import StackSupervisor, set_aside

DEADLINE_S = 30

# Says its name when it starts and when it is asked to stop.
SERVER = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(word):
    with (folder / "events").open("a") as events: events.write(f"{word} {name}\\n")
def stop(*_):
    note("stop"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("start"); (folder / f"{name}.up").touch()
while True: time.sleep(60)
"""


def a_server(name: str, folder: Path, needs: tuple[str, ...] = (), stage: int = 2) -> Service:
    def prepare() -> None:
        (folder / f"{name}.up").unlink(missing_ok=True)

    return Service(
        name=name,
        command=(sys.executable, "-c", SERVER, name, str(folder)),
        ready=lambda: None if (folder / f"{name}.up").exists() else "not up yet",
        env={"PATH": os.environ["PATH"], "FRAUDSTREAM_STACK": str(folder)},
        needs=needs,
        prepare=prepare,
        stage=stage,
    )


def a_task(name: str, script: str, needs: tuple[str, ...] = ()) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-c", script),
        ready=not_asked,
        env={"PATH": os.environ["PATH"]},
        needs=needs,
        one_shot=True,
    )


def supervise(
    folder: Path, services: list[Service], meanwhile: Callable[[], None]
) -> tuple[int, StackRecord]:
    """Run a supervisor here, and beside it `meanwhile`, after which it is asked to stop."""

    async def run() -> int:
        supervisor = StackSupervisor(services, folder, folder / "logs", log_file_mb=1)
        running = asyncio.create_task(supervisor.run())
        try:
            await asyncio.to_thread(meanwhile)
        finally:
            supervisor.stop()
            code = await running
        return code

    code = asyncio.run(run())
    record = state.read(folder)
    assert record is not None
    return code, record


def wait_for(folder: Path, condition: Callable[[StackRecord], bool]) -> StackRecord:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        record = state.read(folder)
        if record is not None and condition(record):
            return record
        assert time.monotonic() < deadline, record
        time.sleep(0.02)


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().splitlines()


def test_a_full_disk_ends_no_service_and_the_state_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack goes on; the other commands see what is true once there is room again."""
    is_full = False
    write = state.write

    def write_if_there_is_room(folder: Path, record: StackRecord) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, record)

    monkeypatch.setattr(state, "write", write_if_there_is_room)
    monkeypatch.setattr("devstack.supervisor._HOUSEKEEPING_S", 0.1)

    def fill_and_kill() -> None:
        nonlocal is_full
        record = wait_for(tmp_path, StackRecord.is_healthy)
        identity = record.services["app"].identity
        assert identity is not None
        is_full = True
        os.kill(identity.pid, signal.SIGKILL)
        wait_until(
            lambda: None if events(tmp_path).count("start app") == 2 else "the restart",
            DEADLINE_S,
            "app",
        )
        assert state.read(tmp_path) == record
        is_full = False
        wait_for(tmp_path, lambda now: now.is_healthy() and now.services["app"].restarts == 1)

    code, record = supervise(tmp_path, [a_server("app", tmp_path)], fill_and_kill)
    assert (code, record.phase) == (0, Phase.STOPPED)


def test_services_start_when_their_needs_are_ready_and_stop_in_stages(tmp_path: Path) -> None:
    """The broker starts first and stops last, though it is declared last."""
    services = [
        a_server("app", tmp_path, needs=("topics", "broker")),
        a_task("topics", "pass", needs=("broker",)),
        a_server("broker", tmp_path, stage=0),
    ]
    code, record = supervise(
        tmp_path, services, lambda: wait_for(tmp_path, StackRecord.is_healthy) and None
    )
    assert code == 0
    assert record.phase is Phase.STOPPED
    assert events(tmp_path) == ["start broker", "start app", "stop app", "stop broker"]
    assert record.services["topics"].state is ServiceState.DONE
    assert record.services["app"].state is ServiceState.STOPPED


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    """It must come back by itself, as another process, and the restart must be seen."""

    def kill_it() -> None:
        first = wait_for(tmp_path, StackRecord.is_healthy).services["server"].identity
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        again = wait_for(
            tmp_path, lambda record: record.services["server"].restarts == 1 and record.is_healthy()
        )
        assert again.services["server"].identity != first
        assert not first.is_alive()

    code, _ = supervise(tmp_path, [a_server("server", tmp_path)], kill_it)
    assert code == 0
    assert events(tmp_path) == ["start server", "start server", "stop server"]


def test_children_of_a_killed_service_do_not_outlive_it(tmp_path: Path) -> None:
    """A server's worker processes must be gone before the server is started again."""
    parent = (
        "import pathlib, subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    service = Service(
        name="parent",
        command=(sys.executable, "-c", parent),
        ready=lambda: None if _read(tmp_path / "child") else "no child yet",
        env={},
    )

    def kill_parent() -> None:
        first = wait_for(tmp_path, StackRecord.is_healthy).services["parent"].identity
        child = Identity.of(int((tmp_path / "child").read_text()))
        assert first is not None
        assert child is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_for(
            tmp_path, lambda record: record.services["parent"].state is ServiceState.BACKING_OFF
        )
        # The system takes a moment to end what was killed.
        wait_until(lambda: "it lives" if child.is_alive() else None, 5, "the end of the child")
        assert not child.is_alive()

    supervise(tmp_path, [service], kill_parent)


def _read(path: Path) -> str:
    """Return the content of a file, empty if it does not exist."""
    return path.read_text("utf-8") if path.exists() else ""


def test_a_service_that_never_starts_stops_the_stack_and_says_why(tmp_path: Path) -> None:
    """The failure must name the service and show the end of its log; the others must be stopped."""
    services = [
        a_server("broker", tmp_path),
        a_task("topics", "print('no such cluster'); raise SystemExit(3)", needs=("broker",)),
    ]
    code, record = supervise(
        tmp_path, services, lambda: wait_for(tmp_path, lambda one: bool(one.failure)) and None
    )
    assert code == 1
    assert "topics does not start: ended with exit code 3" in record.failure
    assert "no such cluster" in record.failure
    assert find_marked(str(tmp_path)) == []


def test_a_service_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    log = tmp_path / "logs" / "stubborn.log"
    service = Service(
        name="stubborn",
        command=(sys.executable, "-c", stubborn),
        ready=lambda: None if "up" in log.read_text() else "not up yet",
        env={},
        stop_timeout_s=0.5,
    )
    found: list[Identity | None] = []

    def note() -> None:
        found.append(wait_for(tmp_path, StackRecord.is_healthy).services["stubborn"].identity)

    supervise(tmp_path, [service], note)
    assert found[0] is not None
    assert not found[0].is_alive()


@pytest.mark.parametrize("missing", ["/no/such/program"])
def test_a_program_that_is_not_there_is_a_failure_not_a_crash(tmp_path: Path, missing: str) -> None:
    service = Service(name="ghost", command=(missing,), ready=not_asked, env={})
    code, record = supervise(
        tmp_path, [service], lambda: wait_for(tmp_path, lambda one: bool(one.failure)) and None
    )
    assert code == 1
    assert missing in record.failure


def test_a_log_that_grew_too_big_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    """The old lines must be in the file beside it, and new ones in the file itself."""
    log = tmp_path / "noisy.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n")
        set_aside(log)
        writer.write(b"new\n")
    assert (tmp_path / "noisy.log.1").read_bytes() == b"old\n"
    assert log.read_bytes() == b"new\n"
