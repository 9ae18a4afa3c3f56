"""Disorder on the way to Kafka, and the world's clock."""

from __future__ import annotations

import numpy as np
import pytest

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import decode
from producer.arrivals import MAX_LATE_MS, WHOLE, ArrivalSchedule, Disorder, deliver, written
from producer.records import columns, rows
from producer.service import clock_of
from producer.simulation import Process, SimulationPlan, World
from producer.stream import MAX_BEHIND_MS

HOUR = 20_700 * 24 + 5
SOME = Disorder(out_of_order=0.2, late=0.1, duplicate=0.15, malformed=0.05)


@pytest.fixture
def process(world: World) -> Process:
    return Process(world, 5, SimulationPlan(customers=20_000))


def test_without_disorder_everything_is_sent_at_its_time(process: Process) -> None:
    told = process.hours(HOUR, HOUR + 1)
    sent = ArrivalSchedule(process.hours, process.draws, Disorder()).hour(HOUR)
    assert sent.events.tobytes() == told.events.tobytes()
    assert (sent.sent_ms == told.events["time_ms"]).all()
    assert not sent.repeated.any()


def test_shares_are_held(process: Process) -> None:
    told = process.hours(HOUR, HOUR + 2)
    sent = deliver(process.draws, told, SOME)
    first = sent.part(~sent.repeated)
    delay_ms = first.sent_ms - first.events["time_ms"]
    assert sent.repeated.sum() / len(first) == pytest.approx(SOME.duplicate, abs=0.03)
    assert (delay_ms > 60_000).mean() == pytest.approx(SOME.late, abs=0.03)
    assert ((delay_ms > 0) & (delay_ms <= 60_000)).mean() == pytest.approx(0.18, abs=0.03)
    assert (first.form != WHOLE).mean() == pytest.approx(SOME.malformed, abs=0.02)
    assert (np.diff(sent.sent_ms) >= 0).all()
    assert (np.diff(first.events["time_ms"]) < 0).any()
    assert sent.sent_ms.max() - told.events["time_ms"].max() <= MAX_LATE_MS


def test_any_hour_is_sent_the_same_alone_and_in_its_time(process: Process, world: World) -> None:
    """So that a restart goes on exactly, late records of the hours before it included."""
    running = ArrivalSchedule(process.hours, process.draws, SOME)
    for hour in range(HOUR, HOUR + 3):
        inside = running.hour(hour)
    fresh = Process(world, 5, SimulationPlan(customers=20_000))
    alone = ArrivalSchedule(fresh.hours, fresh.draws, SOME).hour(HOUR + 2)
    assert alone.events.tobytes() == inside.events.tobytes()
    assert alone.sent_ms.tobytes() == inside.sent_ms.tobytes()
    assert (alone.events["time_ms"] < (HOUR + 2) * 3_600_000).any()


def test_every_malformed_record_is_refused_by_the_contract(process: Process) -> None:
    told = process.hours(HOUR, HOUR + 1)
    sent = deliver(process.draws, told, Disorder(malformed=1.0))
    for row, form in zip(
        rows(columns(process.population, sent.events)), sent.form.tolist(), strict=True
    ):
        with pytest.raises(InvalidMessage):
            decode(written(row, form))
    assert len(np.unique(sent.form)) == 8


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="late: expected a share"):
        Disorder(late=1.1)


def test_the_worlds_clock_goes_at_its_speed_and_never_back() -> None:
    now = [1_000_000_000]

    def real() -> int:
        return now[0]

    assert clock_of(0, 1.0, real) is real
    assert clock_of(now[0] + MAX_BEHIND_MS, 1.0, real) is real
    fast = clock_of(0, 60.0, real)
    ahead = clock_of(now[0] + 10 * MAX_BEHIND_MS, 1.0, real)
    now[0] += 1_000
    assert fast() == 1_000_000_000 + 60_000
    assert ahead() == 1_000_000_000 + 10 * MAX_BEHIND_MS + 1_000
