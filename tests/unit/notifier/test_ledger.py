"""The ledger: one row per alert, one message per delivery, whatever replays and restarts."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from fraud.contracts.times import HOUR_MS
from notifier.ledger import Ledger, LedgerInUse, LedgerLock
from notifier.planning import Hold, Kind
from tests.support.alerts import TEAM, Desk, a_policy, an_alert

OTHER = "webhook:cases"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state")


def test_an_alert_is_recorded_once(desk: Desk) -> None:
    """In one batch or two."""
    assert desk.record(1, 2, 1) == 2
    assert desk.record(2, 3) == 1
    desk.compose()
    assert desk.pending() == [["evt-1"], ["evt-2"], ["evt-3"]]


def test_an_alert_for_nobody_is_not_recorded(desk: Desk) -> None:
    """A route that is added later may tell it on a replay."""
    assert desk.ledger.record([an_alert(1)], lambda _: (), now_ms=0) == 0
    assert desk.record(1) == 1


def test_a_told_alert_is_never_told_again(desk: Desk) -> None:
    """A replay of it finds it told, in a new process and long after, too."""
    desk.record(1)
    desk.compose()
    (message,) = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.ledger.sent(message.number, now_ms=5)
    desk.now_ms += 48 * HOUR_MS
    with Ledger(desk.path) as ledger:
        assert ledger.record([an_alert(1, "entity-1")], lambda _: [TEAM], now_ms=10) == 0
        assert ledger.accounts() == {}
        assert ledger.totals() == {TEAM: (1, 1)}


def test_what_everybody_was_told_keeps_no_content(desk: Desk) -> None:
    """Only hashes stay on the disk; as long as somebody is to be told, it is kept."""
    desk.record_all([an_alert(1)], TEAM, OTHER)
    for destination in (TEAM, OTHER):
        row = desk.ledger._db.execute("SELECT alert, entity FROM alerts").fetchone()
        assert None not in row
        desk.ledger.compose(destination, a_policy(), now_ms=desk.now_ms)
        (message,) = desk.ledger.pending([destination], now_ms=desk.now_ms, at_most=9)
        desk.ledger.sent(message.number, now_ms=5)
    row = desk.ledger._db.execute("SELECT alert, entity FROM alerts").fetchone()
    assert row == (None, None)


def test_a_message_stays_the_same_however_often_it_is_read(desk: Desk) -> None:
    """Its id and what it tells are fixed when it is made; what comes later is in another one."""
    desk.record(1, 2, entity="a")
    desk.compose()
    desk.now_ms += 300_000
    desk.compose()
    one, digest = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.record(3, entity="a")
    desk.compose()
    with Ledger(desk.path) as ledger:
        assert ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9) == [one, digest]
    assert one.id != digest.id


def test_the_same_alerts_make_the_same_id_in_another_ledger(tmp_path: Path) -> None:
    """And another one for another recipient, since it is another message."""
    ids = set()
    for name in ("one", "other"):
        desk = Desk(tmp_path / name)
        desk.record(1)
        desk.compose()
        (message,) = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
        ids.add(message.id)
    desk.record_all([an_alert(9)], TEAM, OTHER)
    assert len(ids) == 1
    for destination in (TEAM, OTHER):
        desk.ledger.compose(destination, a_policy(), now_ms=desk.now_ms)
        ids.add(desk.ledger.pending([destination], now_ms=desk.now_ms, at_most=9)[-1].id)
    assert len(ids) == 3


def test_windows_and_limits_outlive_the_process(desk: Desk) -> None:
    """A restart tells nobody sooner, and nobody more."""
    policy = a_policy(limit_per_hour=2)
    desk.destination = desk.destination.__class__(TEAM, "email", "email", "x", policy)
    desk.record(1, 2, entity="a")
    desk.record(3)
    desk.compose()
    desk.ledger = Ledger(desk.path)
    desk.record(4)
    desk.record(5, entity="a")
    desk.compose()
    assert desk.pending() == [["evt-1"], ["evt-3"]]
    account = desk.ledger.accounts()[TEAM]
    assert account.waiting == {Hold.ENTITY: 2, Hold.LIMIT: 1}
    assert account.queue == 5
    desk.now_ms += 300_000
    desk.compose()
    # The digest finds no room either, and waits for the next summary.
    assert desk.pending() == [["evt-1"], ["evt-3"], ["evt-4"]]
    desk.now_ms += 300_000
    desk.compose()
    assert desk.pending() == [["evt-1"], ["evt-3"], ["evt-4"], ["evt-2", "evt-5"]]


def test_a_postponed_message_waits_its_time(desk: Desk) -> None:
    """Others go before it."""
    desk.record(1, 2)
    desk.compose()
    first, _ = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.ledger.postpone(first.number, "451", due_ms=desk.now_ms + 50)
    assert desk.pending() == [["evt-2"]]
    desk.now_ms += 50
    assert desk.pending() == [["evt-2"], ["evt-1"]]


def test_a_dead_letter_is_kept_until_someone_asks_for_it(desk: Desk) -> None:
    """A refusal for good is not tried again by itself, and is not lost either."""
    desk.record(1)
    desk.compose()
    (message,) = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.ledger.failed(message.number, "550", now_ms=1)
    assert desk.record(1) == 0
    assert desk.pending() == []
    (letter,) = desk.ledger.dead_letters()
    assert (letter.problem, letter.event_ids, letter.kind) == ("550", ("evt-1",), Kind.ALERT)
    assert desk.ledger.accounts()[TEAM].failed == 1
    assert desk.ledger.retry_failed(now_ms=3, message=message.number + 1) == 0
    assert desk.ledger.retry_failed(now_ms=3) == 1
    assert desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9) == [message]


def test_what_is_for_a_removed_recipient_becomes_a_dead_letter(desk: Desk) -> None:
    """In a message or waiting for one: counted and listed, not silent; others are told."""
    desk.record_all([an_alert(1, "a"), an_alert(2, "a")], TEAM, OTHER)
    desk.compose()
    assert desk.ledger.strand([OTHER], now_ms=desk.now_ms) == 2
    problems = [letter.problem for letter in desk.ledger.dead_letters()]
    assert problems == ["destination removed"] * 2
    assert desk.ledger.accounts()[OTHER].waiting == {None: 2}
    assert desk.ledger.strand([OTHER], now_ms=desk.now_ms) == 0


def test_back_off_outlives_the_process(desk: Desk) -> None:
    """A restart does not hammer a server that is down."""
    assert desk.ledger.back_off("email") == (0, 0)
    desk.ledger.set_back_off("email", 4, 9_000)
    with Ledger(desk.path) as ledger:
        assert ledger.back_off("email") == (4, 9_000)


def test_only_old_told_alerts_are_forgotten(desk: Desk) -> None:
    """And refused ones as old; waiting ones stay, however old."""
    desk.record(0, 1, 2, 3, 4)
    desk.compose()
    messages = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.ledger.sent(messages[0].number, now_ms=10)
    desk.ledger.sent(messages[1].number, now_ms=20)
    desk.ledger.failed(messages[2].number, "550", now_ms=10)
    desk.ledger.failed(messages[4].number, "550", now_ms=20)
    assert desk.ledger.forget(closed_before_ms=20, now_ms=10**9) == 2
    assert [letter.event_ids for letter in desk.ledger.dead_letters()] == [("evt-4",)]
    account = desk.ledger.accounts()[TEAM]
    assert (account.failed, account.made) == (1, 1)
    assert desk.ledger.totals() == {TEAM: (1, 1)}
    assert desk.ledger._db.execute("SELECT count(*) FROM windows").fetchone() == (0,)


def test_a_dead_letter_stays_while_another_recipient_is_to_be_told(desk: Desk) -> None:
    """It goes, with what the alert says, when the last one is as old."""
    desk.record_all([an_alert(1)], TEAM, OTHER)
    desk.compose()
    (refused,) = desk.ledger.pending([TEAM], now_ms=desk.now_ms, at_most=9)
    desk.ledger.failed(refused.number, "550", now_ms=10)
    assert desk.ledger.forget(closed_before_ms=20, now_ms=20) == 0
    desk.ledger.compose(OTHER, a_policy(), now_ms=desk.now_ms)
    (other,) = desk.ledger.pending([OTHER], now_ms=desk.now_ms, at_most=9)
    assert desk.ledger.forget(closed_before_ms=20, now_ms=20) == 0
    desk.ledger.sent(other.number, now_ms=30)
    assert desk.ledger.forget(closed_before_ms=30, now_ms=30) == 0
    assert len(desk.ledger.dead_letters()) == 1
    assert desk.ledger.forget(closed_before_ms=31, now_ms=31) == 1
    assert desk.ledger.dead_letters() == []
    for table in ("alerts", "deliveries", "messages"):
        (count,) = desk.ledger._db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        assert count == 0, table


def test_the_file_is_its_owners(desk: Desk) -> None:
    """Masked or not, alerts are nobody else's business."""
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o600


def test_a_second_owner_is_turned_away(tmp_path: Path) -> None:
    """Two notifiers on one ledger would send twice."""
    path = tmp_path / "notifier.db"
    with LedgerLock(path), pytest.raises(LedgerInUse, match=r"notifier\.db"), LedgerLock(path):
        pass
    with LedgerLock(path):
        pass


def test_a_ledger_of_a_later_version_is_left_alone(desk: Desk) -> None:
    """An older program cannot know what it holds."""
    desk.ledger._db.execute("PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="later version"):
        Ledger(desk.path)


def test_a_ledger_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """What it had sent stays sent, what it had pending or refused is told; once, and of any size."""
    path = tmp_path / "notifier.db"
    old = sqlite3.connect(path)
    old.executescript(
        """CREATE TABLE alerts (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE,
        state TEXT NOT NULL, alert TEXT, tries INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL,
        recorded_ms INTEGER NOT NULL, closed_ms INTEGER, problem TEXT);
        CREATE INDEX alerts_due ON alerts (due_ms, number) WHERE state = 'pending';
        CREATE INDEX alerts_closed ON alerts (closed_ms) WHERE state = 'sent';
        PRAGMA user_version = 1;"""
    )
    for number, state in enumerate(("sent", "pending", "failed"), 1):
        keyed = an_alert(number, f"entity-{number}")
        exclude = {"outcome", "severity", "lists"}
        text = None if state == "sent" else keyed.alert.model_dump_json(exclude=exclude)
        closed_ms = 5 if state == "sent" else None
        old.execute(
            "INSERT INTO alerts (key, state, alert, due_ms, recorded_ms, closed_ms)"
            " VALUES (?, ?, ?, 0, 0, ?)",
            (keyed.key, state, text, closed_ms),
        )
    old.commit()
    old.close()
    desk = Desk(tmp_path)
    assert desk.ledger.adopt(lambda _: [TEAM], now_ms=desk.now_ms) == 2
    assert desk.ledger.adopt(lambda _: [TEAM], now_ms=desk.now_ms) == 0
    assert desk.record(1, 2, 3) == 0
    desk.compose()
    assert desk.pending() == [["evt-2"], ["evt-3"]]
