"""The ledger: every alert ever raised, and whether its mail went out. One SQLite file.

It holds masked data only (see `notifier.alerts.Alert`), and the alert itself no longer than it
takes to send it. Rows stay after that, so that a replay sends nothing, for a set number of days.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from notifier.alerts import Alert, KeyedAlert

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    number INTEGER PRIMARY KEY,     -- in the order of recording
    key BLOB NOT NULL UNIQUE,       -- see notifier.alerts.alert_key
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed')),
    alert TEXT,                     -- JSON, NULL once sent
    tries INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,        -- pending: not to be tried before
    recorded_ms INTEGER NOT NULL,
    closed_ms INTEGER,              -- when it was sent or failed
    problem TEXT                    -- code of the last failed try
);
CREATE INDEX IF NOT EXISTS alerts_due ON alerts (due_ms, number) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS alerts_closed ON alerts (closed_ms) WHERE state = 'sent';
PRAGMA user_version = 1;
"""
_VERSION: Final = 1


class LedgerInUse(Exception):  # noqa: N818 - said as it is
    """Another notifier has the ledger open."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An alert whose mail has to be sent.

    Attributes:
        key: See `notifier.alerts.alert_key`.
        alert: What the mail says.
        tries: Failed tries so far.
    """

    key: bytes
    alert: Alert
    tries: int


class LedgerLock:
    """Own a ledger for as long as this process lives, as a context manager.

    The system frees the lock when the process dies, however it dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise LedgerInUse(f"another notifier uses {self._path.with_suffix('')}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Ledger:
    """One connection to the ledger, as a context manager; each thread has its own.

    Every change is on the disk when its method returns.

    Args:
        path: The file, made with its folder when missing. Only its owner can read it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(
            path, timeout=30.0, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise RuntimeError(f"{path} was written by a later version of the notifier")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def record(self, alerts: Sequence[KeyedAlert], *, now_ms: int) -> int:
        """Record alerts as pending, but those that are known already.

        Returns:
            How many were new.
        """
        if not alerts:
            return 0
        before = self._db.total_changes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT INTO alerts (key, state, alert, due_ms, recorded_ms)"
                " VALUES (?, 'pending', ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                [(keyed.key, keyed.alert.model_dump_json(), now_ms, now_ms) for keyed in alerts],
            )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return self._db.total_changes - before

    def pending(self, *, now_ms: int, at_most: int) -> list[Pending]:
        """Give pending alerts whose time has come, those due longest first."""
        rows = self._db.execute(
            "SELECT key, alert, tries FROM alerts WHERE state = 'pending' AND due_ms <= ?"
            " ORDER BY due_ms, number LIMIT ?",
            (now_ms, at_most),
        )
        return [Pending(key, Alert.model_validate_json(alert), tries) for key, alert, tries in rows]

    def count(self, state: str = "pending") -> int:
        """Count the alerts in a state: `pending`, `sent` or `failed`."""
        row = self._db.execute("SELECT count(*) FROM alerts WHERE state = ?", (state,)).fetchone()
        return int(row[0])

    def sent(self, key: bytes, *, now_ms: int) -> None:
        """Record that the mail server took the mail; what it said is forgotten."""
        self._db.execute(
            "UPDATE alerts SET state = 'sent', alert = NULL, closed_ms = ?, problem = NULL"
            " WHERE key = ?",
            (now_ms, key),
        )

    def failed(self, key: bytes, problem: str, *, now_ms: int) -> None:
        """Record that the mail server refused the mail for good. The alert is kept."""
        self._db.execute(
            "UPDATE alerts SET state = 'failed', closed_ms = ?, tries = tries + 1, problem = ?"
            " WHERE key = ?",
            (now_ms, problem, key),
        )

    def postpone(self, key: bytes, problem: str, *, due_ms: int) -> None:
        """Record a failed try; the next one is not before `due_ms`."""
        self._db.execute(
            "UPDATE alerts SET due_ms = ?, tries = tries + 1, problem = ? WHERE key = ?",
            (due_ms, problem, key),
        )

    def retry_failed(self, *, now_ms: int) -> int:
        """Make all failed alerts pending again, once the cause is gone.

        Returns:
            How many.
        """
        return self._db.execute(
            "UPDATE alerts SET state = 'pending', due_ms = ?, closed_ms = NULL"
            " WHERE state = 'failed'",
            (now_ms,),
        ).rowcount

    def forget(self, *, sent_before_ms: int) -> int:
        """Delete alerts that were sent before a time: a replay of them would send again.

        Returns:
            How many.
        """
        return self._db.execute(
            "DELETE FROM alerts WHERE state = 'sent' AND closed_ms < ?", (sent_before_ms,)
        ).rowcount
