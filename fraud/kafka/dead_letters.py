"""Reading of dead letters, and the record of those that were sent back."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fraud.contracts.dead_letter import (
    CUT_HEADERS,
    ERROR_CODE,
    ERROR_MESSAGE,
    FAILED_AT,
    HEADERS,
    MAX_HEADERS_BYTES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    ORIGINAL_HEADERS_BYTES,
    ORIGINAL_KEY_BYTES,
    ORIGINAL_VALUE_BYTES,
    ORIGINAL_VALUE_SHA256,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
)
from fraud.contracts.errors import Backpressure, InvalidMessage
from fraud.contracts.personal import mask
from fraud.contracts.times import utc_text
from fraud.contracts.topics import Topic
from fraud.kafka.group_consumer import Message
from fraud.kafka.sync_producer import CannotPublish, SyncProducer
from fraud.kafka.topic_follower import Feed
from fraud.runtime.clock import Clock
from fraud.runtime.settings import KafkaSettings

UNKNOWN: Final = "unknown"
"""Error code of a record on the topic that no part of ours wrote: it lacks the headers."""

_MAX_TEXT: Final = 1024
_MAX_TOPIC: Final = 249
REPLAYED_FROM: Final = "replayed_from"
"""Header of a record that was sent back: the position of its dead letter."""

_POLL_S: Final = 1.0
_RETRY_S: Final = 5.0


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
    def input_headers(self) -> list[tuple[str, str | bytes | None]]:
        """Headers that the input came with: all but ours."""
        ours = HEADERS.keys() | CUT_HEADERS.keys() | {REPLAYED_FROM}
        return [(name, value) for name, value in self.message.headers if name not in ours]

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


def headers_of(message: Message, verdict: InvalidMessage, now_ms: int) -> dict[str, bytes | None]:
    """Return the headers of the dead letter of a record: its own, and ours in place of equal names.

    They are those that the job writes (`flink_job.pipeline.route`).
    """
    key, value = message.key or b"", message.value or b""
    ours = {
        ERROR_CODE: str(verdict.reason),
        ERROR_MESSAGE: verdict.detail,
        SOURCE_TOPIC: message.topic,
        SOURCE_PARTITION: str(message.partition),
        SOURCE_OFFSET: str(message.offset),
        FAILED_AT: utc_text(now_ms),
    }
    own = {name: text for name, text in message.headers if name not in CUT_HEADERS}
    own_bytes = sum(len(name.encode()) + len(text or b"") for name, text in message.headers)
    if len(key) > MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES or own_bytes > MAX_HEADERS_BYTES:
        ours |= {
            ORIGINAL_KEY_BYTES: str(len(key)),
            ORIGINAL_VALUE_BYTES: str(len(value)),
            ORIGINAL_VALUE_SHA256: hashlib.sha256(value).hexdigest(),
            ORIGINAL_HEADERS_BYTES: str(own_bytes),
        }
        own = {}
    return own | {name: text.encode() for name, text in ours.items()}


class DeadLetterWriter:
    """Writes records that a reader refused to the dead-letter topic.

    Args:
        settings: How to reach Kafka.
        clock: Time now, UTC epoch milliseconds.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        self._producer = SyncProducer(settings, Topic.DEAD_LETTERS)
        self._clock = clock

    def write(self, refused: Sequence[tuple[Message, InvalidMessage]]) -> None:
        """Write each record with its verdict; all are on the topic when this returns.

        Raises:
            Backpressure: Kafka did not acknowledge one of them.
        """
        for message, verdict in refused:
            headers = headers_of(message, verdict, self._clock())
            key, value = message.key, message.value
            try:
                self._producer.send(
                    key and key[:MAX_KEY_BYTES],
                    value and value[:MAX_VALUE_BYTES],
                    list(headers.items()),
                )
            except CannotPublish as problem:
                raise Backpressure(_RETRY_S, str(problem)) from None


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
