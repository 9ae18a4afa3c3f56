"""Thieves that react to what is blocked, told again without any decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from producer.adaptation import Lessons, Observed, observed_line, read_log
from producer.events import CAMPAIGNS, Campaign, Events
from producer.fraud_outcomes import FraudOutcomes
from producer.injection_log import InjectionLog
from producer.injections import Injection
from producer.progress import StreamProgress
from producer.records import columns, rows
from producer.simulation import Process, SimulationPlan, World, simulate
from producer.stream import LiveStream
from tests.support.moments import MemoryWriter, Moment

START_MS = 20_700 * 86_400_000 + 12 * 3_600_000
PLAN = SimulationPlan(customers=300, rate=1.0, prevalence=0.2)
ADAPTING = Injection("drift", "adapting", "a", 1.0, START_MS, 60, START_MS, learns=True)


def told(world: World, plan: SimulationPlan, minutes: int = 60) -> Events:
    parts = simulate(world, 7, plan, START_MS, START_MS + minutes * 60_000)
    return np.concatenate([part.events for part in parts])


@pytest.fixture(scope="module")
def calm(world: World) -> Events:
    """An hour in which nobody reacts."""
    return told(world, PLAN)


def thieves(events: Events) -> Events:
    kind = events["campaign"]
    return events[(kind > 0) & (kind != Campaign.FRIENDLY_FRAUD)]


def test_thieves_settle_where_about_one_in_seven_is_blocked() -> None:
    lessons = Lessons()
    blocked = []
    for _ in range(400):
        # Everything above 0.6 of what they ask for at first is blocked.
        blocked.append(int(lessons.amount > 0.6))
        lessons.learn(blocked[-1], 1)
    assert np.mean(blocked[200:]) == pytest.approx(1 / 7, abs=0.05)
    assert 0.5 < lessons.amount < 0.7
    assert lessons.hiding > 0.5


def test_blocks_make_thieves_ask_for_less_hold_back_and_hide(world: World, calm: Events) -> None:
    before = thieves(calm)
    seen = {kind: (20, 20) for kind in CAMPAIGNS if kind}
    reacting = replace(PLAN, injections=(ADAPTING,), observed=(Observed(START_MS, seen),))
    everything = told(world, reacting)
    after = thieves(everything)
    assert 0.3 * len(before) < len(after) < 0.75 * len(before)
    ids = {
        row.tobytes(): amount for row, amount in zip(before["id"], before["amount"], strict=True)
    }
    shares = [
        amount / ids[row.tobytes()]
        for row, amount in zip(after["id"], after["amount"], strict=True)
    ]
    assert np.median(shares) == pytest.approx(0.92**20, abs=0.02)
    assert (after["contact"] != 0).mean() < 0.7 * (before["contact"] != 0).mean()
    assert (
        everything[everything["campaign"] == 0].tobytes() == calm[calm["campaign"] == 0].tobytes()
    )


def test_what_was_seen_changes_nothing_before(world: World, calm: Events) -> None:
    late = Observed(START_MS + 30 * 60_000, {"card_testing": (50, 50)})
    events = told(world, replace(PLAN, injections=(ADAPTING,), observed=(late,)))
    before = calm["time_ms"] < late.effective_ms
    assert events[events["time_ms"] < late.effective_ms].tobytes() == calm[before].tobytes()
    assert len(events) < len(calm)
    others = (calm["campaign"] != Campaign.CARD_TESTING) & ~before
    same = (events["campaign"] != Campaign.CARD_TESTING) & (events["time_ms"] >= late.effective_ms)
    assert events[same].tobytes() == calm[others].tobytes()


class Bank(MemoryWriter):
    """Blocks every payment above an amount."""

    outcomes: FraudOutcomes

    def send(self, topic, key, value, _stop, on_acknowledged=None) -> bool:
        """Keep a record, and decide."""
        if topic == "tx":
            record = orjson.loads(value)
            outcome = "block" if record["transaction_amt"] > 20 else "approve"
            self.outcomes.decided(orjson.dumps({**record, "fd": {"outcome": outcome}}))
        return super().send(topic, key, value, _stop, on_acknowledged)


@pytest.mark.slow
def test_a_run_with_reactions_is_told_again_by_its_log(
    world: World, calm: Events, tmp_path: Path
) -> None:
    """The stream hears of a drift, sees what is blocked, and thieves react within the hour."""
    moment = Moment(START_MS, START_MS + 25 * 60_000)
    bank = Bank(moment)
    bank.outcomes = FraudOutcomes({}, "out")
    path = tmp_path / "injections.jsonl"
    log = InjectionLog(path, learns=True)
    log.hear(Injection("drift", "adapting", "a", 1.0, START_MS, 10))
    with StreamProgress(tmp_path / "producer.db") as progress:
        LiveStream(
            Process(world, 7, PLAN), "w", bank, progress, tmp_path / "truth", transactions="tx",
            labels="lb", clock=moment.clock, stop=moment, injections=log, outcomes=bank.outcomes,
        ).run()  # fmt: skip
    logged = read_log(path)
    assert len(logged.observed) > 10
    plan = replace(PLAN, injections=logged.injections, observed=logged.observed)
    population = Process(world, 7, plan).population
    again = [
        row
        for part in simulate(world, 7, plan, START_MS, moment.stop_ms - 1_000)
        for row in rows(columns(population, part.events))
    ]
    assert bank.values("tx")[: len(again)] == again
    assert len(again) < np.count_nonzero(calm["time_ms"] < START_MS + 24 * 60_000)
    # What was seen survives a restart of the producer.
    assert InjectionLog(path).take_up(moment.stop_ms) == logged


def test_only_fraud_is_looked_at_and_only_while_somebody_looks(calm: Events) -> None:
    outcomes = FraudOutcomes({}, "out")
    events = calm[calm["time_ms"] < START_MS + 5 * 60_000]
    outcomes.expect(events)
    fraud = thieves(events)
    ids = [row.astype(">u4").tobytes().hex() for row in fraud["id"]]

    def decide(event_id: str) -> None:
        outcomes.decided(orjson.dumps({"event_id": event_id, "fd": {"outcome": "block"}}))

    decide(ids[0])
    assert outcomes.take() == {}
    outcomes.look(True)
    outcomes.expect(events)
    decide(ids[0])
    decide(ids[0])
    decide("another")
    outcomes.decided(None)
    outcomes.decided(b"{")
    assert outcomes.take() == {CAMPAIGNS[fraud["campaign"][0]]: (1, 1)}
    assert outcomes.take() == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"what":"observed","effective":"x","seen":{}}', "effective: expected"),
        (b'{"what":"observed","effective":"2026-09-04T00:00:00Z","seen":[]}', "seen: expected an object"),
        (b'{"what":"observed","effective":"2026-09-04T00:00:00Z","seen":{"x":[1,2]}}', "kinds of fraud, got x"),
        (b'{"what":"observed","effective":"2026-09-04T00:00:00Z","seen":{"bust_out":[3,2]}}', "seen.bust_out: expected"),
    ],
)  # fmt: skip
def test_a_wrong_observation_names_line_and_field(
    line: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(observed_line(Observed(START_MS, {"bust_out": (1, 2)})) + line)
    with pytest.raises(ValueError, match=rf"log.jsonl, line 2: .*{expected}"):
        read_log(path)
