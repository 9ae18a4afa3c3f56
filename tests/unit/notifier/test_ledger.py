"""The ledger remembers every alert, across replays and restarts."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from notifier.alerts import KeyedAlert, read_alert
from notifier.ledger import Ledger, LedgerInUse, LedgerLock
from tests.builders import a_processed


def an_alert(number: int) -> KeyedAlert:
    keyed = read_alert(a_processed({"event_id": f"evt-{number}"}))
    assert keyed is not None
    return keyed


def due(ledger: Ledger, now_ms: int = 0) -> list[str]:
    return [pending.alert.event_id for pending in ledger.pending(now_ms=now_ms, at_most=100)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "notifier.db"


def test_an_alert_is_pending_once(path: Path) -> None:
    """Recorded twice, in one batch or two, it is one."""
    with Ledger(path) as ledger:
        assert ledger.record([an_alert(1), an_alert(2), an_alert(1)], now_ms=0) == 2
        assert ledger.record([an_alert(2), an_alert(3)], now_ms=0) == 1
        assert due(ledger) == ["evt-1", "evt-2", "evt-3"]


def test_a_sent_alert_is_never_due_again(path: Path) -> None:
    """A replay of it finds it sent, in a new process, too."""
    with Ledger(path) as ledger:
        ledger.record([an_alert(1)], now_ms=0)
        ledger.sent(an_alert(1).key, now_ms=5)
    with Ledger(path) as ledger:
        assert ledger.record([an_alert(1)], now_ms=10) == 0
        assert due(ledger, 1000) == []
        assert ledger.count("sent") == 1


def test_a_sent_alert_keeps_no_content(path: Path) -> None:
    """Only the hash stays on the disk."""
    with Ledger(path) as ledger:
        ledger.record([an_alert(1)], now_ms=0)
        ledger.sent(an_alert(1).key, now_ms=5)
        row = ledger._db.execute("SELECT alert FROM alerts").fetchone()
    assert row == (None,)


def test_another_connection_sees_what_was_recorded(path: Path) -> None:
    """The thread that sends has its own."""
    with Ledger(path) as one, Ledger(path) as other:
        one.record([an_alert(1)], now_ms=0)
        assert due(other) == ["evt-1"]


def test_a_postponed_alert_waits_its_time(path: Path) -> None:
    """Others go before it."""
    with Ledger(path) as ledger:
        ledger.record([an_alert(1), an_alert(2)], now_ms=0)
        ledger.postpone(an_alert(1).key, "451", due_ms=50)
        assert due(ledger, 49) == ["evt-2"]
        assert due(ledger, 50) == ["evt-2", "evt-1"]
        assert [pending.tries for pending in ledger.pending(now_ms=50, at_most=9)] == [0, 1]


def test_a_failed_alert_is_kept_until_someone_asks_for_it(path: Path) -> None:
    """A refusal for good is not tried again by itself, and not lost either."""
    with Ledger(path) as ledger:
        ledger.record([an_alert(1)], now_ms=0)
        ledger.failed(an_alert(1).key, "550", now_ms=1)
        assert ledger.record([an_alert(1)], now_ms=2) == 0
        assert due(ledger, 1000) == []
        assert ledger.count("failed") == 1
        assert ledger.retry_failed(now_ms=3) == 1
        assert due(ledger, 3) == ["evt-1"]


def test_only_old_sent_alerts_are_forgotten(path: Path) -> None:
    """Pending and failed ones stay, however old."""
    with Ledger(path) as ledger:
        ledger.record([an_alert(number) for number in range(4)], now_ms=0)
        ledger.sent(an_alert(0).key, now_ms=10)
        ledger.sent(an_alert(1).key, now_ms=20)
        ledger.failed(an_alert(2).key, "550", now_ms=10)
        assert ledger.forget(sent_before_ms=20) == 1
        assert (ledger.count("sent"), ledger.count("failed"), ledger.count()) == (1, 1, 1)


def test_the_file_is_its_owners(path: Path) -> None:
    """Masked or not, alerts are nobody else's business."""
    with Ledger(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_owner_is_turned_away(path: Path) -> None:
    """Two notifiers on one ledger would send twice."""
    with LedgerLock(path), pytest.raises(LedgerInUse, match=r"notifier\.db"), LedgerLock(path):
        pass
    with LedgerLock(path):
        pass


def test_a_ledger_of_a_later_version_is_left_alone(path: Path) -> None:
    """An older program cannot know what it holds."""
    with Ledger(path) as ledger:
        ledger._db.execute("PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="later version"):
        Ledger(path)
