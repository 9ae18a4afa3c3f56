"""Sending what the ledger holds, for as long as it takes."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Final

import structlog

from fraud.kit.clock import Clock
from fraud.kit.metrics import MAIL_QUEUE, MAILS_FAILED, MAILS_SENT
from notifier.ledger import Ledger, Pending
from notifier.mails import render_alert
from notifier.smtp import MailServer, Refused, ServerUnavailable, TryLater

_BATCH: Final = 100
_IDLE_S: Final = 0.5
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_LONGEST_POSTPONEMENT_S: Final = 600.0
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000

_log = structlog.get_logger("notifier")


def back_off_s(tries: int, *, longest_s: float, rng: random.Random) -> float:
    """Give the wait before the next try: it doubles from half a second, less up to half by chance.

    Args:
        tries: Failed tries so far, at least 1.
        longest_s: Bound of the wait, seconds.
        rng: Spreads the tries of several senders.
    """
    wait_s = min(longest_s, _FIRST_WAIT_S * 2.0 ** min(tries - 1, 20))
    return wait_s * rng.uniform(0.5, 1.0)


class Delivery:
    """Send pending alerts until `stop` is set.

    Args:
        ledger: This thread's own connection to the ledger.
        server: Takes the mails.
        stop: Ends the work between two mails.
        wake: Set by who records alerts, so that they go out at once.
        sender: Address of the sender.
        recipients: Addresses, at least one.
        keep_days: How long sent alerts are remembered, days.
        clock: Time now.
        rng: For the jitter of waits.
    """

    def __init__(
        self,
        ledger: Ledger,
        server: MailServer,
        *,
        stop: threading.Event,
        wake: threading.Event,
        sender: str,
        recipients: Sequence[str],
        keep_days: int,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._server = server
        self._stop = stop
        self._wake = wake
        self._sender = sender
        self._recipients = recipients
        self._keep_days = keep_days
        self._clock = clock
        self._rng = rng
        self._server_failures = 0
        self._swept_ms: int | None = None
        self.problem: str | None = None
        """What keeps all mails from going out; None when nothing does."""

    def run(self) -> None:
        """Send until `stop` is set. Anything but the server's verdicts is a bug, and rises."""
        try:
            while not self._stop.is_set():
                self._wake.clear()
                wait_s = self.deliver()
                self._sweep()
                if wait_s > 0:
                    # New alerts end the rest between mails, but no back-off.
                    (self._stop if self._server_failures else self._wake).wait(wait_s)
        finally:
            self._server.rest()

    def deliver(self) -> float:
        """Send one batch.

        Returns:
            How long to wait before the next, seconds.
        """
        batch = self._ledger.pending(now_ms=self._clock(), at_most=_BATCH)
        MAIL_QUEUE.set(self._ledger.count() if batch else 0)
        if not batch:
            self._server.rest()
            return _IDLE_S
        for pending in batch:
            if self._stop.is_set():
                break
            try:
                self._send(pending)
            except ServerUnavailable as verdict:
                self._server_failures += 1
                self.problem = f"mail server unavailable ({verdict})"
                MAILS_FAILED.labels("server").inc()
                wait_s = back_off_s(self._server_failures, longest_s=_LONGEST_WAIT_S, rng=self._rng)
                _log.warning(
                    "notifier.mail_server_unavailable",
                    code=str(verdict),
                    retry_after_s=round(wait_s, 1),
                )
                return wait_s
            self._server_failures = 0
            self.problem = None
        return 0.0

    def _send(self, pending: Pending) -> None:
        bound = _log.bind(event_id=pending.alert.event_id, mail=pending.key.hex()[:8])
        mail = render_alert(
            pending.key,
            pending.alert,
            sender=self._sender,
            recipients=self._recipients,
            sent_at_ms=self._clock(),
        )
        try:
            refused = self._server.send(mail, sender=self._sender, recipients=self._recipients)
        except TryLater as verdict:
            wait_s = back_off_s(pending.tries + 1, longest_s=_LONGEST_POSTPONEMENT_S, rng=self._rng)
            self._ledger.postpone(
                pending.key, str(verdict), due_ms=self._clock() + int(wait_s * 1000)
            )
            MAILS_FAILED.labels("temporary").inc()
            bound.warning(
                "notifier.email_postponed", code=str(verdict), retry_after_s=round(wait_s, 1)
            )
        except Refused as verdict:
            self._ledger.failed(pending.key, str(verdict), now_ms=self._clock())
            MAILS_FAILED.labels("permanent").inc()
            bound.error("notifier.email_refused", code=str(verdict))
        else:
            self._ledger.sent(pending.key, now_ms=self._clock())
            MAILS_SENT.inc()
            if refused:
                MAILS_FAILED.labels("recipient").inc(refused)
            bound.info("notifier.email_sent", recipients_refused=refused)

    def _sweep(self) -> None:
        """Forget old alerts, once an hour."""
        now_ms = self._clock()
        if self._swept_ms is None or now_ms - self._swept_ms >= _HOUR_MS:
            self._swept_ms = now_ms
            forgotten = self._ledger.forget(sent_before_ms=now_ms - self._keep_days * _DAY_MS)
            if forgotten:
                _log.info("notifier.alerts_forgotten", count=forgotten)
