"""The notifier as a process: settings, wiring, shutdown."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from email.utils import parseaddr
from typing import Final

import structlog
from pydantic import Field, field_validator

from fraud.contracts.topics import Topic
from fraud.kit.background import Background
from fraud.kit.clock import Clock, system_clock
from fraud.kit.kafka import KafkaSource, Message, consume
from fraud.kit.lifecycle import OpsServer
from fraud.kit.settings import KafkaSettings, SmtpSettings
from notifier.alerts import KeyedAlert, read_alert
from notifier.delivery import Delivery
from notifier.ledger import Ledger, LedgerLock
from notifier.smtp import SmtpServer

_SERVICE: Final = "notifier"
_log = structlog.get_logger(_SERVICE)


class Settings(KafkaSettings, SmtpSettings):
    """What the notifier needs."""

    notifier_from: str = Field(
        "Fraudstream <alerts@fraudstream.example>", description="Sender of the alerts."
    )
    notifier_to: str = Field(
        "fraud-team@fraudstream.example", description="Recipients of the alerts, comma-separated."
    )
    notifier_group: str = Field("notifier", min_length=1, description="Kafka consumer group.")
    notifier_ledger_days: int = Field(
        400, ge=31, description="How long a sent alert is remembered, so that a replay sends none, days."
    )  # fmt: skip
    notifier_ops_port: int = Field(
        9103, ge=0, le=65535, description="Port of the notifier's metrics and health."
    )

    @field_validator("notifier_from", "notifier_to")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            found = parseaddr(address.strip())[1]
            if any(char in value for char in "\r\n") or "@" not in found.strip("@"):
                raise ValueError("expected e-mail addresses, as in alerts@example.com")
        return value

    @property
    def recipients(self) -> tuple[str, ...]:
        """The recipients one by one."""
        return tuple(address.strip() for address in self.notifier_to.split(","))


class Recorder:
    """Record the alerts of a batch in the ledger; the Kafka offsets follow when it returns.

    Args:
        ledger: This thread's own connection.
        wake: Set when there is something to send.
        clock: Time now.
    """

    def __init__(self, ledger: Ledger, wake: threading.Event, clock: Clock) -> None:
        self._ledger = ledger
        self._wake = wake
        self._clock = clock

    def __call__(self, batch: Sequence[KeyedAlert | None]) -> None:
        """Make the alerts of one batch durable; None stands for a record without one."""
        alerts = [keyed for keyed in batch if keyed is not None]
        if not alerts:
            return
        new = self._ledger.record(alerts, now_ms=self._clock())
        _log.info("notifier.alerts_recorded", alerts=len(alerts), new=new)
        if new:
            self._wake.set()


def read(message: Message) -> KeyedAlert | None:
    """Read the alert out of one record, see `read_alert`."""
    return read_alert(message.value)


def run(settings: Settings, stop: threading.Event, *, clock: Clock = system_clock) -> None:
    """Notify until `stop` is set.

    On the way out: stop reading, commit, finish the mail in hand, close.

    Raises:
        LedgerInUse: Another notifier has the ledger.
    """
    path = settings.state_dir / "notifier.db"
    wake = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(LedgerLock(path))
        ledger = stack.enter_context(Ledger(path))
        delivery = Delivery(
            stack.enter_context(Ledger(path)),
            SmtpServer(settings),
            stop=stop,
            wake=wake,
            sender=settings.notifier_from,
            recipients=settings.recipients,
            keep_days=settings.notifier_ledger_days,
            clock=clock,
            rng=random.Random(),  # noqa: S311 - jitter
        )
        stack.enter_context(Background("delivery", delivery.run, stop))
        source = stack.enter_context(
            KafkaSource(settings, Topic.PROCESSED, settings.notifier_group, service=_SERVICE, linger_s=0.1)
        )  # fmt: skip
        stack.enter_context(
            OpsServer(
                settings.bind_host,
                settings.notifier_ops_port,
                lambda: source.waits_for() or delivery.problem,
            )
        )
        _log.info("notifier.started")
        consume(source, read, Recorder(ledger, wake, clock), stop, service=_SERVICE)
        _log.info("notifier.stopping")
