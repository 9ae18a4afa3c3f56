"""kill -9 of each process that may lose something, two at once, under load with bad records in it.

Nobody helps: every record sent comes out, in its topic, no document is there twice, nobody is
alerted twice. `python -m benchmarks faults` does the same with more of everything.
"""

from __future__ import annotations

import pytest
from rich.console import Console

from benchmarks.faults.plan import draw
from benchmarks.faults.run import run
from benchmarks.faults.stack import FaultStack
from tests.support.stack import Stack

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]

VICTIMS = (
    "taskmanager",
    "reading worker",
    "deciding worker",
    "jobmanager",
    "kafka",
    "indexer",
    "notifier",
)
SEED = 13


def test_nothing_is_lost_or_doubled_whatever_is_killed(stack: Stack) -> None:
    """Each victim once, each time until the stack has healed by itself."""
    steps = draw(
        SEED,
        records=2000,
        faults=len(VICTIMS),
        choices=[("kill", victim) for victim in VICTIMS],
        together=1.0,
    )
    result = run(
        FaultStack(stack.state, stack.env),
        steps,
        seed=SEED,
        rate=100,
        deadline_s=180,
        console=Console(),
    )
    assert result.broken(exactly_once=False) == []
    assert result.faults.total() == len(VICTIMS)
    found = result.account
    assert found.records >= 2000
    assert found.dead_letters > 0, "bad records are to be told from good ones all the while"
    assert found.alerts > 0, "without alerts nobody could be alerted twice"
    assert found.messages == found.alerts
