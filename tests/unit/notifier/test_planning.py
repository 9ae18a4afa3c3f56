"""Which alerts go into which message: by windows, limits and quiet hours, each exactly once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.times import HOUR_MS
from notifier.alerts import Severity
from notifier.planning import (
    COUNTED,
    DestinationPolicy,
    Hold,
    MessageKind,
    MessagePlan,
    Waiting,
    plan,
)
from notifier.quiet import QuietHours
from tests.support.alerts import a_policy

NIGHT_MS = 23 * HOUR_MS
"""23:00 UTC on 1 January 1970."""
QUIET = QuietHours.parse("22:00-07:00", UTC)


def waiting(number: int, entity: str = "a", **changes: Any) -> Waiting:
    fields = {"severity": Severity.MEDIUM, "hold": None} | changes
    return Waiting(number=number, key=bytes([number]), entity=entity.encode(), **fields)


def planned(
    *items: Waiting, policy: DestinationPolicy | None = None, **changes: Any
) -> MessagePlan:
    arguments = {"now_ms": 0, "windows": {}, "sent_in_hour": 0, "summary_due_ms": None} | changes
    return plan(items, policy=policy or a_policy(), **arguments)


def drafts(found: MessagePlan) -> list[tuple[MessageKind, list[int]]]:
    return [(draft.kind, [one.number for one in draft.content]) for draft in found.drafts]


def held(found: MessagePlan) -> list[tuple[int, Hold, int]]:
    return [(one.number, one.hold, one.due_ms) for one in found.held]


def test_the_first_alert_of_an_entity_goes_out_at_once() -> None:
    """Those that follow within its window wait for the window's end."""
    found = planned(waiting(1), waiting(2), waiting(3, "b"), now_ms=5)
    assert drafts(found) == [(MessageKind.ALERT, [1]), (MessageKind.ALERT, [3])]
    assert held(found) == [(2, Hold.ENTITY, 300_005)]
    assert found.windows == {b"a": 300_005, b"b": 300_005}


def test_quiet_hours_go_by_the_time_of_day_and_the_wait_by_the_steady_clock() -> None:
    found = planned(waiting(1), policy=a_policy(quiet=QUIET), now_ms=5, wall_ms=NIGHT_MS)
    assert held(found) == [(1, Hold.QUIET, 5 + 8 * HOUR_MS)]
    assert drafts(planned(waiting(1), policy=a_policy(quiet=QUIET), now_ms=NIGHT_MS, wall_ms=12 * HOUR_MS))  # fmt: skip


def test_the_windows_end_makes_one_digest_and_begins_anew() -> None:
    """An alert that comes at that moment waits for the next end."""
    due = [waiting(n, hold=Hold.ENTITY) for n in (2, 3)]
    found = planned(*due, waiting(4), now_ms=300_000)
    assert drafts(found) == [(MessageKind.DIGEST, [2, 3])]
    assert held(found) == [(4, Hold.ENTITY, 600_000)]


def test_a_digest_of_one_is_an_alert() -> None:
    """It says as much as an alert does."""
    assert drafts(planned(waiting(2, hold=Hold.ENTITY))) == [(MessageKind.ALERT, [2])]


def test_an_alert_after_a_window_without_another_goes_out_at_once() -> None:
    """Nothing came in the window, so it is over."""
    found = planned(waiting(9), now_ms=300_000, windows={b"a": 300_000})
    assert drafts(found) == [(MessageKind.ALERT, [9])]


def test_no_window_means_one_message_per_alert() -> None:
    """NOTIFIER_DIGEST_S=0."""
    found = planned(waiting(1), waiting(2), policy=a_policy(digest_ms=0))
    assert drafts(found) == [(MessageKind.ALERT, [1]), (MessageKind.ALERT, [2])]
    assert found.windows == {}


def test_what_is_above_the_limit_waits_for_one_summary() -> None:
    """All alerts wait for the same summary, which is sent although the limit is reached."""
    policy = a_policy(limit_per_hour=10)
    found = planned(*(waiting(n, str(n)) for n in range(5)), policy=policy, sent_in_hour=8)
    assert drafts(found) == [(MessageKind.ALERT, [0]), (MessageKind.ALERT, [1])]
    assert held(found) == [(n, Hold.LIMIT, 300_000) for n in (2, 3, 4)]
    more = planned(
        waiting(5, "x"), policy=policy, now_ms=9, sent_in_hour=10, summary_due_ms=300_000
    )
    assert held(more) == [(5, Hold.LIMIT, 300_000)]
    due = [waiting(n, str(n), hold=Hold.LIMIT) for n in (2, 3, 4, 5)]
    assert drafts(planned(*due, policy=policy, sent_in_hour=10)) == [
        (MessageKind.SUMMARY, [2, 3, 4, 5])
    ]


def test_quiet_hours_hold_back_until_their_end() -> None:
    """Also what was to go into a digest or a summary meanwhile; afterwards it is one message."""
    policy = a_policy(quiet=QUIET, breakthrough=Severity.HIGH)
    items = [waiting(1), waiting(2, hold=Hold.ENTITY), waiting(3, "b", hold=Hold.LIMIT)]
    found = planned(*items, policy=policy, now_ms=NIGHT_MS)
    morning_ms = 31 * HOUR_MS
    assert held(found) == [(n, Hold.QUIET, morning_ms) for n in (1, 2, 3)]
    due = [waiting(1, hold=Hold.QUIET), waiting(3, "b", hold=Hold.QUIET)]
    assert drafts(planned(*due, policy=policy, now_ms=morning_ms)) == [(MessageKind.QUIET, [1, 3])]


def test_a_severity_breaks_through_quiet_hours() -> None:
    """It is told as on any other hour."""
    policy = a_policy(quiet=QUIET, breakthrough=Severity.HIGH)
    items = [waiting(1, severity=Severity.HIGH), waiting(2, "b", severity=Severity.MEDIUM)]
    found = planned(*items, policy=policy, now_ms=NIGHT_MS)
    assert drafts(found) == [(MessageKind.ALERT, [1])]
    none = planned(*items, policy=a_policy(quiet=QUIET), now_ms=NIGHT_MS)
    assert drafts(none) == []


def test_a_message_tells_at_most_so_many() -> None:
    """The rest is in the next one."""
    due = [waiting(n, hold=Hold.LIMIT) for n in range(5)]
    found = planned(*due, policy=a_policy(max_alerts=2))
    assert [len(draft.content) for draft in found.drafts] == [2, 2, 1]


policies = st.builds(
    DestinationPolicy,
    digest_ms=st.sampled_from([0, 60_000, 300_000]),
    limit_per_hour=st.sampled_from([0, 1, 3, 20]),
    summary_ms=st.sampled_from([1, 60_000, 600_000]),
    quiet=st.sampled_from([None, QUIET, QuietHours.parse("00:30-00:31,00:31-01:00", UTC)]),
    breakthrough=st.sampled_from([None, *Severity]),
    max_alerts=st.sampled_from([2, 1000]),
)
arrivals = st.lists(
    st.tuples(
        st.integers(0, 300_000),
        st.sampled_from("abc"),
        st.sampled_from(list(Severity)),
    ),
    max_size=60,
)


@given(policies, arrivals, st.integers(0, 24 * HOUR_MS))
def test_each_alert_is_told_exactly_once_within_the_limit(
    policy: DestinationPolicy, steps: list[tuple[int, str, Severity]], now_ms: int
) -> None:
    """Over any history: all are told in the end, nobody twice, and no hour has too many messages."""
    windows: dict[bytes, int] = {}
    wait: dict[int, tuple[Waiting, int]] = {}
    told: Counter[int] = Counter()
    counted: list[int] = []

    def turn() -> None:
        due = [one for _, (one, due_ms) in sorted(wait.items()) if due_ms <= now_ms]
        summary = [
            due_ms for one, due_ms in wait.values() if one.hold is Hold.LIMIT and due_ms > now_ms
        ]
        found = plan(
            due,
            now_ms=now_ms,
            policy=policy,
            windows=windows,
            sent_in_hour=sum(made_ms > now_ms - HOUR_MS for made_ms in counted),
            summary_due_ms=min(summary, default=None),
        )
        windows.update(found.windows)
        for draft in found.drafts:
            assert len(draft.content) <= policy.max_alerts
            if draft.kind in COUNTED:
                counted.append(now_ms)
                assert len({one.entity for one in draft.content}) == 1
            for one in draft.content:
                told[one.number] += 1
                del wait[one.number]
        for one in found.held:
            assert one.due_ms > now_ms
            before = wait[one.number][0]
            again = Waiting(before.number, before.key, before.entity, before.severity, one.hold)
            wait[one.number] = (again, one.due_ms)

    for number, (pause_ms, entity, severity) in enumerate(steps):
        now_ms += pause_ms
        wait[number] = (waiting(number, entity, severity=severity), now_ms)
        turn()
    for _ in range(1000):
        if not wait:
            break
        now_ms = max(now_ms, min(due_ms for _, due_ms in wait.values()))
        turn()
    assert told == Counter(range(len(steps)))
    if policy.limit_per_hour:
        for at_ms in counted:
            assert sum(at_ms - HOUR_MS < ms <= at_ms for ms in counted) <= policy.limit_per_hour
