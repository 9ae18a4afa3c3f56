"""The yardstick's arithmetic: what is compared with what, and how outputs are timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.loops import _FORTY_BYTES, LoopSettings, Plain
from benchmarks.report import percentiles
from benchmarks.stream import Timing, rate_figures, read_timing
from benchmarks.yardstick import ratio_table, ratios
from fraud.contracts.transaction import decode
from fraud.features.packing import pack
from fraud.features.replay import replay
from fraud.features.vector import vectors
from tests.support.builders import a_value


def a_row(
    what: str, rev: str, scenario: str, p50_ms: float | None, **others: Any
) -> dict[str, Any]:
    return {
        "what": what,
        "rev": rev,
        "scenario": scenario,
        "round": 1,
        "p50_ms": p50_ms,
        "p95_ms": p50_ms,
        "p99_ms": p50_ms,
        "out_per_s": 100.0,
        "cpu_s": {"broker": 1.0, "total": 4.0},
    } | others


class AMessage:
    """An output record, as much of it as is read."""

    def __init__(self, value: bytes | None, timestamp_ms: int = 0) -> None:
        self._value, self._timestamp_ms = value, timestamp_ms

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 2, self._timestamp_ms


def test_the_job_is_divided_by_each_other_system_and_rounds_are_averaged() -> None:
    rows = [
        a_row("job", "new", "500", 50),
        a_row("job", "new", "500", 200, cpu_s={"total": 16.0}),
        a_row("plain", "new", "500", 20, out_per_s=200.0),
        a_row("echo", "new", "500", 5),
        a_row("job", "old", "500", 200),
        a_row("plain", "new", "backlog", None),
        a_row("job", "new", "backlog", None, out_per_s=50.0),
    ]
    found = {(one["ratio"], one["scenario"]): one for one in ratios(rows, "new")}
    assert list(found) == [
        ("job/plain", "500"),
        ("job/plain", "backlog"),
        ("job/echo", "500"),
        ("job new/job old", "500"),
    ]
    plain = found["job/plain", "500"]
    three = [plain["p50_ms"], plain["out_per_s"], plain["cpu_s"]]
    assert three == pytest.approx([5, 0.5, 2])
    assert found["job/echo", "500"]["p99_ms"] == pytest.approx(20)
    assert found["job new/job old", "500"]["p50_ms"] == pytest.approx(0.5)
    assert found["job/plain", "backlog"]["p50_ms"] is None
    assert found["job/plain", "backlog"]["out_per_s"] == pytest.approx(0.5)
    assert ratio_table(list(found.values())).row_count == 4


def test_a_division_by_zero_is_unknown() -> None:
    rows = [a_row("job", "r", "500", 10), a_row("echo", "r", "500", 0)]
    assert ratios(rows, "r")[0]["p50_ms"] is None


def test_an_output_is_timed_by_the_broker_and_by_when_its_input_was_due() -> None:
    """Wherever the field stands, as the job and the loops add their own after it."""
    value = b'{"event_id":"e","due_ms":1767225600000,"fd":{"score":1}}'
    assert read_timing(AMessage(value, 1767225600042)) == Timing(1767225600000, 1767225600042)  # type: ignore[arg-type]
    assert read_timing(AMessage(b'{"event_id":"e"}')) is None  # type: ignore[arg-type]
    assert read_timing(AMessage(None)) is None  # type: ignore[arg-type]


def test_the_first_seconds_at_a_rate_are_left_out() -> None:
    slow = [Timing(ms, ms + 900) for ms in range(0, 5000, 10)]
    quick = [Timing(ms, ms + 30) for ms in range(5000, 15_000, 10)]
    assert rate_figures([*slow, *quick], 100)["p99_ms"] == 30


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (200, 100, 198)]
)
def test_percentiles_are_of_nearest_rank(count: int, p50: int, p99: int) -> None:
    found = percentiles(range(count, 0, -1))
    assert (found["p50_ms"], found["p99_ms"]) == (p50, p99)


def test_the_echo_adds_forty_bytes() -> None:
    assert len(b"{}"[:-1] + _FORTY_BYTES) == len(b"{}") + 40


def test_the_plain_loop_remembers_what_the_stream_would() -> None:
    """Batch by batch, with repeats and records that lack a key."""
    transactions = [
        decode(
            a_value(
                event_id=f"e{number % 35}",
                entity_id=f"c{number % 3}",
                ip_address=None if number % 4 == 0 else f"10.0.0.{number % 2}",
            )
        )
        for number in range(50)
    ]
    plain = Plain(LoopSettings(), engine=None)  # type: ignore[arg-type]
    found = []
    for start in range(0, 50, 7):
        packed = pack(transactions[start : start + 7])
        found.append(vectors(packed, plain._remember(packed)[0])[0])
    expected = np.concatenate(list(replay(pack(transactions))))
    np.testing.assert_array_equal(np.concatenate(found), expected)
