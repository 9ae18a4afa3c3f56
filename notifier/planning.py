"""Which alerts go into which message, and what has to wait. Pure: times and state are arguments.

For one recipient, in this order:

1. In quiet hours an alert waits for their end, unless its severity breaks through. What waited goes
   out in one message afterwards.
2. What the limit held back goes out in one summary when that is due.
3. What waited for the end of its entity's window goes out as one digest, and the window begins anew.
4. A new alert whose entity has no window open goes out at once and opens one; else it waits for the
   window's end.

Messages of 3 and 4 count towards the limit; without room, their alerts wait for the summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from notifier.alerts import Severity
from notifier.quiet import QuietHours


class Hold(StrEnum):
    """What an alert waits for."""

    ENTITY = "entity"
    """The end of its entity's window."""
    LIMIT = "limit"
    """The next summary: the recipient has had as many messages as it may."""
    QUIET = "quiet"
    """The end of quiet hours."""


class MessageKind(StrEnum):
    """What a message is."""

    ALERT = "alert"
    """One alert."""
    DIGEST = "digest"
    """Several alerts of one entity."""
    SUMMARY = "summary"
    """All alerts that the limit held back."""
    QUIET = "quiet"
    """All alerts that quiet hours held back."""


COUNTED: Final = frozenset({MessageKind.ALERT, MessageKind.DIGEST})
"""Messages that count towards the limit; of the others there is one in a while at most."""


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """How much a recipient bears.

    Attributes:
        digest_ms: Window in which alerts of one entity are gathered; 0 = one message per alert.
        limit_per_hour: Most messages in any 60 minutes; 0 = no limit.
        summary_ms: How long what is above the limit is gathered.
        quiet: Quiet hours, None for none.
        breakthrough: Least severity that is told in quiet hours, too; None = nothing is.
        max_alerts: Most alerts in one message.
    """

    digest_ms: int
    limit_per_hour: int
    summary_ms: int
    quiet: QuietHours | None = None
    breakthrough: Severity | None = None
    max_alerts: int = 1000

    def breaks_through(self, severity: Severity) -> bool:
        """Return whether quiet hours do not hold an alert."""
        return self.breakthrough is not None and severity.rank >= self.breakthrough.rank


@dataclass(frozen=True, slots=True)
class Waiting:
    """An alert that is to be put into a message now, or told what else to wait for.

    Attributes:
        number: Id of the delivery.
        key: See `notifier.alerts.alert_key`.
        entity: See `notifier.alerts.entity_tag`.
        severity: How urgent it is.
        hold: What it waited for until now, None when it is new.
    """

    number: int
    key: bytes
    entity: bytes
    severity: Severity
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be: its kind and what it tells, in order."""

    kind: MessageKind
    content: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """An alert that goes on waiting, until `due_ms`."""

    number: int
    hold: Hold
    due_ms: int


@dataclass(slots=True)
class MessagePlan:
    """What `plan` found; each delivery is in exactly one draft or held once.

    Attributes:
        drafts: Messages to send, in order.
        held: What waits.
        windows: End of the window of each entity that was told about, UTC epoch milliseconds.
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
) -> MessagePlan:
    """Decide about all deliveries of one recipient whose time has come.

    Args:
        waiting: New ones, and those whose wait is over, in the order of recording.
        now_ms: UTC epoch milliseconds.
        policy: What the recipient bears.
        windows: End of the entities' windows, UTC epoch milliseconds.
        sent_in_hour: Messages of the last 60 minutes that count towards the limit.
        summary_due_ms: When the next summary goes out, None when nothing waits for one.
    """
    return _Planner(
        now_ms,
        policy,
        dict(windows),
        policy.limit_per_hour - sent_in_hour if policy.limit_per_hour else None,
        now_ms + policy.summary_ms if summary_due_ms is None else summary_due_ms,
    ).plan(waiting)


class _Planner:
    def __init__(
        self,
        now_ms: int,
        policy: DestinationPolicy,
        windows: dict[bytes, int],
        room: int | None,
        summary_due_ms: int,
    ) -> None:
        self._now_ms = now_ms
        self._policy = policy
        self._windows = windows
        self._room = room
        self._summary_due_ms = summary_due_ms
        self._plan = MessagePlan()

    def plan(self, waiting: Sequence[Waiting]) -> MessagePlan:
        ready: dict[Hold | None, list[Waiting]] = {hold: [] for hold in (None, *Hold)}
        quiet_ends_ms = self._policy.quiet and self._policy.quiet.ends_ms(self._now_ms)
        for alert in waiting:
            if quiet_ends_ms and not self._policy.breaks_through(alert.severity):
                self._plan.held.append(Held(alert.number, Hold.QUIET, quiet_ends_ms))
            else:
                ready[alert.hold].append(alert)
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
