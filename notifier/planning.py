"""Decides which alerts go into which message and which have to wait. No I/O, no clock.

For one recipient, in this order:

1. In quiet hours an alert waits for their end, unless its severity breaks through. Afterwards the
   waiting alerts go out in one message.
2. Alerts that the limit held back go out in one summary when that is due.
3. Alerts that waited for the end of their entity's window go out as one digest, and a new window
   opens.
4. A new alert goes out at once and opens a window for its entity; if one is open already, the alert
   waits for its end.

Messages of steps 3 and 4 count towards the limit; beyond it, their alerts wait for the summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from notifier.alerts import Severity
from notifier.quiet import QuietHours


class Hold(StrEnum):
    """Reason why an alert waits."""

    ENTITY = "entity"
    """It waits for the end of its entity's window."""
    LIMIT = "limit"
    """It waits for the next summary, because the recipient's hourly limit is used up."""
    QUIET = "quiet"
    """It waits for the end of quiet hours."""


class MessageKind(StrEnum):
    """Kinds of messages, by their content."""

    ALERT = "alert"
    """One alert."""
    DIGEST = "digest"
    """Several alerts of one entity."""
    SUMMARY = "summary"
    """Alerts that the limit held back."""
    QUIET = "quiet"
    """Alerts that quiet hours held back."""


COUNTED: Final = frozenset({MessageKind.ALERT, MessageKind.DIGEST})
"""Messages that count towards the limit. Summaries and messages after quiet hours do not: they are
rare by construction."""


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """Limits of one recipient: digests, messages per hour, quiet hours.

    Attributes:
        digest_ms: Window in which alerts of one entity are gathered; 0 = one message per alert.
        limit_per_hour: Maximum number of messages in any 60 minutes; 0 = no limit.
        summary_ms: How long alerts above the limit are gathered into a summary.
        quiet: Quiet hours; None if the recipient has no quiet hours.
        breakthrough: Lowest severity that is sent during quiet hours; None means that all wait.
        max_alerts: Maximum number of alerts in one message.
    """

    digest_ms: int
    limit_per_hour: int
    summary_ms: int
    quiet: QuietHours | None = None
    breakthrough: Severity | None = None
    max_alerts: int = 1000

    def breaks_through(self, severity: Severity) -> bool:
        """Return whether alerts of a severity are sent during quiet hours."""
        return self.breakthrough is not None and severity.rank >= self.breakthrough.rank


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is due: `plan` puts its alert into a message or lets it wait again.

    Attributes:
        number: Id of the delivery.
        key: See `notifier.alerts.alert_key`.
        entity: See `notifier.alerts.entity_tag`.
        severity: Severity of the alert.
        hold: Why it waited until now; None when it is new.
    """

    number: int
    key: bytes
    entity: bytes
    severity: Severity
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be created: its kind and its alerts, in order."""

    kind: MessageKind
    content: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A delivery that keeps waiting until `due_ms`, UTC epoch milliseconds."""

    number: int
    hold: Hold
    due_ms: int


@dataclass(slots=True)
class MessagePlan:
    """Result of `plan`: each delivery is in exactly one draft, or held once.

    Attributes:
        drafts: Messages to send, in order.
        held: Deliveries that keep waiting.
        windows: End of each window that the drafts open, UTC epoch milliseconds by entity.
    """

    drafts: list[Draft] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    windows: dict[bytes, int] = field(default_factory=dict)


def plan(
    waiting: Sequence[Waiting],
    *,
    now_ms: int,
    policy: DestinationPolicy,
    windows: Mapping[bytes, int],
    sent_in_hour: int,
    summary_due_ms: int | None,
    wall_ms: int | None = None,
) -> MessagePlan:
    """Put the due deliveries of one recipient into messages, or hold them back.

    Args:
        waiting: New deliveries and those whose wait is over, in the order of recording.
        now_ms: Time now by a steady clock, milliseconds; waits go by it.
        policy: Limits of the recipient.
        windows: End of each open window, UTC epoch milliseconds by entity.
        sent_in_hour: Messages of the last 60 minutes that count towards the limit.
        summary_due_ms: When the next summary goes out; None when no alert waits for one.
        wall_ms: Time now as people read it, UTC epoch milliseconds, for quiet hours; None means
            `now_ms`.
    """
    return _Planner(
        now_ms,
        now_ms if wall_ms is None else wall_ms,
        policy,
        dict(windows),
        policy.limit_per_hour - sent_in_hour if policy.limit_per_hour else None,
        now_ms + policy.summary_ms if summary_due_ms is None else summary_due_ms,
    ).plan(waiting)


class _Planner:
    def __init__(
        self,
        now_ms: int,
        wall_ms: int,
        policy: DestinationPolicy,
        windows: dict[bytes, int],
        room: int | None,
        summary_due_ms: int,
    ) -> None:
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._policy = policy
        self._windows = windows
        self._room = room
        self._summary_due_ms = summary_due_ms
        self._plan = MessagePlan()

    def plan(self, waiting: Sequence[Waiting]) -> MessagePlan:
        ready: dict[Hold | None, list[Waiting]] = {hold: [] for hold in (None, *Hold)}
        quiet_ends_ms = self._policy.quiet and self._policy.quiet.ends_ms(self._wall_ms)
        if quiet_ends_ms:
            quiet_ends_ms += self._now_ms - self._wall_ms
        for alert in waiting:
            if quiet_ends_ms and not self._policy.breaks_through(alert.severity):
                self._plan.held.append(Held(alert.number, Hold.QUIET, quiet_ends_ms))
            else:
                ready[alert.hold].append(alert)
        # The order of the module's docstring: digests use up the limit before new alerts.
        self._gathered(MessageKind.QUIET, ready[Hold.QUIET])
        self._gathered(MessageKind.SUMMARY, ready[Hold.LIMIT])
        by_entity: dict[bytes, list[Waiting]] = {}
        for alert in ready[Hold.ENTITY]:
            by_entity.setdefault(alert.entity, []).append(alert)
        for together in by_entity.values():
            self._digest(together)
        for alert in ready[None]:
            open_until_ms = self._windows.get(alert.entity, 0)
            if self._policy.digest_ms and open_until_ms > self._now_ms:
                self._plan.held.append(Held(alert.number, Hold.ENTITY, open_until_ms))
            else:
                self._digest([alert])
        return self._plan

    def _gathered(self, kind: MessageKind, content: Sequence[Waiting]) -> None:
        for part in self._parts(content):
            self._draft(kind, part)

    def _digest(self, content: Sequence[Waiting]) -> None:
        for part in self._parts(content):
            if self._room is not None and self._room <= 0:
                self._plan.held += [
                    Held(alert.number, Hold.LIMIT, self._summary_due_ms) for alert in part
                ]
                continue
            if self._room is not None:
                self._room -= 1
            self._draft(MessageKind.DIGEST if len(part) > 1 else MessageKind.ALERT, part)

    def _parts(self, content: Sequence[Waiting]) -> list[Sequence[Waiting]]:
        most = self._policy.max_alerts
        return [content[start : start + most] for start in range(0, len(content), most)]

    def _draft(self, kind: MessageKind, content: Sequence[Waiting]) -> None:
        self._plan.drafts.append(Draft(kind, tuple(content)))
        if self._policy.digest_ms:
            for alert in content:
                until_ms = self._now_ms + self._policy.digest_ms
                self._windows[alert.entity] = self._plan.windows[alert.entity] = until_ms
