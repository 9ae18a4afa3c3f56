"""The record of what runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import state
from devstack.process import Identity
from devstack.state import Phase, ServiceRecord, ServiceState, StackRecord


def a_record() -> StackRecord:
    return StackRecord(
        supervisor=Identity.of(os.getpid()),
        phase=Phase.RUNNING,
        started_ms=1,
        services={
            "mail": ServiceRecord(ServiceState.READY, identity=Identity.of(os.getpid())),
            "topics": ServiceRecord(ServiceState.DONE, stage=0),
        },
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    state.write(tmp_path, a_record())
    assert state.read(tmp_path) == a_record()


def test_there_is_no_record_where_nothing_ran(tmp_path: Path) -> None:
    assert state.read(tmp_path) is None


def test_a_stack_is_healthy_when_all_is_ready_or_done() -> None:
    record = a_record()
    assert record.is_healthy()
    record.services["mail"].state = ServiceState.UNREADY
    assert not record.is_healthy()


def test_a_later_process_with_the_same_pid_is_another_process() -> None:
    """A recorded pid must never make us stop a stranger."""
    ours = Identity.of(os.getpid())
    assert ours is not None
    assert ours.is_alive()
    assert not Identity(ours.pid, ours.born + "1").is_alive()


def test_an_ended_process_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity.of(process.pid)
    assert identity is not None
    assert identity.is_alive()
    process.kill()
    process.communicate()
    assert not identity.is_alive()


def test_only_one_process_holds_a_lock(tmp_path: Path) -> None:
    """The second must learn who holds it, and get it once the first has ended."""
    lock = tmp_path / "lock"
    script = f"from devstack import state; from pathlib import Path\nwith state.exclusive(Path({str(lock)!r})): print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(state.LockedError, match=str(holder.pid)), state.exclusive(lock):
        pass
    holder.kill()
    holder.communicate()
    with state.exclusive(lock, timeout_s=5):
        pass
