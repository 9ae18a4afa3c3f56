"""The ledger: one row per alert, one message per delivery, whatever replays and restarts."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fraud.contracts.times import DAY_MS, HOUR_MS
from notifier.ledger import Ledger, LedgerInUse, LedgerLock
from notifier.planning import Hold, MessageKind
from tests.support.alerts import TEAM, AlertPipeline, a_policy, an_alert

OTHER = "webhook:cases"


@pytest.fixture
def pipeline(tmp_path: Path) -> AlertPipeline:
    return AlertPipeline(tmp_path / "state")


def test_an_alert_is_recorded_once(pipeline: AlertPipeline) -> None:
    """In one batch or two."""
    assert pipeline.record(1, 2, 1) == 2
    assert pipeline.record(2, 3) == 1
    pipeline.compose()
    assert pipeline.pending() == [["evt-1"], ["evt-2"], ["evt-3"]]


def test_an_alert_of_an_earlier_versions_ledger_is_known(pipeline: AlertPipeline) -> None:
    """Those were keyed by ids alone; an event that reuses an id is another one."""
    alert = an_alert(1)
    assert alert.earlier_key is not None
    assert pipeline.record_all([replace(alert, key=alert.earlier_key, earlier_key=None)]) == 1
    assert pipeline.record_all([alert]) == 0
    reused = an_alert(1, marks=["EVENT_ID_REUSED"])
    assert pipeline.record_all([reused, reused]) == 1


@pytest.mark.parametrize("step_ms", [-HOUR_MS, 400 * DAY_MS, -400 * DAY_MS])
def test_a_step_of_the_clock_delays_and_forgets_nothing(
    pipeline: AlertPipeline, step_ms: int
) -> None:
    """Between two runs of the notifier: what was due is due, what waited has the same wait left."""
    pipeline.now_ms = 1_000 * DAY_MS
    pipeline.record(1)
    pipeline.compose()
    (told,) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.sent(told.number, now_ms=pipeline.now_ms)
    pipeline.record(2, 3)
    pipeline.record(4, entity="entity-1")
    pipeline.compose()  # the last one waits in its entity's window
    (second, _) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.postpone(second.number, "busy", due_ms=pipeline.now_ms + 30_000)
    pipeline.ledger.set_back_off("email", 1, pipeline.now_ms + 20_000)
    pipeline.ledger.saw(pipeline.now_ms)

    pipeline.now_ms += step_ms
    assert pipeline.ledger.adjust(pipeline.now_ms) == step_ms
    assert pipeline.pending() == [["evt-3"]]
    assert pipeline.ledger.back_off("email") == (1, pipeline.now_ms + 20_000)
    forgotten = pipeline.ledger.forget(
        closed_before_ms=pipeline.now_ms - 400 * DAY_MS, now_ms=pipeline.now_ms
    )
    assert forgotten == 0
    assert pipeline.record(1) == 0
    pipeline.now_ms += 30_000
    assert pipeline.pending() == [["evt-3"], ["evt-2"]]
    pipeline.now_ms += a_policy().digest_ms
    pipeline.compose()
    assert sorted(pipeline.pending()) == [["evt-2"], ["evt-3"], ["evt-4"]]
    assert pipeline.ledger.adjust(pipeline.now_ms) == 0


def test_an_alert_for_nobody_is_not_recorded(pipeline: AlertPipeline) -> None:
    """A route that is added later may tell it on a replay."""
    assert pipeline.ledger.record([an_alert(1)], lambda _: (), now_ms=0) == 0
    assert pipeline.record(1) == 1


def test_a_told_alert_is_never_told_again(pipeline: AlertPipeline) -> None:
    """A replay of it finds it told, in a new process and long after, too."""
    pipeline.record(1)
    pipeline.compose()
    (message,) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.sent(message.number, now_ms=5)
    pipeline.now_ms += 48 * HOUR_MS
    with Ledger(pipeline.path) as ledger:
        assert ledger.record([an_alert(1, "entity-1")], lambda _: [TEAM], now_ms=10) == 0
        assert ledger.accounts() == {}
        assert ledger.totals() == {TEAM: (1, 1)}


def test_what_everybody_was_told_keeps_no_content(pipeline: AlertPipeline) -> None:
    """Only hashes stay on the disk; as long as somebody is to be told, it is kept."""
    pipeline.record_all([an_alert(1)], TEAM, OTHER)
    for destination in (TEAM, OTHER):
        row = pipeline.ledger._db.execute("SELECT alert, entity FROM alerts").fetchone()
        assert None not in row
        pipeline.ledger.compose(destination, a_policy(), now_ms=pipeline.now_ms)
        (message,) = pipeline.ledger.pending([destination], now_ms=pipeline.now_ms, at_most=9)
        pipeline.ledger.sent(message.number, now_ms=5)
    row = pipeline.ledger._db.execute("SELECT alert, entity FROM alerts").fetchone()
    assert row == (None, None)


def test_a_message_stays_the_same_however_often_it_is_read(pipeline: AlertPipeline) -> None:
    """Its id and what it tells are fixed when it is made; what comes later is in another one."""
    pipeline.record(1, 2, entity="a")
    pipeline.compose()
    pipeline.now_ms += 300_000
    pipeline.compose()
    one, digest = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.record(3, entity="a")
    pipeline.compose()
    with Ledger(pipeline.path) as ledger:
        assert ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9) == [one, digest]
    assert one.id != digest.id


def test_the_same_alerts_make_the_same_id_in_another_ledger(tmp_path: Path) -> None:
    """And another one for another recipient, since it is another message."""
    ids = set()
    for name in ("one", "other"):
        pipeline = AlertPipeline(tmp_path / name)
        pipeline.record(1)
        pipeline.compose()
        (message,) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
        ids.add(message.id)
    pipeline.record_all([an_alert(9)], TEAM, OTHER)
    assert len(ids) == 1
    for destination in (TEAM, OTHER):
        pipeline.ledger.compose(destination, a_policy(), now_ms=pipeline.now_ms)
        ids.add(pipeline.ledger.pending([destination], now_ms=pipeline.now_ms, at_most=9)[-1].id)
    assert len(ids) == 3


def test_windows_and_limits_outlive_the_process(pipeline: AlertPipeline) -> None:
    """A restart tells nobody sooner, and nobody more."""
    policy = a_policy(limit_per_hour=2)
    pipeline.destination = pipeline.destination.__class__(TEAM, "email", "email", "x", policy)
    pipeline.record(1, 2, entity="a")
    pipeline.record(3)
    pipeline.compose()
    pipeline.ledger = Ledger(pipeline.path)
    pipeline.record(4)
    pipeline.record(5, entity="a")
    pipeline.compose()
    assert pipeline.pending() == [["evt-1"], ["evt-3"]]
    account = pipeline.ledger.accounts()[TEAM]
    assert account.waiting == {Hold.ENTITY: 2, Hold.LIMIT: 1}
    assert account.queue == 5
    pipeline.now_ms += 300_000
    pipeline.compose()
    # The digest finds no room either, and waits for the next summary.
    assert pipeline.pending() == [["evt-1"], ["evt-3"], ["evt-4"]]
    pipeline.now_ms += 300_000
    pipeline.compose()
    assert pipeline.pending() == [["evt-1"], ["evt-3"], ["evt-4"], ["evt-2", "evt-5"]]


def test_a_postponed_message_waits_its_time(pipeline: AlertPipeline) -> None:
    """Others go before it."""
    pipeline.record(1, 2)
    pipeline.compose()
    first, _ = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.postpone(first.number, "451", due_ms=pipeline.now_ms + 50)
    assert pipeline.pending() == [["evt-2"]]
    pipeline.now_ms += 50
    assert pipeline.pending() == [["evt-2"], ["evt-1"]]


def test_a_dead_letter_is_kept_until_someone_asks_for_it(pipeline: AlertPipeline) -> None:
    """A refusal for good is not tried again by itself, and is not lost either."""
    pipeline.record(1)
    pipeline.compose()
    (message,) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.failed(message.number, "550", now_ms=1)
    assert pipeline.record(1) == 0
    assert pipeline.pending() == []
    (letter,) = pipeline.ledger.dead_letters()
    assert (letter.problem, letter.event_ids, letter.kind) == ("550", ("evt-1",), MessageKind.ALERT)
    assert pipeline.ledger.accounts()[TEAM].failed == 1
    assert pipeline.ledger.retry_failed(message.number + 1) == 0
    assert pipeline.ledger.retry_failed() == 1
    assert pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9) == [message]


def test_what_is_for_a_removed_recipient_becomes_a_dead_letter(pipeline: AlertPipeline) -> None:
    """In a message or waiting for one: counted and listed, not silent; others are told."""
    pipeline.record_all([an_alert(1, "a"), an_alert(2, "a")], TEAM, OTHER)
    pipeline.compose()
    assert pipeline.ledger.abandon([OTHER], now_ms=pipeline.now_ms) == 2
    problems = [letter.problem for letter in pipeline.ledger.dead_letters()]
    assert problems == ["destination removed"] * 2
    assert pipeline.ledger.accounts()[OTHER].waiting == {None: 2}
    assert pipeline.ledger.abandon([OTHER], now_ms=pipeline.now_ms) == 0


def test_back_off_outlives_the_process(pipeline: AlertPipeline) -> None:
    """A restart does not hammer a server that is down."""
    assert pipeline.ledger.back_off("email") == (0, 0)
    pipeline.ledger.set_back_off("email", 4, 9_000)
    with Ledger(pipeline.path) as ledger:
        assert ledger.back_off("email") == (4, 9_000)


def test_only_old_told_alerts_are_forgotten(pipeline: AlertPipeline) -> None:
    """And refused ones as old; waiting ones stay, however old."""
    pipeline.record(0, 1, 2, 3, 4)
    pipeline.compose()
    messages = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.sent(messages[0].number, now_ms=10)
    pipeline.ledger.sent(messages[1].number, now_ms=20)
    pipeline.ledger.failed(messages[2].number, "550", now_ms=10)
    pipeline.ledger.failed(messages[4].number, "550", now_ms=20)
    assert pipeline.ledger.forget(closed_before_ms=20, now_ms=10**9) == 2
    assert [letter.event_ids for letter in pipeline.ledger.dead_letters()] == [("evt-4",)]
    account = pipeline.ledger.accounts()[TEAM]
    assert (account.failed, account.made) == (1, 1)
    assert pipeline.ledger.totals() == {TEAM: (1, 1)}
    assert pipeline.ledger._db.execute("SELECT count(*) FROM windows").fetchone() == (0,)


def test_a_dead_letter_stays_while_another_recipient_is_to_be_told(pipeline: AlertPipeline) -> None:
    """It goes, with what the alert says, when the last one is as old."""
    pipeline.record_all([an_alert(1)], TEAM, OTHER)
    pipeline.compose()
    (refused,) = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9)
    pipeline.ledger.failed(refused.number, "550", now_ms=10)
    assert pipeline.ledger.forget(closed_before_ms=20, now_ms=20) == 0
    pipeline.ledger.compose(OTHER, a_policy(), now_ms=pipeline.now_ms)
    (other,) = pipeline.ledger.pending([OTHER], now_ms=pipeline.now_ms, at_most=9)
    assert pipeline.ledger.forget(closed_before_ms=20, now_ms=20) == 0
    pipeline.ledger.sent(other.number, now_ms=30)
    assert pipeline.ledger.forget(closed_before_ms=30, now_ms=30) == 0
    assert len(pipeline.ledger.dead_letters()) == 1
    assert pipeline.ledger.forget(closed_before_ms=31, now_ms=31) == 1
    assert pipeline.ledger.dead_letters() == []
    for table in ("alerts", "deliveries", "messages"):
        (count,) = pipeline.ledger._db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        assert count == 0, table


def test_the_file_is_its_owners(pipeline: AlertPipeline) -> None:
    """Masked or not, alerts are nobody else's business."""
    assert stat.S_IMODE(pipeline.path.stat().st_mode) == 0o600


def test_a_second_owner_is_turned_away(tmp_path: Path) -> None:
    """Two notifiers on one ledger would send twice."""
    path = tmp_path / "notifier.db"
    with LedgerLock(path), pytest.raises(LedgerInUse, match=r"notifier\.db"), LedgerLock(path):
        pass
    with LedgerLock(path):
        pass


def test_a_ledger_of_a_later_version_is_left_alone(pipeline: AlertPipeline) -> None:
    """An older program cannot know what it holds."""
    pipeline.ledger._db.execute("PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="later version"):
        Ledger(pipeline.path)
