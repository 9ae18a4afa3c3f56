"""State of the stream across restarts: how far it was sent, and which labels are due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, Self

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS told (world TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels_due (
    label_time_ms INTEGER, event_id BLOB, fraud INTEGER NOT NULL, source INTEGER NOT NULL,
    PRIMARY KEY (label_time_ms, event_id)
) WITHOUT ROWID;
"""


class DueLabel(NamedTuple):
    """Label that is published when it becomes known.

    Attributes:
        label_time_ms: Time at which it becomes known, UTC epoch milliseconds.
        event_id: 16 bytes.
        fraud: 1 or 0.
        source: Index into `producer.labels.SOURCES`.
    """

    label_time_ms: int
    event_id: bytes
    fraud: int
    source: int


class StreamProgress:
    """State of the stream in one SQLite file.

    Args:
        path: Database file; its folder is created.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def sent_until_ms(self, world: str) -> int:
        """Return the time before which transactions of a world may have been sent; 0 if none were."""
        row = self._db.execute("SELECT until_ms FROM told WHERE world = ?", (world,)).fetchone()
        return int(row[0]) if row else 0

    def advance(self, world: str, until_ms: int, labels: Iterable[DueLabel]) -> None:
        """Record, before sending, that the transactions up to a time are sent, with their labels.

        A producer that is killed after this call skips unsent transactions rather than sending any
        twice: a transaction exists only once it is on Kafka.
        """
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (world, until_ms))
            self._db.executemany("INSERT OR IGNORE INTO labels_due VALUES (?, ?, ?, ?)", labels)

    def due(self, now_ms: int, limit: int = 1_000) -> list[DueLabel]:
        """Return labels that are known by now, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM labels_due WHERE label_time_ms <= ? ORDER BY label_time_ms, event_id LIMIT ?",
            (now_ms, limit),
        )
        return [DueLabel(*row) for row in rows]

    def published(self, labels: Iterable[DueLabel]) -> None:
        """Delete labels that Kafka has acknowledged."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(
                "DELETE FROM labels_due WHERE label_time_ms = ? AND event_id = ?",
                [(label.label_time_ms, label.event_id) for label in labels],
            )
