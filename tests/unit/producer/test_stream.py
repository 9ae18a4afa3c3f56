"""The stream driver, on a clock and a Kafka of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fraud.contracts.label import Label
from fraud.contracts.transaction import event_time_to_ms
from producer.adaptation import read_log
from producer.arrivals import Disorder
from producer.injection_log import InjectionLog
from producer.injections import Injection
from producer.progress import DueLabel, StreamProgress
from producer.records import columns, event_id_texts, rows
from producer.simulation import Process, SimulationPlan, World, simulate
from producer.stream import MAX_BEHIND_MS, LiveStream
from tests.support.moments import MemoryWriter, Moment

START_MS = 20_700 * 86_400_000 + 59 * 60_000
PLAN = SimulationPlan(customers=200, rate=3.0, prevalence=0.02)


def tell(
    world: World, folder: Path, start_ms: int, seconds: int, plan: SimulationPlan = PLAN
) -> MemoryWriter:
    moment = Moment(start_ms, start_ms + seconds * 1000)
    writer = MemoryWriter(moment)
    with StreamProgress(folder / "producer.db") as progress:
        LiveStream(
            Process(world, 7, plan), "w", writer, progress, folder / "truth",
            transactions="tx", labels="lb", clock=moment.clock, stop=moment,
        ).run()  # fmt: skip
    return writer


def test_each_transaction_is_told_at_its_own_time(world: World, tmp_path: Path) -> None:
    """Over the turn of the hour, with event_time = now, keyed by entity."""
    writer = tell(world, tmp_path, START_MS, 100)
    parts = simulate(world, 7, PLAN, START_MS, START_MS + 99_000)
    expected = [event_id for part in parts for event_id in event_id_texts(part.events)]
    assert [value["event_id"] for value in writer.values("tx")][: len(expected)] == expected
    assert len(expected) > 200
    for _, key, value, at_ms in writer.sent:
        record = orjson.loads(value)
        assert key == record["entity_id"].encode()
        assert 0 <= at_ms - event_time_to_ms(record["event_time"]) <= 2


def test_a_restart_repeats_nothing(world: World, tmp_path: Path) -> None:
    """Neither at once, nor when the clock has been set back, nor with another rate."""
    first = tell(world, tmp_path, START_MS, 60)
    again = tell(world, tmp_path, START_MS + 60_000, 60)
    set_back = tell(world, tmp_path, START_MS + 30_000, 120)
    faster = tell(world, tmp_path, START_MS + 150_000, 30, SimulationPlan(customers=200, rate=6.0))
    ids = [v["event_id"] for w in (first, again, set_back, faster) for v in w.values("tx")]
    assert len(ids) == len(set(ids))
    assert min(len(w.sent) for w in (first, again, set_back, faster)) > 20


def test_a_stream_far_behind_skips_to_the_present(world: World, tmp_path: Path) -> None:
    """The machine slept: what was missed is not told in a rush."""
    moment = Moment(START_MS, START_MS + 10 * MAX_BEHIND_MS)
    writer = MemoryWriter(moment)
    slept = False

    def clock() -> int:
        nonlocal slept
        if not slept and len(writer.sent) == 10:
            slept = True
            moment.now_ms += 3 * MAX_BEHIND_MS
            moment.stop_ms = moment.now_ms + 60_000
        return moment.now_ms

    with StreamProgress(tmp_path / "producer.db") as progress:
        LiveStream(
            Process(world, 7, PLAN), "w", writer, progress, tmp_path / "truth",
            transactions="tx", labels="lb", clock=clock, stop=moment,
        ).run()  # fmt: skip
    late = [
        at - event_time_to_ms(orjson.loads(value)["event_time"]) for _, _, value, at in writer.sent
    ]
    assert len(writer.sent) > 100
    # Only the chunk that was under way when it fell asleep is late.
    assert sum(ms > 1_000 for ms in late) <= 12


def test_the_truth_is_kept_aside_and_never_sent(world: World, tmp_path: Path) -> None:
    writer = tell(world, tmp_path, START_MS, 150)
    truth = [
        orjson.loads(line)
        for path in sorted((tmp_path / "truth").iterdir())
        for line in path.read_bytes().splitlines()
    ]
    sent = {value["event_id"] for value in writer.values("tx")}
    assert truth
    assert {line["event_id"] for line in truth} <= sent
    assert all(line["campaign"] for line in truth)
    assert not any("campaign" in value or "is_fraud" in value for value in writer.values("tx"))


def test_labels_are_told_when_they_become_known(world: World, tmp_path: Path) -> None:
    """Labels that are due wait across restarts, and each is told once Kafka is there."""
    first = tell(world, tmp_path, START_MS, 60)
    assert first.values("lb") == []
    later = tell(world, tmp_path, START_MS + 121 * 86_400_000, 30)
    labels = later.values("lb")
    assert {label["event_id"] for label in labels} >= {v["event_id"] for v in first.values("tx")}
    for label in labels:
        Label.model_validate(label)
    assert len({label["event_id"] for label in labels}) == len(labels)


def test_a_label_is_due_until_kafka_has_it(tmp_path: Path) -> None:
    label = DueLabel(1_000, b"x" * 16, 1, 1)
    with StreamProgress(tmp_path / "producer.db") as progress:
        progress.advance("w", 5, [label])
        assert progress.due(999) == []
    with StreamProgress(tmp_path / "producer.db") as progress:
        assert progress.due(1_000) == [label]
        progress.published([label])
        assert progress.due(1_000) == []
        assert progress.sent_until_ms("w") == 5
        assert progress.sent_until_ms("another") == 0


@pytest.mark.parametrize("stop_after", [0, 1, 7])
def test_a_stop_is_obeyed_at_once(world: World, tmp_path: Path, stop_after: int) -> None:
    """Nothing is sent after the stop, even in the middle of a chunk."""
    moment = Moment(START_MS, START_MS + 10**9)
    writer = MemoryWriter(moment)
    if stop_after == 0:
        moment.set()

    def clock() -> int:
        if len(writer.sent) == stop_after:
            moment.set()
        return moment.now_ms

    with StreamProgress(tmp_path / "producer.db") as progress:
        LiveStream(
            Process(world, 7, PLAN), "w", writer, progress, tmp_path / "truth",
            transactions="tx", labels="lb", clock=clock, stop=moment,
        ).run()  # fmt: skip
    assert len(writer.sent) == stop_after


@pytest.mark.slow
def test_a_run_with_injections_is_told_again_by_its_log(world: World, tmp_path: Path) -> None:
    """A campaign is heard in the middle of an hour; seed, plan and log give the same records."""
    moment = Moment(START_MS - 600_000, START_MS + 300_000)
    writer = MemoryWriter(moment)
    log = InjectionLog(tmp_path / "injections.jsonl")
    began = moment.now_ms
    heard = False

    def clock() -> int:
        nonlocal heard
        if not heard and moment.now_ms > began + 60_000:
            heard = True
            log.hear(Injection("campaign", "card_testing", "c", 20.0, began + 30_000, 10))
            log.hear(Injection("drift", "inflation", "d", 1.0, began + 30_000, 5))
        return moment.now_ms

    with StreamProgress(tmp_path / "producer.db") as progress:
        LiveStream(
            Process(world, 7, PLAN), "w", writer, progress, tmp_path / "truth",
            transactions="tx", labels="lb", clock=clock, stop=moment, injections=log,
        ).run()  # fmt: skip
    plan = replace(PLAN, injections=read_log(tmp_path / "injections.jsonl").injections)
    population = Process(world, 7, plan).population
    again = [
        row for part in simulate(world, 7, plan, began, moment.stop_ms - 1_000) for row in rows(columns(population, part.events))
    ]  # fmt: skip
    assert writer.values("tx")[: len(again)] == again
    assert len(plan.injections) == 2
    calm = sum(len(part.events) for part in simulate(world, 7, PLAN, began, moment.stop_ms - 1_000))
    assert len(again) > calm + 50


def test_a_disorderly_stream_is_restarted_exactly(world: World, tmp_path: Path) -> None:
    """Late records of before the restart still come, and nothing but its duplicates comes twice."""
    disorder = Disorder(out_of_order=0.2, late=0.3, duplicate=0.1)
    sent: list[str] = []
    for start_ms, seconds in ((START_MS, 100), (START_MS + 100_000, 100)):
        moment = Moment(start_ms, start_ms + seconds * 1000)
        writer = MemoryWriter(moment)
        with StreamProgress(tmp_path / "producer.db") as progress:
            LiveStream(
                Process(world, 7, PLAN), "w", writer, progress, tmp_path / "truth",
                transactions="tx", labels="lb", clock=moment.clock, stop=moment, disorder=disorder,
            ).run()  # fmt: skip
        sent += [value["event_id"] for value in writer.values("tx")]
        late = [
            at - event_time_to_ms(orjson.loads(value)["event_time"])
            for _, _, value, at in writer.sent
        ]
        assert max(late) > 300_000
    assert 0 < len(sent) - len(set(sent)) < 0.2 * len(sent)


def test_a_fast_clock_tells_more_time(world: World, tmp_path: Path) -> None:
    """At 60 times the speed a minute is told in a second."""
    moment = Moment(START_MS, START_MS + 3_000)
    writer = MemoryWriter(moment)

    def fast() -> int:
        return START_MS + (moment.now_ms - START_MS) * 60

    with StreamProgress(tmp_path / "producer.db") as progress:
        LiveStream(
            Process(world, 7, PLAN), "w", writer, progress, tmp_path / "truth",
            transactions="tx", labels="lb", clock=fast, stop=moment, speed=60.0,
        ).run()  # fmt: skip
    times = [event_time_to_ms(value["event_time"]) for value in writer.values("tx")]
    assert times[-1] - times[0] > 120_000
