"""Delivery goes on until the server has every mail, or refused it for good."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.alerts import read_alert
from notifier.delivery import Delivery, back_off_s
from notifier.ledger import Ledger
from notifier.smtp import Refused, ServerUnavailable, TryLater
from tests.builders import a_processed

DAY_MS = 86_400_000


class FakeServer:
    """A mail server that answers as told, in turn, and then takes everything."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.taken: list[str] = []
        self.rests = 0

    def send(self, mail: EmailMessage, *, sender: str, recipients: Sequence[str]) -> int:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.taken.append(mail["Subject"].rsplit(" ", 1)[1])
        return 0

    def rest(self) -> None:
        self.rests += 1


class Desk:
    """A delivery with its surroundings."""

    def __init__(self, path: Path) -> None:
        self.now_ms = 0
        self.ledger = Ledger(path / "notifier.db")
        self.stop = threading.Event()
        self.wake = threading.Event()

    def record(self, *numbers: int) -> None:
        alerts = [read_alert(a_processed({"event_id": f"evt-{number}"})) for number in numbers]
        self.ledger.record([alert for alert in alerts if alert], now_ms=self.now_ms)

    def delivery(self, server: FakeServer) -> Delivery:
        return Delivery(
            self.ledger,
            server,
            stop=self.stop,
            wake=self.wake,
            sender="alerts@example.com",
            recipients=["team@example.com"],
            keep_days=400,
            clock=lambda: self.now_ms,
            rng=random.Random(1),
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with desk.ledger:
        yield desk


def test_pending_alerts_go_out_in_order_and_once(desk: Desk) -> None:
    """Then there is nothing more to send, and the session ends."""
    desk.record(1, 2, 3)
    server = FakeServer()
    delivery = desk.delivery(server)
    assert delivery.deliver() == 0
    assert delivery.deliver() > 0
    assert server.taken == ["evt-1", "evt-2", "evt-3"]
    assert server.rests == 1
    assert desk.ledger.count("sent") == 3


def test_an_outage_keeps_every_alert_pending(desk: Desk) -> None:
    """The waits grow, and one success ends the alarm."""
    desk.record(1, 2)
    server = FakeServer(*[ServerUnavailable("ConnectionRefusedError")] * 4)
    delivery = desk.delivery(server)
    waits = [delivery.deliver() for _ in range(4)]
    assert desk.ledger.count() == 2
    assert delivery.problem == "mail server unavailable (ConnectionRefusedError)"
    assert waits[3] > waits[0] > 0
    assert delivery.deliver() == 0
    assert server.taken == ["evt-1", "evt-2"]
    assert delivery.problem is None


def test_a_refused_mail_does_not_hold_up_the_others(desk: Desk) -> None:
    """It is marked failed and not tried again."""
    desk.record(1, 2)
    server = FakeServer(Refused("550"))
    delivery = desk.delivery(server)
    delivery.deliver()
    desk.now_ms = DAY_MS
    delivery.deliver()
    assert server.taken == ["evt-2"]
    assert desk.ledger.count("failed") == 1


def test_a_postponed_mail_goes_out_later(desk: Desk) -> None:
    """A temporary refusal of one mail lets the others pass, and comes again by itself."""
    desk.record(1, 2)
    server = FakeServer(TryLater("451"))
    delivery = desk.delivery(server)
    delivery.deliver()
    assert server.taken == ["evt-2"]
    delivery.deliver()
    assert server.taken == ["evt-2"]
    desk.now_ms = 1000
    delivery.deliver()
    assert server.taken == ["evt-2", "evt-1"]


def test_stop_is_obeyed_between_two_mails(desk: Desk) -> None:
    """What was not sent stays pending for the next start."""
    desk.record(1, 2, 3)

    class Stopping(FakeServer):
        def send(self, mail: EmailMessage, *, sender: str, recipients: Sequence[str]) -> int:
            desk.stop.set()
            return super().send(mail, sender=sender, recipients=recipients)

    server = Stopping()
    desk.delivery(server).run()
    assert server.taken == ["evt-1"]
    assert desk.ledger.count() == 2


def test_sent_alerts_are_forgotten_after_their_days(desk: Desk) -> None:
    """The ledger does not grow for ever."""
    desk.record(1)
    delivery = desk.delivery(FakeServer())
    delivery.deliver()
    desk.now_ms = 401 * DAY_MS
    delivery._sweep()
    assert desk.ledger.count("sent") == 0


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_waits_are_bounded(tries: int, seed: int) -> None:
    """Never none, never more than the bound."""
    assert 0.25 <= back_off_s(tries, longest_s=30.0, rng=random.Random(seed)) <= 30.0
