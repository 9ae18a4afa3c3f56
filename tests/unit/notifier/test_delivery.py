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

from notifier.channels import Refused, ServerUnavailable, TryLater
from notifier.delivery import Delivery, Housekeeping, back_off_s
from notifier.planning import Kind
from tests.unit.notifier.desk import TEAM, Desk, FakeTransport, a_policy, an_alert

DAY_MS = 86_400_000


def a_delivery(desk: Desk, transport: Any) -> Delivery:
    return Delivery(
        desk.ledger,
        transport,
        [desk.destination],
        stop=desk.stop,
        wake=desk.wake,
        clock=lambda: desk.now_ms,
        rng=random.Random(1),
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def account(desk: Desk) -> tuple[int, int]:
    found = desk.ledger.accounts().get(TEAM)
    return (0, 0) if found is None else (found.queue, found.failed)


def test_pending_alerts_go_out_in_order_and_once(desk: Desk) -> None:
    """Then there is nothing more to send, and the session ends."""
    desk.record(1, 2, 3)
    transport = FakeTransport()
    delivery = a_delivery(desk, transport)
    assert delivery.deliver() == 0
    assert delivery.deliver() > 0
    assert transport.events == ["evt-1", "evt-2", "evt-3"]
    assert transport.rests == 1
    assert account(desk) == (0, 0)


def test_a_flood_becomes_messages_digests_and_a_summary(tmp_path: Path) -> None:
    """2,000 alerts in a minute: each is told once, in few messages."""
    desk = Desk(tmp_path, a_policy(limit_per_hour=50))
    transport = FakeTransport()
    delivery = a_delivery(desk, transport)
    for at in range(0, 2000, 50):
        desk.now_ms += 1500
        desk.record_all([an_alert(n, f"entity-{n % 400}") for n in range(at, at + 50)])
        delivery.deliver()
    for _ in range(100):
        desk.now_ms += 10_000
        delivery.deliver()
    assert sorted(transport.events) == sorted(f"evt-{number}" for number in range(2000))
    kinds = [kind for kind, _ in transport.taken]
    assert kinds.count(Kind.ALERT) + kinds.count(Kind.DIGEST) == 50
    assert 1 <= kinds.count(Kind.SUMMARY) <= 4
    assert len(set(transport.ids)) == len(transport.ids)
    assert account(desk) == (0, 0)


def test_an_outage_keeps_every_alert(desk: Desk) -> None:
    """The waits grow, and one success ends the alarm."""
    desk.record(1, 2)
    transport = FakeTransport(*[ServerUnavailable("ConnectionRefusedError")] * 4)
    delivery = a_delivery(desk, transport)
    waits = []
    for _ in range(4):
        delivery.deliver()
        waits.append(delivery._retry_ms - desk.now_ms)
        assert delivery.deliver() > 0, "not tried before the wait is over"
        desk.now_ms = delivery._retry_ms
    assert transport.answers == []
    assert account(desk) == (2, 0)
    assert delivery.problem == "mail server unavailable (ConnectionRefusedError)"
    assert waits[3] > waits[0] > 0
    assert delivery.deliver() == 0
    assert transport.events == ["evt-1", "evt-2"]
    assert delivery.problem is None


def test_a_restart_goes_on_waiting(desk: Desk) -> None:
    """How often it failed is known, too."""
    desk.record(1)
    down = FakeTransport(ServerUnavailable("x"), ServerUnavailable("x"))
    first = a_delivery(desk, down)
    first.deliver()
    desk.now_ms = first._retry_ms
    first.deliver()
    transport = FakeTransport()
    second = a_delivery(desk, transport)
    assert second.deliver() > 0
    assert transport.events == []
    assert second._failures == 2
    desk.now_ms = second._retry_ms
    second.deliver()
    assert transport.events == ["evt-1"]


def test_a_server_that_names_a_time_is_obeyed(desk: Desk) -> None:
    """Retry-After, when it is longer than our own wait."""
    desk.record(1)
    delivery = a_delivery(desk, FakeTransport(ServerUnavailable("429", 120.0)))
    delivery.deliver()
    assert delivery._retry_ms == desk.now_ms + 120_000


def test_a_refused_message_does_not_hold_up_the_others(desk: Desk) -> None:
    """It is a dead letter and not tried again."""
    desk.record(1, 2)
    transport = FakeTransport(Refused("550"))
    delivery = a_delivery(desk, transport)
    delivery.deliver()
    desk.now_ms = DAY_MS
    delivery.deliver()
    assert transport.events == ["evt-2"]
    assert account(desk) == (0, 1)


def test_a_postponed_message_goes_out_later(desk: Desk) -> None:
    """A temporary refusal of one lets the others pass, and comes again by itself."""
    desk.record(1, 2)
    transport = FakeTransport(TryLater("451"))
    delivery = a_delivery(desk, transport)
    delivery.deliver()
    delivery.deliver()
    assert transport.events == ["evt-2"]
    desk.now_ms += 1000
    delivery.deliver()
    assert transport.events == ["evt-2", "evt-1"]


def test_a_message_that_is_put_off_for_days_is_given_up(desk: Desk) -> None:
    """As a dead letter, while the server takes others."""
    desk.record(1)
    delivery = a_delivery(desk, FakeTransport(*[TryLater("451")] * 3))
    delivery.deliver()
    desk.now_ms += 6 * DAY_MS
    delivery.deliver()
    (letter,) = desk.ledger.dead_letters()
    assert letter.problem == "451 for too long"


def test_stop_is_obeyed_between_two_messages(desk: Desk) -> None:
    """What was not sent stays for the next start."""
    desk.record(1, 2, 3)

    class Stopping(FakeTransport):
        def send(self, *arguments: Any, **more: Any) -> None:
            desk.stop.set()
            super().send(*arguments, **more)

    transport = Stopping()
    a_delivery(desk, transport).run()
    assert transport.events == ["evt-1"]
    assert account(desk) == (2, 0)


def test_what_waits_and_is_not_held_back_is_overdue(tmp_path: Path) -> None:
    """Whether it is one alert or many; one that waits for its digest is not, until that is due."""
    desk = Desk(tmp_path, a_policy())
    look = Housekeeping(
        desk.ledger,
        {TEAM: desk.destination},
        keep_days=400,
        stop=threading.Event(),
        clock=lambda: desk.now_ms,
    ).look

    def overdue_s() -> float | None:
        look()
        return REGISTRY.get_sample_value("fraudstream_alerts_overdue_seconds", {"channel": "email"})

    assert overdue_s() == 0
    desk.record(1, entity="a")
    desk.now_ms += 700_000
    assert overdue_s() == 700
    down = FakeTransport(*[ServerUnavailable("ConnectionRefusedError")] * 2)
    delivery = a_delivery(desk, down)
    delivery.deliver()
    desk.now_ms = delivery._retry_ms
    delivery.deliver()
    desk.now_ms += 60_000
    assert (overdue_s() or 0) >= 60
    desk.now_ms = delivery._retry_ms
    delivery.deliver()
    assert down.events == ["evt-1"]
    desk.record(2, entity="a")
    delivery.deliver()
    assert account(desk) == (1, 0)
    assert overdue_s() == 0
    desk.now_ms += 2 * DAY_MS
    assert (overdue_s() or 0) > DAY_MS / 1000


def test_told_alerts_are_forgotten_after_their_days(desk: Desk) -> None:
    """The ledger does not grow for ever."""
    desk.record(1)
    a_delivery(desk, FakeTransport()).deliver()
    desk.now_ms += 401 * DAY_MS
    Housekeeping(
        desk.ledger,
        {TEAM: desk.destination},
        keep_days=400,
        stop=threading.Event(),
        clock=lambda: desk.now_ms,
    ).look()
    assert desk.ledger.totals() == {}


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_waits_are_bounded(tries: int, seed: int) -> None:
    """Never none, never more than the bound."""
    assert 0.25 <= back_off_s(tries, longest_s=30.0, rng=random.Random(seed)) <= 30.0
