"""Sending what the ledger holds, for as long as it takes."""

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
"""Each further try may be one more copy, so that there are about 15 until a message is given up."""
_CHANCES: Final = 3
"""Failures in a row with one message in hand, after which another one is tried first."""
_GIVE_UP_MS: Final = 5 * DAY_MS
"""A message that is put off for so long by a server that takes others is given up, as mail servers
do (RFC 5321, 4.5.4.1)."""

_log = structlog.get_logger("notifier")


def back_off_s(
    tries: int, *, longest_s: float, rng: random.Random, first_s: float = _FIRST_WAIT_S
) -> float:
    """Return the wait before the next try: it doubles each time, less up to half by chance.

    Args:
        tries: Failed tries so far, at least 1.
        longest_s: Bound of the wait, seconds.
        rng: Spreads the tries of several senders.
        first_s: The first wait, seconds.
    """
    wait_s = min(longest_s, first_s * 2.0 ** min(tries - 1, 20))
    return wait_s * rng.uniform(0.5, 1.0)


class Delivery:
    """Put messages together and send them until `stop` is set, over one transport.

    Args:
        ledger: This thread's own connection to the ledger.
        transport: Takes the messages.
        destinations: Those that the transport serves.
        stop: Ends the work between two messages.
        wake: Set by who records alerts, so that they go out at once.
        clock: Time now.
        rng: For the jitter of waits.
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
    ) -> None:
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
        """What keeps all messages from going out this way; None when nothing does."""

    def run(self) -> None:
        """Send until `stop` is set. Anything but the transport's verdicts is a bug, and rises."""
        try:
            while not self._stop.is_set():
                self.wake.clear()
                wait_s = self.deliver()
                if wait_s > 0:
                    # New alerts end the rest between messages, but no back-off.
                    (self._stop if self._failures else self.wake).wait(wait_s)
        finally:
            self._transport.rest()

    def deliver(self) -> float:
        """Put together what is due, and send one batch.

        Returns:
            How long to wait before the next, seconds.
        """
        for destination in self._destinations.values():
            while not self._stop.is_set() and self._ledger.compose(
                destination.id, destination.policy, now_ms=self._clock()
            ):
                pass
        now_ms = self._clock()
        if self._retry_ms > now_ms:
            return min(_IDLE_S, (self._retry_ms - now_ms) / 1000)
        batch = self._ledger.pending(list(self._destinations), now_ms=now_ms, at_most=_BATCH)
        if not batch:
            self._transport.rest()
            return _IDLE_S
        # The sort is stable: in order, but for those that have used up their chances.
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
                    # It had trouble of its own before, when others passed.
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
        """Remember with which message in hand the server broke off."""
        if isinstance(verdict, Unanswered):
            self._put_off(message, verdict)
        elif not isinstance(verdict, Unreachable):
            suspect = self._suspects.setdefault(message.number, _Suspect(message, verdict))
            suspect.failures += 1

    def _clear_up(self, passed: OutgoingMessage) -> None:
        """Put off what failed on the way to a message that passed: it may have been its fault."""
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
        now_ms = self._clock()
        try:
            self._transport.send(message, self._destinations[message.destination], now_ms=now_ms)
        except TryLater as verdict:
            self._put_off(message, verdict)
        except NotWritten:
            raise
        except MessageRefused as verdict:
            self._give_up(message, str(verdict))
        else:
            sent_ms = self._clock()
            self._ledger.sent(message.number, now_ms=sent_ms)
            MESSAGES_SENT.labels(channel, str(message.kind)).inc()
            if message.kind == MessageKind.ALERT and message.decided_ms is not None:
                FIRST_ALERT_SECONDS.labels(channel).observe(
                    max(0, sent_ms - message.decided_ms) / 1000
                )
            self._logger(message).info("notifier.message_sent")

    def _put_off(self, message: OutgoingMessage, verdict: TryLater | ServerUnavailable) -> None:
        # Not at its first failure, however old it is: it may have waited for the server.
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
    """A message with which in hand the server broke off since it took the last one."""

    message: OutgoingMessage
    verdict: ServerUnavailable
    failures: int = 0


class Housekeeping:
    """Keep the gauges true, and the ledger from growing for ever, until `stop` is set.

    Args:
        ledger: This thread's own connection.
        destinations: All of them.
        keep_days: How long told alerts and dead letters are remembered, days.
        stop: Ends the work.
        clock: Time now.
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

    def run(self) -> None:
        """Look twice a second."""
        while not self._stop.is_set():
            self.look()
            self._stop.wait(_IDLE_S)

    def look(self) -> None:
        """Set the gauges; once an hour, forget what is old."""
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
        if self._swept_ms is None or now_ms - self._swept_ms >= HOUR_MS:
            self._swept_ms = now_ms
            forgotten = self._ledger.forget(
                closed_before_ms=now_ms - self._keep_days * DAY_MS, now_ms=now_ms
            )
            if forgotten:
                _log.info("notifier.alerts_forgotten", count=forgotten)


_GONE: Final = "removed"
"""Label of what belongs to channels that are there no more."""
