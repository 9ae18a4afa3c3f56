"""The yardstick's loops on a real broker, in turns as the benchmark runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import yardstick
from benchmarks.own_stack import Broker
from benchmarks.yardstick import Load, Loop
from tests.support.builders import a_registry, a_value

pytestmark = pytest.mark.service


def test_each_loop_answers_every_record_of_a_backlog(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row says how fast, and whose processor time it took."""
    monkeypatch.setattr(yardstick, "_WARM_UP_S", 1)
    records = [
        (b"c%d" % (number % 50), a_value(event_id=f"e{number}", entity_id=f"c{number % 50}"))
        for number in range(1500)
    ]
    load = Load(records[:500], {}, records[500:])
    registry = a_registry(tmp_path / "models")
    # The session's broker is a child of ours, as the loops are: its CPU time is left out.
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    broker = Broker(kafka, tmp_path, gone.pid)
    for what in ("plain", "echo"):
        system = Loop(what, "here", registry)
        (row,) = yardstick._turn(
            system, load, broker, name=f"yardstick-{what}", round_=1, console=Console(quiet=True)
        )
        assert (row["what"], row["rev"], row["scenario"], row["round"]) == (
            what,
            "here",
            "backlog",
            1,
        )
        assert row["out_per_s"] > 0
        assert set(row["cpu_s"]) == {what, "total"}
        assert row["p50_ms"] is row["p99_ms"] is None
