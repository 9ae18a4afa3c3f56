"""Sends the alerts of the ledger, with retries, back-off and dead letters."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from fraud.contracts.times import DAY_MS, HOUR_MS
from fraud.runtime.clock import Clock
from fraud.runtime.metrics import (
    ALERTS_HELD,
    ALERTS_OVERDUE,
    ALERTS_UNTOLD,
    DEAD_ALERTS,
    FIRST_ALERT_SECONDS,
    MESSAGES_FAILED,
    MESSAGES_SENT,
)
from notifier.channels import (
    MessageRefused,
    NotWritten,
    ServerUnavailable,
    Transport,
    TryLater,
    Unanswered,
    Unreachable,
)
from notifier.ledger import Ledger, OutgoingMessage
from notifier.planning import Hold, MessageKind
from notifier.routing import Destination

_BATCH: Final = 100
_IDLE_S: Final = 0.5
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_LONGEST_POSTPONEMENT_S: Final = 600.0
_FIRST_WAIT_UNANSWERED_S: Final = 30.0
_LONGEST_WAIT_UNANSWERED_S: Final = 86_400.0
"""Every retry may deliver another copy. With this bound a message is tried about 15 times."""
_CHANCES: Final = 3
"""Failures in a row with the same message after which others are tried first."""
_NOTED_MS: Final = 60_000
"""Time between two notes of the clock; a step back lets an alert wait for as long at most."""
_GIVE_UP_MS: Final = 5 * DAY_MS
"""Age after which a message is given up if a server that accepts others keeps postponing it, as
mail servers do (RFC 5321, 4.5.4.1)."""

_log = structlog.get_logger("notifier")


def back_off_s(
    tries: int, *, longest_s: float, rng: random.Random, first_s: float = _FIRST_WAIT_S
) -> float:
    """Return the wait before the next try: exponential back-off, randomly shortened by up to half.

    Args:
        tries: Failed tries so far, at least 1.
        longest_s: Bound of the wait, seconds.
        rng: Source of the jitter, which spreads the retries of several senders.
        first_s: The first wait before jitter, seconds.
    """
    wait_s = min(longest_s, first_s * 2.0 ** min(tries - 1, 20))
    return wait_s * rng.uniform(0.5, 1.0)


class Delivery:
    """Composes messages and sends them over one transport until `stop` is set.

    Args:
        ledger: This thread's own connection to the ledger.
        transport: Sends the messages.
        destinations: Destinations that the transport serves.
        stop: Ends the work between two messages.
        wake: Set by the recorder of alerts, so that they are sent at once.
        clock: Returns the time now; steady, because waits go by it.
        rng: Source of the jitter of waits.
        wall: Returns the time as people and other machines read it; None means `clock`.
    """

    def __init__(
        self,
        ledger: Ledger,
        transport: Transport,
        destinations: Sequence[Destination],
        *,
        stop: threading.Event,
        wake: threading.Event,
        clock: Clock,
        rng: random.Random,
        wall: Clock | None = None,
    ) -> None:
        self._wall = wall or clock
        self._ledger = ledger
        self._transport = transport
        self._destinations = {destination.id: destination for destination in destinations}
        self._stop = stop
        self.wake = wake
        self._clock = clock
        self._rng = rng
        self._failures, self._retry_ms = ledger.back_off(transport.name)
        self._suspects: dict[int, _Suspect] = {}
        self.problem: str | None = None
        """Why this transport can send nothing now; None when it can."""

    def run(self) -> None:
        """Send until `stop` is set; errors other than those of `channels` are raised as bugs."""
        try:
            while not self._stop.is_set():
                self.wake.clear()
                wait_s = self.deliver()
                if wait_s > 0:
                    # New alerts end an idle wait, but never a back-off.
                    (self._stop if self._failures else self.wake).wait(wait_s)
        finally:
            self._transport.rest()

    def deliver(self) -> float:
        """Compose all messages that are due and send one batch.

        Returns:
            How long to wait before the next call, seconds.
        """
        for destination in self._destinations.values():
            # A call composes a limited number of deliveries, to keep its transaction short.
            while not self._stop.is_set() and self._ledger.compose(
                destination.id, destination.policy, now_ms=self._clock(), wall_ms=self._wall()
            ):
                pass
        now_ms = self._clock()
        if self._retry_ms > now_ms:
            return min(_IDLE_S, (self._retry_ms - now_ms) / 1000)
        batch = self._ledger.pending(list(self._destinations), now_ms=now_ms, at_most=_BATCH)
        if not batch:
            self._transport.rest()
            return _IDLE_S
        # The sort is stable: messages keep their order, and those that failed repeatedly go last.
        for message in sorted(batch, key=self._rounds_of_chances):
            if self._stop.is_set():
                break
            try:
                self._send(message)
            except NotWritten as verdict:
                self._give_up(message, str(verdict))
                continue
            except ServerUnavailable as verdict:
                if message.tries and not isinstance(verdict, Unreachable):
                    # It failed before while others were accepted, so the fault is its own.
                    self._put_off(message, verdict)
                    continue
                self._suspect(message, verdict)
                return self._back_off(verdict)
            if self._failures:
                self._failures, self._retry_ms, self.problem = 0, 0, None
                self._ledger.set_back_off(self._transport.name, 0, 0)
                _log.info("notifier.channel_available", channel=self._transport.name)
            if self._suspects:
                self._clear_up(message)
                return 0.0
        return 0.0

    def _rounds_of_chances(self, message: OutgoingMessage) -> int:
        suspect = self._suspects.get(message.number)
        return suspect.failures // _CHANCES if suspect else 0

    def _suspect(self, message: OutgoingMessage, verdict: ServerUnavailable) -> None:
        """Remember the message during which the server broke off: it may be the cause."""
        if isinstance(verdict, Unanswered):
            self._put_off(message, verdict)
        elif not isinstance(verdict, Unreachable):
            suspect = self._suspects.setdefault(message.number, _Suspect(message, verdict))
            suspect.failures += 1

    def _clear_up(self, passed: OutgoingMessage) -> None:
        """Postpone the suspects, since another message was accepted: they may be the cause."""
        for suspect in self._suspects.values():
            if suspect.message.number != passed.number:
                self._put_off(suspect.message, suspect.verdict)
        self._suspects.clear()

    def _back_off(self, verdict: ServerUnavailable) -> float:
        self._failures += 1
        what = "mail server" if self._transport.name == "email" else self._transport.name
        self.problem = f"{what} unavailable ({verdict})"
        MESSAGES_FAILED.labels(self._transport.name, "server").inc()
        wait_s = max(
            back_off_s(self._failures, longest_s=_LONGEST_WAIT_S, rng=self._rng),
            verdict.retry_after_s or 0.0,
        )
        self._retry_ms = self._clock() + int(wait_s * 1000)
        self._ledger.set_back_off(self._transport.name, self._failures, self._retry_ms)
        _log.warning(
            "notifier.channel_unavailable",
            channel=self._transport.name,
            code=str(verdict),
            retry_after_s=round(wait_s, 1),
        )
        return min(_IDLE_S, wait_s)

    def _send(self, message: OutgoingMessage) -> None:
        channel = self._destinations[message.destination].channel
        now_ms = self._wall()
        try:
            self._transport.send(message, self._destinations[message.destination], now_ms=now_ms)
        except TryLater as verdict:
            self._put_off(message, verdict)
        except NotWritten:
            raise
        except MessageRefused as verdict:
            self._give_up(message, str(verdict))
        else:
            self._ledger.sent(message.number, now_ms=self._clock())
            MESSAGES_SENT.labels(channel, str(message.kind)).inc()
            if message.kind == MessageKind.ALERT and message.decided_ms is not None:
                FIRST_ALERT_SECONDS.labels(channel).observe(
                    max(0, self._wall() - message.decided_ms) / 1000
                )
            self._logger(message).info("notifier.message_sent")

    def _put_off(self, message: OutgoingMessage, verdict: TryLater | ServerUnavailable) -> None:
        # An old message is not given up at its first failure: it may have waited for the server.
        if message.tries and self._clock() - message.made_ms > _GIVE_UP_MS:
            self._give_up(message, f"{verdict} for too long")
            return
        unanswered = isinstance(verdict, Unanswered)
        wait_s = back_off_s(
            message.tries + 1,
            first_s=_FIRST_WAIT_UNANSWERED_S if unanswered else _FIRST_WAIT_S,
            longest_s=_LONGEST_WAIT_UNANSWERED_S if unanswered else _LONGEST_POSTPONEMENT_S,
            rng=self._rng,
        )
        if isinstance(verdict, ServerUnavailable):
            wait_s = max(wait_s, verdict.retry_after_s or 0.0)
        self._ledger.postpone(
            message.number, str(verdict), due_ms=self._clock() + int(wait_s * 1000)
        )
        channel = self._destinations[message.destination].channel
        MESSAGES_FAILED.labels(channel, "temporary").inc()
        self._logger(message).warning(
            "notifier.message_postponed", code=str(verdict), retry_after_s=round(wait_s, 1)
        )

    def _give_up(self, message: OutgoingMessage, problem: str) -> None:
        self._ledger.failed(message.number, problem, now_ms=self._clock())
        channel = self._destinations[message.destination].channel
        MESSAGES_FAILED.labels(channel, "permanent").inc()
        self._logger(message).error("notifier.message_dead_lettered", code=problem)

    def _logger(self, message: OutgoingMessage) -> structlog.typing.FilteringBoundLogger:
        bound: structlog.typing.FilteringBoundLogger = _log.bind(
            channel=self._destinations[message.destination].channel,
            kind=str(message.kind),
            message_id=message.id[:12],
            alerts=len(message.alerts),
        )
        if len(message.alerts) == 1:
            bound = bound.bind(event_id=message.alerts[0].event_id)
        return bound


@dataclass(slots=True)
class _Suspect:
    """A message during which the server broke off since it last accepted one."""

    message: OutgoingMessage
    verdict: ServerUnavailable
    failures: int = 0


class Housekeeping:
    """Updates the gauges and deletes old alerts from the ledger until `stop` is set.

    Args:
        ledger: This thread's own connection.
        destinations: All destinations by id.
        keep_days: Days for which sent alerts and dead letters are kept.
        stop: Ends the work.
        clock: Returns the time now; steady, see `Delivery`.
    """

    def __init__(
        self,
        ledger: Ledger,
        destinations: Mapping[str, Destination],
        *,
        keep_days: int,
        stop: threading.Event,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._keep_days = keep_days
        self._stop = stop
        self._clock = clock
        self._swept_ms: int | None = None
        self._saw_ms: int | None = None

    def run(self) -> None:
        """Call `look` twice a second."""
        while not self._stop.is_set():
            self.look()
            self._stop.wait(_IDLE_S)

    def look(self) -> None:
        """Set the gauges; once an hour, delete old alerts."""
        accounts = self._ledger.accounts()
        names = {destination.channel for destination in self._destinations.values()} | {_GONE}
        queued, failed = Counter[str](), Counter[str]()
        held = {hold: Counter[str]() for hold in Hold}
        now_ms = self._clock()
        overdue_ms = dict.fromkeys(names, 0)
        for destination, account in accounts.items():
            known = self._destinations.get(destination)
            channel = known.channel if known else _GONE
            since_ms = self._ledger.due_since(destination)
            if since_ms is not None:
                overdue_ms[channel] = max(overdue_ms[channel], now_ms - since_ms)
            queued[channel] += account.queue
            failed[channel] += account.failed
            for hold, counts in held.items():
                counts[channel] += account.waiting.get(hold, 0)
        for name in names:
            ALERTS_UNTOLD.labels(name).set(queued[name])
            ALERTS_OVERDUE.labels(name).set(overdue_ms[name] / 1000)
            DEAD_ALERTS.labels(name).set(failed[name])
            for hold, counts in held.items():
                ALERTS_HELD.labels(name, str(hold)).set(counts[name])
        if self._saw_ms is None or now_ms - self._saw_ms >= _NOTED_MS:
            self._saw_ms = now_ms
            self._ledger.saw(now_ms)
        if self._swept_ms is None or now_ms - self._swept_ms >= HOUR_MS:
            self._swept_ms = now_ms
            forgotten = self._ledger.forget(
                closed_before_ms=now_ms - self._keep_days * DAY_MS, now_ms=now_ms
            )
            if forgotten:
                _log.info("notifier.alerts_forgotten", count=forgotten)


_GONE: Final = "removed"
"""Label of alerts whose channel is no longer configured."""
