"""What the notifier's tests share: alerts, messages, a ledger with a clock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from notifier.alerts import Alert, KeyedAlert, read_alert
from notifier.ledger import Ledger, OutgoingMessage
from notifier.planning import DestinationPolicy, MessageKind
from notifier.routing import Destination
from tests.support.builders import a_processed

TEAM = "email:team@example.com"
OUTCOMES = frozenset({"review", "block"})


def an_alert(number: int = 1, entity: str = "070-69-2161", **decision: Any) -> KeyedAlert:
    keyed = read_alert(
        a_processed({"event_id": f"evt-{number}", "entity_id": entity}, decision),
        outcomes=OUTCOMES,  # type: ignore[arg-type]
        decided_ms=0,
    )
    assert keyed is not None
    return keyed


def a_policy(**changes: Any) -> DestinationPolicy:
    fields = {"digest_ms": 300_000, "limit_per_hour": 0, "summary_ms": 300_000} | changes
    return DestinationPolicy(**fields)


def a_destination(policy: DestinationPolicy | None = None, **changes: Any) -> Destination:
    fields = {
        "id": TEAM,
        "channel": "email",
        "kind": "email",
        "address": "Team <team@example.com>",
        "policy": policy or a_policy(),
    } | changes
    return Destination(**fields)


def a_message(
    *alerts: Alert, kind: MessageKind | None = None, destination: str = TEAM
) -> OutgoingMessage:
    told = alerts or (an_alert().alert,)
    what = kind or (MessageKind.ALERT if len(told) == 1 else MessageKind.DIGEST)
    return OutgoingMessage(7, "0f" * 20, destination, what, told, 0, 1_000, 0)


class FakeTransport:
    """A way of sending that answers as told, in turn, and then takes everything."""

    name = "email"

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.taken: list[tuple[MessageKind, list[str]]] = []
        self.ids: list[str] = []
        self.rests = 0

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.taken.append((message.kind, [alert.event_id for alert in message.alerts]))
        self.ids.append(message.id)

    @property
    def events(self) -> list[str]:
        return [event for _, events in self.taken for event in events]

    def rest(self) -> None:
        self.rests += 1


class AlertPipeline:
    """A ledger, a clock, and one destination."""

    def __init__(self, folder: Path, policy: DestinationPolicy | None = None) -> None:
        self.now_ms = 1_000
        self.path = folder / "notifier.db"
        self.ledger = Ledger(self.path)
        self.destination = a_destination(policy)
        self.stop = threading.Event()
        self.wake = threading.Event()

    def record(self, *numbers: int, entity: str | None = None) -> int:
        """Record alerts, each of an entity of its own unless told otherwise."""
        return self.record_all([an_alert(n, entity or f"entity-{n}") for n in numbers])

    def record_all(self, alerts: Sequence[KeyedAlert], *ids: str) -> int:
        return self.ledger.record(alerts, lambda _: ids or (TEAM,), now_ms=self.now_ms)

    def compose(self) -> None:
        while self.ledger.compose(TEAM, self.destination.policy, now_ms=self.now_ms):
            pass

    def pending(self) -> list[list[str]]:
        """Return the events of each message that is due."""
        messages = self.ledger.pending([TEAM], now_ms=self.now_ms, at_most=5000)
        return [[alert.event_id for alert in message.alerts] for message in messages]
