"""Work in a thread ends with the process, and its failure ends the process."""

from __future__ import annotations

from threading import Event

import pytest

from fraud.runtime.background import Background


def test_leaving_stops_the_work_and_waits_for_it() -> None:
    """After the context, the work is over."""
    stop, over = Event(), Event()

    def work() -> None:
        stop.wait(30)
        over.set()

    with Background("work", work, stop):
        assert not over.is_set()
    assert over.is_set()


def test_a_failure_stops_the_main_loop_and_rises() -> None:
    """A thread that died must not leave a process behind that looks alive."""
    stop = Event()

    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Background("work", work, stop):
        assert stop.wait(30)
