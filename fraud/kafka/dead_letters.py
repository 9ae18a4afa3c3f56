"""Reading of dead letters, and the record of those that were sent back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fraud.contracts.dead_letter import (
    CUT_HEADERS,
    ERROR_CODE,
    ERROR_MESSAGE,
    FAILED_AT,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
)
from fraud.contracts.personal import mask
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Feed

UNKNOWN: Final = "unknown"
"""Error code of a record on the topic that no part of ours wrote: it lacks the headers."""

_MAX_TEXT: Final = 1024
_MAX_TOPIC: Final = 249
_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecordPosition:
    """Coordinates of a record.

    Attributes:
        topic: Physical name of the topic.
        partition: Number of the partition.
        offset: Offset in the partition.
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of `transactions.dlq`.

    Attributes:
        message: The record; its key and value are the input's own bytes.
        error_code: One of `ErrorCode`, or `UNKNOWN`.
        error_message: Error text, with personal data masked.
        failed_at: Time of the failure as its header states it, empty if unknown.
        source: Coordinates of the input, None if the headers do not state them.
        is_cut: Whether the input's key or value was too long and is truncated.
    """

    message: Message
    error_code: str
    error_message: str
    failed_at: str
    source: RecordPosition | None
    is_cut: bool

    @property
    def place(self) -> RecordPosition:
        """Coordinates of the dead letter itself."""
        return RecordPosition(self.message.topic, self.message.partition, self.message.offset)

    @property
    def id(self) -> str:
        """Coordinates of the input: an input refused twice, as after a restart, is one dead letter."""
        return str(self.source or self.place)


def to_dead_letter(message: Message) -> DeadLetter:
    """Parse one record of `transactions.dlq`; any record is accepted."""
    headers = {name: value or b"" for name, value in message.headers}

    def text(name: str) -> str:
        return headers.get(name, b"").decode("utf-8", "replace")[:_MAX_TEXT]

    topic, partition, offset = map(text, (SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET))
    source = None
    if topic and partition.isdecimal() and offset.isdecimal():
        source = RecordPosition(
            topic[:_MAX_TOPIC], min(int(partition), 2**31 - 1), min(int(offset), 2**63 - 1)
        )
    return DeadLetter(
        message,
        error_code=text(ERROR_CODE) or UNKNOWN,
        error_message=mask(text(ERROR_MESSAGE)),
        failed_at=text(FAILED_AT),
        source=source,
        is_cut=not headers.keys().isdisjoint(CUT_HEADERS),
    )


def read_all(
    feed: Feed, *, timeout_s: float = 30.0, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[DeadLetter]:
    """Yield all dead letters that are now on the topic, in order within each partition.

    Args:
        feed: Feed of the topic, at its beginning.
        timeout_s: How long Kafka may send nothing before the end is reached, seconds.
        monotonic: Clock in seconds.

    Raises:
        TimeoutError: Kafka sent nothing for `timeout_s`.
    """
    heard_s = monotonic()
    while True:
        batch = feed.poll(_POLL_S)
        yield from map(to_dead_letter, batch)
        if feed.waits_for() is None:
            return
        if batch:
            heard_s = monotonic()
        elif monotonic() - heard_s > timeout_s:
            raise TimeoutError(f"waited {timeout_s:g} s for {feed.waits_for()}")


class ReplayedLetters:
    """Record of the dead letters that were sent back, in the state folder; a context manager.

    Args:
        folder: The state folder; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "dlq-replayed.sqlite"
        self._database = sqlite3.connect(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replayed (topic_id TEXT, id TEXT, replayed_at_ms INTEGER, "
            "PRIMARY KEY (topic_id, id)) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, topic_id: str, letter: DeadLetter, *, now_ms: int) -> None:
        """Record that a dead letter was sent back; the record is on disk on return.

        Args:
            topic_id: Kafka's id of the topic; a recreated topic has another id and other letters.
            letter: The dead letter.
            now_ms: Time at which it was sent back, UTC epoch milliseconds.
        """
        with self._database:
            self._database.execute(
                "INSERT OR IGNORE INTO replayed VALUES (?, ?, ?)", (topic_id, letter.id, now_ms)
            )

    def replayed_at_ms(self, topic_id: str, letter: DeadLetter) -> int | None:
        """Return when a dead letter was sent back, None if it never was."""
        with closing(
            self._database.execute(
                "SELECT replayed_at_ms FROM replayed WHERE topic_id = ? AND id = ?",
                (topic_id, letter.id),
            )
        ) as found:
            row = found.fetchone()
        return None if row is None else int(row[0])
