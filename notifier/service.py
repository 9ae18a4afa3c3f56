"""Wires the parts of the notifier together and shuts them down in order."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import structlog

from fraud.contracts.topics import Topic
from fraud.kafka.group_consumer import KafkaSource, Message, consume
from fraud.runtime.background import Background
from fraud.runtime.clock import Clock, steady_clock, system_clock
from fraud.runtime.lifecycle import CannotStart, OpsServer
from notifier.alerts import KeyedAlert, read_alert
from notifier.channels import Transport
from notifier.delivery import Delivery, Housekeeping
from notifier.ledger import Ledger, LedgerInUse, LedgerLock
from notifier.mails import MailTransport
from notifier.routing import Destination, RoutesError, Routing, load_routing
from notifier.settings import Settings
from notifier.smtp import SmtpServer
from notifier.webhooks import HttpTransport
from notifier.wording import Links, Templates, TemplatesError

_SERVICE: Final = "notifier"
LEDGER_FILE: Final = "notifier.db"
_log = structlog.get_logger(_SERVICE)


class Recorder:
    """Records the alerts of a batch in the ledger, before its Kafka offsets are committed.

    Args:
        ledger: This thread's own connection.
        routing: Recipients by route.
        wakes: Events of the senders, set when there are new alerts.
        clock: Returns the time now.
    """

    def __init__(
        self, ledger: Ledger, routing: Routing, wakes: Sequence[threading.Event], clock: Clock
    ) -> None:
        self._ledger = ledger
        self._routing = routing
        self._wakes = wakes
        self._clock = clock

    def read(self, message: Message) -> KeyedAlert | None:
        """Build the alert of one record; see `read_alert`."""
        return read_alert(
            message.value,
            outcomes=self._routing.outcomes,
            severities=self._routing.severities,
            decided_ms=message.timestamp_ms if message.timestamp_ms >= 0 else None,
        )

    def __call__(self, batch: Sequence[KeyedAlert | None]) -> None:
        """Make the alerts of one batch durable; None stands for a record without an alert."""
        alerts = [keyed for keyed in batch if keyed is not None]
        if not alerts:
            return
        new = self._ledger.record(alerts, self._routing.recipients, now_ms=self._clock())
        _log.info("notifier.alerts_recorded", alerts=len(alerts), new=new)
        if new:
            for wake in self._wakes:
                wake.set()


def load_configuration(settings: Settings) -> tuple[Routing, Templates]:
    """Load routes and templates.

    Raises:
        CannotStart: A route or a template is invalid.
    """
    try:
        routing = load_routing(settings, os.environ)
        wording = Templates(
            Links(settings.public_url, settings.dashboards_public_url),
            settings.notifier_templates,
            {name: known.policy.limit_per_hour for name, known in routing.destinations.items()},
        )
    except (RoutesError, TemplatesError) as error:
        raise CannotStart(str(error)) from None
    return routing, wording


def transports(
    settings: Settings, routing: Routing, wording: Templates
) -> Iterator[tuple[Transport, list[Destination]]]:
    """Yield each transport with the destinations that it serves.

    All mail goes through one server. Every other address has a transport of its own, so that a
    server that hangs delays no other destination.
    """
    by_mail = routing.of_kind("email")
    if by_mail:
        server = SmtpServer(settings)
        yield MailTransport(server, wording, settings.notifier_from), by_mail
    for destination in routing.of_kind("webhook", "slack"):
        yield HttpTransport(destination.id, wording), [destination]


def run(settings: Settings, stop: threading.Event, *, clock: Clock = system_clock) -> None:
    """Run the notifier until `stop` is set.

    Waits and ages go by a clock that nobody can set while it runs. Shutdown order: stop reading, commit, finish the messages being sent, close.

    Raises:
        CannotStart: Routes or templates are invalid, or another notifier uses the ledger.
    """
    routing, wording = load_configuration(settings)
    path = settings.state_dir / LEDGER_FILE
    with ExitStack() as stack:
        try:
            stack.enter_context(LedgerLock(path))
        except LedgerInUse as error:
            raise CannotStart(
                f"{error}; stop it first, or set another STATE_DIR", exit_code=1
            ) from None
        ledger = stack.enter_context(Ledger(path))
        steady = steady_clock(clock)
        if step_ms := ledger.adjust(steady()):
            _log.warning("notifier.clock_stepped", seconds=step_ms // 1000)
        abandoned = ledger.abandon(list(routing.destinations), now_ms=steady())
        if abandoned:
            _log.error("notifier.destination_removed", alerts_dead_lettered=abandoned)
        deliveries = [
            Delivery(
                stack.enter_context(Ledger(path)),
                transport,
                destinations,
                stop=stop,
                wake=threading.Event(),
                clock=steady,
                rng=random.Random(),  # noqa: S311 - jitter
                wall=clock,
            )
            for transport, destinations in transports(settings, routing, wording)
        ]
        housekeeping = Housekeeping(
            stack.enter_context(Ledger(path)),
            routing.destinations,
            keep_days=settings.notifier_ledger_days,
            stop=stop,
            clock=steady,
        )
        stack.enter_context(Background("housekeeping", housekeeping.run, stop))
        for number, delivery in enumerate(deliveries):
            stack.enter_context(Background(f"delivery-{number}", delivery.run, stop))
        source = stack.enter_context(
            KafkaSource(settings, Topic.PROCESSED, settings.notifier_group, service=_SERVICE, linger_s=0.1)
        )  # fmt: skip

        def waits_for() -> str | None:
            problems = [delivery.problem for delivery in deliveries if delivery.problem]
            return source.waits_for() or "; ".join(problems) or None

        stack.enter_context(OpsServer(settings.bind_host, settings.notifier_ops_port, waits_for))
        recorder = Recorder(ledger, routing, [delivery.wake for delivery in deliveries], steady)
        _log.info(
            "notifier.started",
            channels=sorted({destination.channel for destination in routing.destinations.values()}),
        )
        consume(source, recorder.read, recorder, stop, service=_SERVICE)
        _log.info("notifier.stopping")
