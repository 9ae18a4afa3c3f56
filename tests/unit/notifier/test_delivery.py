"""Delivery goes on until the other side has every message, or refused it for good."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from fraud.contracts.times import DAY_MS
from notifier.channels import (
    MessageRefused,
    NotWritten,
    ServerUnavailable,
    TryLater,
    Unanswered,
    Unreachable,
)
from notifier.delivery import Delivery, Housekeeping, back_off_s
from notifier.planning import MessageKind
from tests.support.alerts import TEAM, AlertPipeline, FakeTransport, a_policy, an_alert


def a_delivery(pipeline: AlertPipeline, transport: Any) -> Delivery:
    return Delivery(
        pipeline.ledger,
        transport,
        [pipeline.destination],
        stop=pipeline.stop,
        wake=pipeline.wake,
        clock=lambda: pipeline.now_ms,
        rng=random.Random(1),
    )


@pytest.fixture
def pipeline(tmp_path: Path) -> AlertPipeline:
    return AlertPipeline(tmp_path)


def account(pipeline: AlertPipeline) -> tuple[int, int]:
    found = pipeline.ledger.accounts().get(TEAM)
    return (0, 0) if found is None else (found.queue, found.failed)


def test_pending_alerts_go_out_in_order_and_once(pipeline: AlertPipeline) -> None:
    """Then there is nothing more to send, and the session ends."""
    pipeline.record(1, 2, 3)
    transport = FakeTransport()
    delivery = a_delivery(pipeline, transport)
    assert delivery.deliver() == 0
    assert delivery.deliver() > 0
    assert transport.events == ["evt-1", "evt-2", "evt-3"]
    assert transport.rests == 1
    assert account(pipeline) == (0, 0)


def test_a_flood_becomes_messages_digests_and_a_summary(tmp_path: Path) -> None:
    """2,000 alerts in a minute: each is told once, in few messages."""
    pipeline = AlertPipeline(tmp_path, a_policy(limit_per_hour=50))
    transport = FakeTransport()
    delivery = a_delivery(pipeline, transport)
    for at in range(0, 2000, 50):
        pipeline.now_ms += 1500
        pipeline.record_all([an_alert(n, f"entity-{n % 400}") for n in range(at, at + 50)])
        delivery.deliver()
    for _ in range(100):
        pipeline.now_ms += 10_000
        delivery.deliver()
    assert sorted(transport.events) == sorted(f"evt-{number}" for number in range(2000))
    kinds = [kind for kind, _ in transport.taken]
    assert kinds.count(MessageKind.ALERT) + kinds.count(MessageKind.DIGEST) == 50
    assert 1 <= kinds.count(MessageKind.SUMMARY) <= 4
    assert len(set(transport.ids)) == len(transport.ids)
    assert account(pipeline) == (0, 0)


def test_an_outage_keeps_every_alert(pipeline: AlertPipeline) -> None:
    """The waits grow, and one success ends the alarm."""
    pipeline.record(1, 2)
    transport = FakeTransport(*[Unreachable("ConnectionRefusedError")] * 4)
    delivery = a_delivery(pipeline, transport)
    waits = []
    for _ in range(4):
        delivery.deliver()
        waits.append(delivery._retry_ms - pipeline.now_ms)
        assert delivery.deliver() > 0, "not tried before the wait is over"
        pipeline.now_ms = delivery._retry_ms
    assert transport.answers == []
    assert account(pipeline) == (2, 0)
    assert delivery.problem == "mail server unavailable (ConnectionRefusedError)"
    assert waits[3] > waits[0] > 0
    assert delivery.deliver() == 0
    assert transport.events == ["evt-1", "evt-2"]
    assert delivery.problem is None


def test_a_restart_goes_on_waiting(pipeline: AlertPipeline) -> None:
    """How often it failed is known, too."""
    pipeline.record(1)
    down = FakeTransport(ServerUnavailable("x"), ServerUnavailable("x"))
    first = a_delivery(pipeline, down)
    first.deliver()
    pipeline.now_ms = first._retry_ms
    first.deliver()
    transport = FakeTransport()
    second = a_delivery(pipeline, transport)
    assert second.deliver() > 0
    assert transport.events == []
    assert second._failures == 2
    pipeline.now_ms = second._retry_ms
    second.deliver()
    assert transport.events == ["evt-1"]


def test_a_server_that_names_a_time_is_obeyed(pipeline: AlertPipeline) -> None:
    """Retry-After, when it is longer than our own wait."""
    pipeline.record(1)
    delivery = a_delivery(pipeline, FakeTransport(ServerUnavailable("429", 120.0)))
    delivery.deliver()
    assert delivery._retry_ms == pipeline.now_ms + 120_000


def test_a_refused_message_does_not_hold_up_the_others(pipeline: AlertPipeline) -> None:
    """It is a dead letter and not tried again."""
    pipeline.record(1, 2)
    transport = FakeTransport(MessageRefused("550"))
    delivery = a_delivery(pipeline, transport)
    delivery.deliver()
    pipeline.now_ms = DAY_MS
    delivery.deliver()
    assert transport.events == ["evt-2"]
    assert account(pipeline) == (0, 1)


def test_a_postponed_message_goes_out_later(pipeline: AlertPipeline) -> None:
    """A temporary refusal of one lets the others pass, and comes again by itself."""
    pipeline.record(1, 2)
    transport = FakeTransport(TryLater("451"))
    delivery = a_delivery(pipeline, transport)
    delivery.deliver()
    delivery.deliver()
    assert transport.events == ["evt-2"]
    pipeline.now_ms += 1000
    delivery.deliver()
    assert transport.events == ["evt-2", "evt-1"]


def test_a_message_that_is_put_off_for_days_is_given_up(pipeline: AlertPipeline) -> None:
    """As a dead letter, while the server takes others."""
    pipeline.record(1)
    delivery = a_delivery(pipeline, FakeTransport(*[TryLater("451")] * 3))
    delivery.deliver()
    pipeline.now_ms += 6 * DAY_MS
    delivery.deliver()
    (letter,) = pipeline.ledger.dead_letters()
    assert letter.problem == "451 for too long"


def hours(pipeline: AlertPipeline, delivery: Delivery, count: float, step_ms: int = 5_000) -> None:
    """Advance the time, with deliveries at every step."""
    end_ms = pipeline.now_ms + int(count * 3_600_000)
    while pipeline.now_ms < end_ms:
        pipeline.now_ms += step_ms
        delivery.deliver()


class Breaking(FakeTransport):
    """Breaks off at some events, and takes the others."""

    def __init__(self, verdict: ServerUnavailable, *events: str) -> None:
        super().__init__()
        self.verdict = verdict
        self.breaking = set(events)
        self.tries: dict[str, list[int]] = {}

    def send(self, message: Any, destination: Any, *, now_ms: int) -> None:
        event = message.alerts[0].event_id
        self.tries.setdefault(event, []).append(now_ms)
        if event in self.breaking:
            raise self.verdict
        super().send(message, destination, now_ms=now_ms)


def test_a_message_at_which_the_server_breaks_off_does_not_hold_up_the_others(
    pipeline: AlertPipeline,
) -> None:
    """After three tries another is tried; it is put off for ever longer, and in the end given up."""
    transport = Breaking(ServerUnavailable("SMTPServerDisconnected"), "evt-1", "evt-2")
    delivery = a_delivery(pipeline, transport)
    pipeline.record(1, 2, 3, 4)
    hours(pipeline, delivery, 0.05)
    assert transport.events == ["evt-3", "evt-4"]
    assert account(pipeline) == (2, 0)
    assert delivery.problem is None
    hours(pipeline, delivery, 24, step_ms=600_000)
    assert delivery.problem is None, "an idle server is not blamed"
    tries = len(transport.tries["evt-1"])
    pipeline.record(5)
    hours(pipeline, delivery, 24 * 5, step_ms=600_000)
    assert transport.events == ["evt-3", "evt-4", "evt-5"]
    assert len(transport.tries["evt-1"]) > tries
    assert account(pipeline) == (0, 2)
    assert {letter.problem for letter in pipeline.ledger.dead_letters()} == {
        "SMTPServerDisconnected for too long"
    }


def test_a_server_that_comes_back_gets_everything(pipeline: AlertPipeline) -> None:
    """However long it broke off at every message: none of them was at fault."""
    transport = Breaking(ServerUnavailable("503"), *(f"evt-{number}" for number in range(1, 6)))
    delivery = a_delivery(pipeline, transport)
    pipeline.record(1, 2, 3, 4, 5)
    hours(pipeline, delivery, 24 * 7, step_ms=900_000)
    assert account(pipeline) == (5, 0)
    assert delivery.problem == "mail server unavailable (503)"
    transport.breaking.clear()
    hours(pipeline, delivery, 0.02)
    assert sorted(transport.events) == [f"evt-{number}" for number in range(1, 6)]
    assert delivery.problem is None


def test_a_message_without_an_answer_is_tried_a_few_times(pipeline: AlertPipeline) -> None:
    """Each may be one more copy of it; others pass all the while."""
    transport = Breaking(Unanswered("SMTPServerDisconnected"), "evt-1")
    delivery = a_delivery(pipeline, transport)
    pipeline.record(1, 2)
    hours(pipeline, delivery, 0.002, step_ms=1_000)
    assert transport.events == ["evt-2"]
    hours(pipeline, delivery, 24 * 8, step_ms=900_000)
    assert len(transport.tries["evt-1"]) <= 20
    (letter,) = pipeline.ledger.dead_letters()
    assert letter.problem == "SMTPServerDisconnected for too long"


def test_a_message_that_cannot_be_written_is_a_dead_letter(pipeline: AlertPipeline) -> None:
    """The others go out, and it says nothing of the server."""
    pipeline.record(1, 2, 3)
    transport = FakeTransport(
        Unreachable("x"), NotWritten("not written: KeyError"), Unreachable("x")
    )
    delivery = a_delivery(pipeline, transport)
    delivery.deliver()
    pipeline.now_ms = delivery._retry_ms
    delivery.deliver()
    assert delivery._failures == 2
    assert account(pipeline) == (2, 1)
    pipeline.now_ms = delivery._retry_ms
    delivery.deliver()
    assert transport.events == ["evt-2", "evt-3"]


def test_stop_is_obeyed_between_two_messages(pipeline: AlertPipeline) -> None:
    """What was not sent stays for the next start."""
    pipeline.record(1, 2, 3)

    class Stopping(FakeTransport):
        def send(self, *arguments: Any, **more: Any) -> None:
            pipeline.stop.set()
            super().send(*arguments, **more)

    transport = Stopping()
    a_delivery(pipeline, transport).run()
    assert transport.events == ["evt-1"]
    assert account(pipeline) == (2, 0)


def test_what_waits_and_is_not_held_back_is_overdue(tmp_path: Path) -> None:
    """Whether it is one alert or many; one that waits for its digest is not, until that is due."""
    pipeline = AlertPipeline(tmp_path, a_policy())
    look = Housekeeping(
        pipeline.ledger,
        {TEAM: pipeline.destination},
        keep_days=400,
        stop=threading.Event(),
        clock=lambda: pipeline.now_ms,
    ).look

    def overdue_s() -> float | None:
        look()
        return REGISTRY.get_sample_value("fraudstream_alerts_overdue_seconds", {"channel": "email"})

    assert overdue_s() == 0
    pipeline.record(1, entity="a")
    pipeline.now_ms += 700_000
    assert overdue_s() == 700
    down = FakeTransport(*[ServerUnavailable("ConnectionRefusedError")] * 2)
    delivery = a_delivery(pipeline, down)
    delivery.deliver()
    pipeline.now_ms = delivery._retry_ms
    delivery.deliver()
    pipeline.now_ms += 60_000
    assert (overdue_s() or 0) >= 60
    pipeline.now_ms = delivery._retry_ms
    delivery.deliver()
    assert down.events == ["evt-1"]
    pipeline.record(2, entity="a")
    delivery.deliver()
    assert account(pipeline) == (1, 0)
    assert overdue_s() == 0
    pipeline.now_ms += 2 * DAY_MS
    assert (overdue_s() or 0) > DAY_MS / 1000


def test_told_alerts_are_forgotten_after_their_days(pipeline: AlertPipeline) -> None:
    """And dead letters, too: the ledger does not grow for ever."""
    pipeline.record(1, 2)
    a_delivery(pipeline, FakeTransport(MessageRefused("550"))).deliver()
    pipeline.now_ms += 401 * DAY_MS
    Housekeeping(
        pipeline.ledger,
        {TEAM: pipeline.destination},
        keep_days=400,
        stop=threading.Event(),
        clock=lambda: pipeline.now_ms,
    ).look()
    assert pipeline.ledger.totals() == {}
    assert pipeline.ledger.dead_letters() == []


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_waits_are_bounded(tries: int, seed: int) -> None:
    """Never none, never more than the bound."""
    assert 0.25 <= back_off_s(tries, longest_s=30.0, rng=random.Random(seed)) <= 30.0
