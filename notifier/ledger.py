"""The ledger of alerts, deliveries and messages, in one SQLite file.

An alert is recorded once, with one delivery per recipient. A delivery waits until it is put into a
message; a message is sent, or refused for good and kept as a dead letter. The alerts of a message
are fixed in the transaction that creates it, so every try sends the same content with the same id.

The ledger holds masked data only (see `notifier.alerts.Alert`). The content of an alert is deleted
once all its recipients got it. Its row stays for a set number of days, so that a replay sends no
alert again; dead letters stay that long with their content.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fraud.contracts.times import DAY_MS, HOUR_MS
from notifier.alerts import Alert, KeyedAlert, Severity
from notifier.planning import (
    COUNTED,
    DestinationPolicy,
    Draft,
    Hold,
    MessageKind,
    MessagePlan,
    Waiting,
    plan,
)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    number INTEGER PRIMARY KEY,     -- in the order of recording
    key BLOB NOT NULL UNIQUE,       -- see notifier.alerts.alert_key
    entity BLOB,                    -- see notifier.alerts.entity_tag; NULL once everybody is told
    alert TEXT,                     -- JSON, NULL once everybody is told
    severity TEXT NOT NULL,
    decided_ms INTEGER,             -- when Kafka got the decision
    recorded_ms INTEGER NOT NULL,
    closed_ms INTEGER               -- when the last one was told
);
CREATE INDEX IF NOT EXISTS alerts_closed ON alerts (closed_ms) WHERE closed_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,     -- in the order of making
    destination TEXT NOT NULL,      -- see notifier.routing.Destination.id
    id TEXT NOT NULL,               -- the same however often it is sent
    kind TEXT NOT NULL,             -- see notifier.planning.MessageKind
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,        -- pending: not to be tried before
    made_ms INTEGER NOT NULL,
    closed_ms INTEGER,              -- when it was sent or failed
    problem TEXT                    -- code of the last failed try
);
CREATE INDEX IF NOT EXISTS messages_due ON messages (destination, due_ms, number) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS messages_made ON messages (destination, made_ms);
CREATE INDEX IF NOT EXISTS messages_failed ON messages (number) WHERE state = 'failed';
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY,
    alert INTEGER NOT NULL REFERENCES alerts (number) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'made', 'sent', 'failed')),
    hold TEXT,                      -- waiting: what for, see notifier.planning.Hold; NULL = new
    due_ms INTEGER NOT NULL,        -- waiting: until when
    message INTEGER REFERENCES messages (number),
    UNIQUE (alert, destination)
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (destination, due_ms) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS deliveries_open ON deliveries (destination, state, hold) WHERE state <> 'sent';
CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message);
CREATE TABLE IF NOT EXISTS windows (
    destination TEXT NOT NULL,
    entity BLOB NOT NULL,
    until_ms INTEGER NOT NULL,      -- alerts of this entity are gathered until then
    PRIMARY KEY (destination, entity)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transports (
    name TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,      -- failed tries in a row
    retry_ms INTEGER NOT NULL       -- not to be tried before
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seen_ms INTEGER NOT NULL        -- the notifier's time when it last ran
);
PRAGMA user_version = 2;
"""
_VERSION: Final = 2
_BACK_MS: Final = -5_000
_LONGEST_PAUSE_MS: Final = 7 * DAY_MS
"""A notifier that was off for longer may have been started by a clock that is wrong."""
_BATCH: Final = 2000
_TIMES: Final = {
    "alerts": ("recorded_ms", "closed_ms"),
    "messages": ("due_ms", "made_ms", "closed_ms"),
    "deliveries": ("due_ms",),
    "windows": ("until_ms",),
    "transports": ("retry_ms",),
}
"""Columns that go by the notifier's clock; `decided_ms` is Kafka's."""


class LedgerInUse(Exception):
    """Another notifier has the ledger open."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to one destination that is to be sent.

    Attributes:
        number: Row number in the ledger.
        id: Id that recipients see, hexadecimal; the same at every try.
        destination: See `notifier.routing.Destination.id`.
        kind: Kind of message.
        alerts: Alerts in the message, in the order of recording.
        tries: Failed tries so far.
        made_ms: When the message was composed, UTC epoch milliseconds.
        decided_ms: When Kafka received the earliest of the decisions, UTC epoch milliseconds; None
            means unknown.
    """

    number: int
    id: str
    destination: str
    kind: MessageKind
    alerts: tuple[Alert, ...]
    tries: int
    made_ms: int
    decided_ms: int | None


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message that was refused for good.

    Attributes:
        number: Row number in the ledger.
        destination: See `notifier.routing.Destination.id`.
        kind: Kind of message.
        problem: Code of the refusal.
        failed_ms: When the message was refused, UTC epoch milliseconds.
        event_ids: Events of the alerts in the message.
    """

    number: int
    destination: str
    kind: MessageKind
    problem: str
    failed_ms: int
    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of the alerts that a destination has not received.

    Attributes:
        waiting: Alerts in no message yet, by the reason for waiting; None = new.
        made: Alerts in a message that is not sent yet.
        failed: Alerts in a dead letter.
    """

    waiting: Mapping[Hold | None, int]
    made: int
    failed: int

    @property
    def queue(self) -> int:
        """Number of alerts still to be sent."""
        return sum(self.waiting.values()) + self.made


class LedgerLock:
    """Holds the exclusive lock of a ledger, as a context manager.

    The operating system releases the lock when the process ends, even if it is killed.
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

    Changes are on disk when their method returns.

    Args:
        path: The file, created with its folder if missing. Only its owner can read it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(
            path, timeout=30.0, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        # In WAL mode only FULL syncs every commit to disk, on which the Kafka commit relies.
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise RuntimeError(f"{path} was written by a later version of the notifier")
        self._db.executescript(_SCHEMA)
        self._db.execute("PRAGMA foreign_keys = ON")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Clock

    def saw(self, now_ms: int) -> None:
        """Note the notifier's time, from which `adjust` tells a step of the clock."""
        self._db.execute(
            "INSERT INTO clock VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET seen_ms = ?",
            (now_ms, now_ms),
        )

    def adjust(self, now_ms: int) -> int:
        """Move all times by the step that the clock made since the notifier last ran.

        Waits then end when they would have, and no alert is older than it was. A step ahead cannot
        be told from a pause, so it counts as one when it is longer than a week.

        Returns:
            The step, milliseconds; 0 without one.
        """
        row = self._db.execute("SELECT seen_ms FROM clock").fetchone()
        step_ms = now_ms - row[0] if row else 0
        if _BACK_MS <= step_ms <= _LONGEST_PAUSE_MS:
            step_ms = 0
        with self._change():
            self.saw(now_ms)
            if step_ms:
                for table, columns in _TIMES.items():
                    moved = ", ".join(f"{column} = {column} + :step" for column in columns)
                    self._db.execute(f"UPDATE {table} SET {moved}", {"step": step_ms})  # noqa: S608 - names of ours
                # Quiet hours are by the time of the day, and so are planned again.
                self._db.execute(
                    "UPDATE deliveries SET due_ms = ? WHERE state = 'waiting' AND hold = ?",
                    (now_ms, Hold.QUIET),
                )
        return step_ms

    # Recording

    def record(
        self,
        alerts: Sequence[KeyedAlert],
        recipients: Callable[[Alert], Sequence[str]],
        *,
        now_ms: int,
    ) -> int:
        """Record alerts with their deliveries, except alerts that the ledger already has.

        Args:
            alerts: Alerts with their keys.
            recipients: Returns the destinations of an alert; alerts without any are not recorded.
            now_ms: Time now, UTC epoch milliseconds.

        Returns:
            Number of new alerts.
        """
        routed = [(keyed, recipients(keyed.alert)) for keyed in alerts]
        if not any(ids for _, ids in routed):
            return 0
        new = 0
        with self._change():
            for keyed, ids in routed:
                if ids:
                    new += self._record(keyed, ids, now_ms)
        return new

    def _record(self, keyed: KeyedAlert, ids: Sequence[str], now_ms: int) -> bool:
        row = (
            keyed.key,
            keyed.entity,
            keyed.alert.model_dump_json(),
            keyed.alert.severity,
            keyed.decided_ms,
            now_ms,
            keyed.earlier_key,
        )
        found = self._db.execute(
            "INSERT INTO alerts (key, entity, alert, severity, decided_ms, recorded_ms)"
            " SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM alerts WHERE key = ?)"
            " ON CONFLICT (key) DO NOTHING RETURNING number",
            row,
        ).fetchone()
        if found is not None:
            self._deliver(found[0], ids, now_ms)
        return found is not None

    def _deliver(self, alert: int, ids: Sequence[str], now_ms: int) -> None:
        self._db.executemany(
            "INSERT INTO deliveries (alert, destination, state, due_ms)"
            " VALUES (?, ?, 'waiting', ?)",
            [(alert, destination, now_ms) for destination in ids],
        )

    def abandon(self, known: Sequence[str], *, now_ms: int) -> int:
        """Turn unsent alerts of destinations that are no longer configured into dead letters.

        Args:
            known: Ids of the configured destinations.
            now_ms: Time now, UTC epoch milliseconds.

        Returns:
            Number of deliveries that became dead letters.
        """
        places = ",".join("?" * len(known))
        elsewhere = f"destination NOT IN ({places})"
        with self._change():
            gone = self._db.execute(
                "SELECT DISTINCT destination FROM deliveries"  # noqa: S608 - placeholders only
                f" WHERE state IN ('waiting', 'made') AND {elsewhere}",
                tuple(known),
            ).fetchall()
            count = 0
            for (destination,) in gone:
                count += self._fail_all(destination, now_ms)
        return count

    def _fail_all(self, destination: str, now_ms: int) -> int:
        # Dead letters are messages, so deliveries that still wait are put into messages first.
        waiting = self._waiting(destination, None)
        for start in range(0, len(waiting), _BATCH):
            content = tuple(waiting[start : start + _BATCH])
            kind = MessageKind.ALERT if len(content) == 1 else MessageKind.SUMMARY
            self._make(destination, Draft(kind, content), now_ms)
        count = self._db.execute(
            "UPDATE deliveries SET state = 'failed' WHERE destination = ? AND state = 'made'",
            (destination,),
        ).rowcount
        self._db.execute(
            "UPDATE messages SET state = 'failed', closed_ms = ?, problem = 'destination removed'"
            " WHERE destination = ? AND state = 'pending'",
            (now_ms, destination),
        )
        return count

    # Composing messages

    def compose(
        self,
        destination: str,
        policy: DestinationPolicy,
        *,
        now_ms: int,
        wall_ms: int | None = None,
    ) -> int:
        """Plan deliveries of a destination that are due: put them into messages or hold them back.

        Args:
            destination: Id of the destination.
            policy: Its limits.
            now_ms: See `plan`.
            wall_ms: See `plan`.

        Returns:
            Number of deliveries planned. A call plans a limited number: call again until it is 0.
        """
        due = self._db.execute(
            "SELECT 1 FROM deliveries WHERE destination = ? AND state = 'waiting' AND due_ms <= ?",
            (destination, now_ms),
        ).fetchone()
        if due is None:
            return 0
        with self._change():
            waiting = self._waiting(destination, now_ms)
            found = plan(
                waiting,
                now_ms=now_ms,
                policy=policy,
                windows=self._windows(destination, now_ms),
                sent_in_hour=self._sent_in_hour(destination, now_ms),
                summary_due_ms=self._summary_due_ms(destination, now_ms),
                wall_ms=wall_ms,
            )
            self._apply(destination, found, now_ms)
        return len(waiting)

    def _waiting(self, destination: str, until_ms: int | None) -> list[Waiting]:
        rows = self._db.execute(
            "SELECT deliveries.number, key, entity, severity, hold"
            " FROM deliveries JOIN alerts ON alerts.number = deliveries.alert"
            " WHERE destination = ? AND state = 'waiting' AND due_ms <= ?"
            " ORDER BY deliveries.number LIMIT ?",
            (
                destination,
                2**62 if until_ms is None else until_ms,
                -1 if until_ms is None else _BATCH,
            ),
        )
        return [
            Waiting(number, key, entity, Severity(severity), None if hold is None else Hold(hold))
            for number, key, entity, severity, hold in rows
        ]

    def _windows(self, destination: str, now_ms: int) -> dict[bytes, int]:
        return dict(
            self._db.execute(
                "SELECT entity, until_ms FROM windows WHERE destination = ? AND until_ms > ?",
                (destination, now_ms),
            ).fetchall()
        )

    def _sent_in_hour(self, destination: str, now_ms: int) -> int:
        kinds = ",".join("?" * len(COUNTED))
        row = self._db.execute(
            "SELECT count(*) FROM messages"  # noqa: S608 - placeholders only
            f" WHERE destination = ? AND made_ms > ? AND kind IN ({kinds})",
            (destination, now_ms - HOUR_MS, *COUNTED),
        ).fetchone()
        return int(row[0])

    def _summary_due_ms(self, destination: str, now_ms: int) -> int | None:
        row = self._db.execute(
            "SELECT min(due_ms) FROM deliveries"
            " WHERE destination = ? AND state = 'waiting' AND hold = ? AND due_ms > ?",
            (destination, Hold.LIMIT, now_ms),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def _apply(self, destination: str, found: MessagePlan, now_ms: int) -> None:
        for draft in found.drafts:
            self._make(destination, draft, now_ms)
        self._db.executemany(
            "UPDATE deliveries SET hold = ?, due_ms = ? WHERE number = ?",
            [(held.hold, held.due_ms, held.number) for held in found.held],
        )
        self._db.executemany(
            "INSERT INTO windows (destination, entity, until_ms) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET until_ms = excluded.until_ms",
            [(destination, entity, until_ms) for entity, until_ms in found.windows.items()],
        )

    def _make(self, destination: str, draft: Draft, now_ms: int) -> None:
        # Each alert goes to a destination once, so the id is unique; it reveals neither of them.
        name = hashlib.sha256(destination.encode())
        for waiting in draft.content:
            name.update(waiting.key)
        number = self._db.execute(
            "INSERT INTO messages (destination, id, kind, state, due_ms, made_ms)"
            " VALUES (?, ?, ?, 'pending', ?, ?)",
            (destination, name.hexdigest()[:40], draft.kind, now_ms, now_ms),
        ).lastrowid
        self._db.executemany(
            "UPDATE deliveries SET state = 'made', hold = NULL, message = ? WHERE number = ?",
            [(number, waiting.number) for waiting in draft.content],
        )

    # Sending

    def pending(
        self, destinations: Sequence[str], *, now_ms: int, at_most: int
    ) -> list[OutgoingMessage]:
        """Return messages to the given destinations that are due, the longest due first."""
        places = ",".join("?" * len(destinations))
        rows = self._db.execute(
            "SELECT number, id, destination, kind, tries, made_ms FROM messages"  # noqa: S608 - placeholders only
            f" WHERE state = 'pending' AND destination IN ({places}) AND due_ms <= ?"
            " ORDER BY due_ms, number LIMIT ?",
            (*destinations, now_ms, at_most),
        ).fetchall()
        return [self._message(*row) for row in rows]

    def _message(
        self, number: int, name: str, destination: str, kind: str, tries: int, made_ms: int
    ) -> OutgoingMessage:
        rows = self._content(number)
        alerts = tuple(Alert.model_validate_json(text) for text, _ in rows)
        decided_ms = min((ms for _, ms in rows if ms is not None), default=None)
        return OutgoingMessage(
            number, name, destination, MessageKind(kind), alerts, tries, made_ms, decided_ms
        )

    def _content(self, message: int) -> list[tuple[str, int | None]]:
        return self._db.execute(
            "SELECT alerts.alert, decided_ms FROM deliveries"
            " JOIN alerts ON alerts.number = deliveries.alert"
            " WHERE message = ? ORDER BY deliveries.number",
            (message,),
        ).fetchall()

    def sent(self, message: int, *, now_ms: int) -> None:
        """Record that a message was sent; delete the content of alerts that all recipients got."""
        with self._change():
            self._db.execute(
                "UPDATE messages SET state = 'sent', closed_ms = ?, problem = NULL"
                " WHERE number = ?",
                (now_ms, message),
            )
            self._db.execute("UPDATE deliveries SET state = 'sent' WHERE message = ?", (message,))
            self._db.execute(
                "UPDATE alerts SET alert = NULL, entity = NULL, closed_ms = ? WHERE number IN"
                " (SELECT alert FROM deliveries WHERE message = ?) AND NOT EXISTS"
                " (SELECT 1 FROM deliveries AS other WHERE other.alert = alerts.number"
                " AND other.state <> 'sent')",
                (now_ms, message),
            )

    def failed(self, message: int, problem: str, *, now_ms: int) -> None:
        """Record that a message was refused for good; its content is kept as a dead letter."""
        with self._change():
            self._db.execute(
                "UPDATE messages SET state = 'failed', closed_ms = ?, tries = tries + 1,"
                " problem = ? WHERE number = ?",
                (now_ms, problem, message),
            )
            self._db.execute("UPDATE deliveries SET state = 'failed' WHERE message = ?", (message,))

    def postpone(self, message: int, problem: str, *, due_ms: int) -> None:
        """Record a failed try and the time of the next one, UTC epoch milliseconds."""
        self._db.execute(
            "UPDATE messages SET due_ms = ?, tries = tries + 1, problem = ? WHERE number = ?",
            (due_ms, problem, message),
        )

    def back_off(self, transport: str) -> tuple[int, int]:
        """Return a transport's failures in a row and the time of its next try, UTC epoch ms.

        Both are 0 for a transport that works or was never used.
        """
        row = self._db.execute(
            "SELECT failures, retry_ms FROM transports WHERE name = ?", (transport,)
        ).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def set_back_off(self, transport: str, failures: int, retry_ms: int) -> None:
        """Store what `back_off` returns, so that a restart keeps waiting."""
        self._db.execute(
            "INSERT INTO transports (name, failures, retry_ms) VALUES (?, ?, ?) ON CONFLICT"
            " DO UPDATE SET failures = excluded.failures, retry_ms = excluded.retry_ms",
            (transport, failures, retry_ms),
        )

    # Dead letters, counts, deletion by age

    def dead_letters(self) -> list[FailedMessage]:
        """Return the messages that were refused for good, in the order of their creation."""
        rows = self._db.execute(
            "SELECT number, destination, kind, problem, closed_ms FROM messages"
            " WHERE state = 'failed' ORDER BY number"
        ).fetchall()
        return [
            FailedMessage(
                number,
                destination,
                MessageKind(kind),
                problem,
                closed_ms,
                tuple(
                    Alert.model_validate_json(text).event_id for text, _ in self._content(number)
                ),
            )
            for number, destination, kind, problem, closed_ms in rows
        ]

    def retry_failed(self, message: int | None = None) -> int:
        """Queue dead letters to be sent again at once, whatever the notifier's clock says.

        Args:
            message: Number of the only message to retry; None means all.

        Returns:
            Number of messages queued.
        """
        with self._change():
            numbers = self._db.execute(
                "UPDATE messages SET state = 'pending', due_ms = 0, closed_ms = NULL, tries = 0"
                " WHERE state = 'failed' AND (? IS NULL OR number = ?) RETURNING number",
                (message, message),
            ).fetchall()
            self._db.executemany("UPDATE deliveries SET state = 'made' WHERE message = ?", numbers)
        return len(numbers)

    def accounts(self) -> dict[str, Account]:
        """Return the counts of every destination with unsent or failed alerts, by its id."""
        found: dict[str, dict[tuple[str, str | None], int]] = {}
        for destination, state, hold, count in self._db.execute(
            "SELECT destination, state, hold, count(*) FROM deliveries WHERE state <> 'sent'"
            " GROUP BY destination, state, hold"
        ):
            found.setdefault(destination, {})[state, hold] = count
        return {
            destination: Account(
                waiting={
                    None if hold is None else Hold(hold): count
                    for (state, hold), count in counts.items()
                    if state == "waiting"
                },
                made=counts.get(("made", None), 0),
                failed=counts.get(("failed", None), 0),
            )
            for destination, counts in found.items()
        }

    def due_since(self, destination: str) -> int | None:
        """Return the time since which something for a destination has been due.

        Returns:
            UTC epoch milliseconds, in the future if everything is held back until then; None when
            nothing waits.
        """
        found = self._db.execute(
            "SELECT min(due_ms) FROM deliveries WHERE destination = ? AND state = 'waiting'"
            " UNION ALL"
            " SELECT min(made_ms) FROM messages WHERE destination = ? AND state = 'pending'",
            (destination, destination),
        ).fetchall()
        return min((ms for (ms,) in found if ms is not None), default=None)

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of alerts and of messages sent to each destination.

        Alerts that `forget` deleted are not counted.
        """
        alerts = self._db.execute(
            "SELECT destination, count(*) FROM deliveries WHERE state = 'sent' GROUP BY 1"
        ).fetchall()
        messages = dict(
            self._db.execute(
                "SELECT destination, count(*) FROM messages WHERE state = 'sent' GROUP BY 1"
            ).fetchall()
        )
        return {name: (count, messages.get(name, 0)) for name, count in alerts}

    def forget(self, *, closed_before_ms: int, now_ms: int) -> int:
        """Delete alerts that were sent or refused for good before a time, with their messages.

        A replay would send them again.

        Args:
            closed_before_ms: Time up to which alerts are deleted, UTC epoch milliseconds.
            now_ms: Time now, UTC epoch milliseconds; windows that have ended are deleted, too.

        Returns:
            Number of alerts deleted.
        """
        with self._change():
            count = self._db.execute(
                "DELETE FROM alerts WHERE closed_ms < ?", (closed_before_ms,)
            ).rowcount
            # Alerts in dead letters have no closed_ms: they go once all their messages are old.
            count += self._db.execute(
                "DELETE FROM alerts WHERE number IN (SELECT alert FROM messages JOIN deliveries"
                " ON deliveries.message = messages.number"
                " WHERE messages.state = 'failed' AND messages.closed_ms < ?)"
                " AND NOT EXISTS (SELECT 1 FROM deliveries AS other"
                " LEFT JOIN messages ON messages.number = other.message"
                " WHERE other.alert = alerts.number"
                " AND (messages.closed_ms IS NULL OR messages.closed_ms >= ?))",
                (closed_before_ms, closed_before_ms),
            ).rowcount
            if count:
                self._db.execute(
                    "DELETE FROM messages WHERE state <> 'pending' AND closed_ms < ? AND NOT EXISTS"
                    " (SELECT 1 FROM deliveries WHERE message = messages.number)",
                    (closed_before_ms,),
                )
            self._db.execute("DELETE FROM windows WHERE until_ms < ?", (now_ms,))
        return count
