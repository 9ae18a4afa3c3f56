"""Consume a Kafka topic in batches, each record at least once.

A batch is processed in an order that loses no record:

1. `poll` returns a batch and commits nothing.
2. `decode` parses each record; those that raise `InvalidMessage` are set aside.
3. `handle` gets the others. When it returns, they are durable elsewhere.
4. Records set aside are refused: counted and logged, with their coordinates.
5. `done` stores the offsets, which are committed once a second, and on close or rebalance, with
   the id of the topic.

A process killed between 3 and 5 gets the batch again, so `handle` must be idempotent.
`Backpressure` in 3 puts the whole batch back: fetching pauses, polling goes on to keep the
membership of the group, and the same batch is returned again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Protocol, Self, TypeVar

import orjson
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fraud.contracts.errors import Backpressure, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.unreadable import UnreadableRecords
from fraud.kafka.vanished import OUT_OF_RANGE, TopicLook, create_series, tell_gone, why_gone
from fraud.runtime.metrics import (
    BACKPRESSURE,
    CONSUMER_LAG,
    RECORDS_CONSUMED,
    RECORDS_REFUSED,
    SINK_WAITS,
)
from fraud.runtime.settings import KafkaSettings

MAX_REFUSED_IN_A_ROW: Final = 1000
"""More unreadable records in a row point to a bug, or to a foreign writer on the topic."""

_POLL_S: Final = 1.0
_CALL_S: Final = 5.0
_LOOK_S: Final = 10.0
"""Seconds between checks for a topic that was made anew."""
_SAME_ERROR_S: Final = 30.0
_MAX_BATCH_BYTES: Final = 16 * 1_048_576
_GATHER_RECORDS: Final = 20
"""Records fetched per call: bounds how far a batch of large records exceeds `_MAX_BATCH_BYTES`."""

_log = structlog.get_logger("fraud.kafka.group_consumer")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One record of a Kafka topic.

    Attributes:
        topic: Physical name of the topic.
        partition: Number of the partition.
        offset: Offset in the partition.
        timestamp_ms: Kafka's timestamp, UTC epoch milliseconds; -1 if unknown.
        key: Key of the record, None without one.
        value: Value of the record, None for a tombstone.
        headers: Names and values of the headers.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def message_of(raw: Any) -> Message:
    """Return a record of confluent-kafka as a message."""
    return Message(
        raw.topic(),
        raw.partition(),
        raw.offset(),
        raw.timestamp()[1],
        raw.key(),
        raw.value(),
        tuple(raw.headers() or ()),
    )


class BatchSource(Protocol):
    """Source of batches: Kafka, or a topic in memory (`fraud.kafka.testing`)."""

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait for records and return a batch; empty after `timeout_s`, or while one is put back.

        It must be called regularly, since it also keeps the membership of the group alive.
        """
        ...

    def done(self, batch: Sequence[Message]) -> None:
        """Store the offsets after the batch, but not those of partitions lost meanwhile."""
        ...

    def put_back(self, batch: Sequence[Message]) -> None:
        """Keep the batch, and return no records until `resume`."""
        ...

    def resume(self) -> None:
        """Continue with the batch that was put back, except for partitions lost meanwhile."""
        ...


class TooManyRefused(Exception):
    """Too many records in a row could not be read; the message names the last one."""


def consume(
    source: BatchSource,
    decode: Callable[[Message], T],
    handle: Callable[[Sequence[T]], None],
    stop: Event,
    *,
    service: str,
    max_refused_in_a_row: int = MAX_REFUSED_IN_A_ROW,
    dead_letter: Callable[[Sequence[tuple[Message, InvalidMessage]]], None] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Handle records until `stop` is set, at least once each.

    A record is done only when it was handled or refused. Any exception other than `InvalidMessage`
    and `Backpressure` is raised and leaves the batch undone, so that it is read again after a
    restart: a crash is visible, a skipped record is not.

    Args:
        source: Source of the batches.
        decode: Reads one record, or raises `InvalidMessage`.
        handle: Makes a batch durable; returns when it is, or raises `Backpressure`. It may get the
            same records again.
        stop: Ends the loop between two batches.
        service: Label of the metrics.
        max_refused_in_a_row: Unreadable records in a row that are still accepted.
        dead_letter: Keeps refused records; returns when they are kept, or raises `Backpressure`. It
            may get the same records again. None leaves them where they are.
        monotonic: Clock in seconds, for waiting.

    Raises:
        TooManyRefused: More than `max_refused_in_a_row` records in a row could not be read.
    """
    refused_in_a_row = 0
    paused(service, False)
    while not stop.is_set():
        batch = source.poll(_POLL_S)
        if not batch:
            continue
        accepted: list[T] = []
        refused: list[tuple[Message, InvalidMessage]] = []
        in_a_row = refused_in_a_row
        for message in batch:
            try:
                accepted.append(decode(message))
                in_a_row = 0
            except InvalidMessage as verdict:
                refused.append((message, verdict))
                in_a_row += 1
                if in_a_row > max_refused_in_a_row:
                    _refuse(refused, service)
                    raise TooManyRefused(
                        f"{in_a_row} records in a row could not be read; the last is "
                        f"{message.topic}-{message.partition} at offset {message.offset}: {verdict}"
                    ) from verdict
        try:
            if accepted:
                handle(accepted)
            if refused and dead_letter is not None:
                dead_letter(refused)
        except Backpressure as verdict:
            source.put_back(batch)
            paused(service, True)
            _log.warning(
                "kafka.reading_paused", retry_after_s=verdict.retry_after_s, detail=str(verdict)
            )
            _wait(source, verdict.retry_after_s, stop, monotonic)
            source.resume()
            continue
        paused(service, False)
        _refuse(refused, service)
        refused_in_a_row = in_a_row
        source.done(batch)
        RECORDS_CONSUMED.labels(service).inc(len(batch))


def paused(service: str, waits: bool) -> None:
    """Record in the metrics whether a service's sink asks for a pause or accepts records."""
    # Counting 0 creates the series, without which Prometheus would not see the first increase.
    BACKPRESSURE.labels(service).inc(waits)
    SINK_WAITS.labels(service).set(waits)


def _wait(source: BatchSource, wait_s: float, stop: Event, monotonic: Callable[[], float]) -> None:
    """Wait while a batch is put back, and poll the source so that it stays in its group."""
    until_s = monotonic() + wait_s
    while not stop.is_set() and (left_s := until_s - monotonic()) > 0:
        source.poll(min(left_s, _POLL_S))


def _refuse(refused: Sequence[tuple[Message, InvalidMessage]], service: str) -> None:
    for message, verdict in refused:
        RECORDS_REFUSED.labels(service, str(verdict.reason)).inc()
        _log.error(
            "kafka.record_refused",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            reason=str(verdict.reason),
            detail=verdict.detail,
        )


class KafkaSource:
    """A member of a consumer group that reads one topic, as a context manager.

    A new group starts at the earliest record. Input that is gone, because it expired or its topic was
    made anew, is logged and counted before reading goes on at the first record there is. Only
    committed records are read. Unreachable brokers are waited for. Leaving the context commits the
    offsets of done batches and leaves the group.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        topic: The topic to read.
        group: Id of the consumer group.
        service: Label of the metrics.
        max_records: Maximum number of records in a batch; it also ends at about 16 MiB.
        linger_s: How long to gather records after the first of a batch, seconds. It adds this
            latency, and saves work per batch if records arrive one by one.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        group: str,
        *,
        service: str,
        max_records: int = 1000,
        linger_s: float = 0.0,
    ) -> None:
        self._topic = settings.topic(topic)
        self._service = service
        self._max_records = max_records
        self._linger_s = linger_s
        self._assigned: set[int] | None = None
        self._paused = False
        self._held: list[Message] = []
        self._last_error: str | None = None
        self._told_s: dict[str, float] = {}
        self._topic_id: str | None = None
        self._is_gone = False
        create_series(service)
        self._look = TopicLook(settings.librdkafka(), self._topic, time.monotonic)
        self._consumer = clients.group_member(
            settings.librdkafka(),
            group,
            {
                # `_on_assign` commits the first offset where one is gone; later that is an error.
                "auto.offset.reset": "error",
                "enable.auto.offset.store": False,
                "auto.commit.interval.ms": 1000,
                "isolation.level": "read_committed",
                # How long a killed member keeps its partitions. A broker that restarts sooner (10 to
                # 15 s after kill -9) still finds its members; otherwise the group is formed
                # again, which takes this long once more.
                "session.timeout.ms": 20_000,
                "heartbeat.interval.ms": 3_000,
                # A broker that returns, or a topic that is created later, is found within seconds.
                "reconnect.backoff.ms": 250,
                "reconnect.backoff.max.ms": 2_000,
                "topic.metadata.refresh.interval.ms": 10_000,
                # Bounds the memory for records fetched ahead.
                "queued.max.messages.kbytes": 16_384,
                "statistics.interval.ms": 1000,
                "stats_cb": self._on_statistics,
                "error_cb": self._on_error,
                # Errors also reach error_cb, which logs a repeated one only now and then.
                "log_level": 2,
            },
        )

        self._unreadable = UnreadableRecords(self._consumer, service)

    def __enter__(self) -> Self:
        self._join()
        return self

    def _join(self) -> None:
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def waits_for(self) -> str | None:
        """Return one line on what is missing for reading, or None once partitions are assigned."""
        if self._assigned is None:
            return f"partitions of {self._topic} from Kafka" + (
                f" ({self._last_error})" if self._last_error else ""
            )
        return None

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait for records and return a batch, see `BatchSource`."""
        self._watch_topic()
        if self._held and not self._paused:
            held, self._held = self._held, []
            return held
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        batch = self._gather(first)
        if self._paused and batch:
            # A rebalance may resume paused partitions.
            self._held += batch
            self._pause()
            return []
        return batch

    def _gather(self, first: Any) -> list[Message]:
        """Return a batch of the first record and those that are there or come within `linger_s`."""
        batch: list[Message] = []
        until_s = time.monotonic() + self._linger_s
        raws, count, size = [first], 1, 0
        while raws:
            for raw in raws:
                message = self._read(raw)
                if message is not None:
                    batch.append(message)
                    size += len(message.value or b"")
            room = min(self._max_records - count, _GATHER_RECORDS)
            if room <= 0 or size >= _MAX_BATCH_BYTES:
                break
            raws = self._consumer.consume(room, max(0.0, until_s - time.monotonic()))
            count += len(raws)
        return batch

    def done(self, batch: Sequence[Message]) -> None:
        """Store the offsets after the batch, see `BatchSource`."""
        # The last offset in the batch, not the highest: after a rebalance within the batch, reading
        # may have gone back.
        behind = {message.partition: message.offset + 1 for message in batch}
        for partition, offset in behind.items():
            try:
                self._consumer.store_offsets(
                    offsets=[
                        TopicPartition(self._topic, partition, offset, metadata=self._topic_id)
                    ]
                )
            except KafkaException as error:
                if error.args[0].code() not in _NOT_OURS:
                    raise

    def put_back(self, batch: Sequence[Message]) -> None:
        """Keep the batch and pause fetching, see `BatchSource`."""
        self._held = [*batch, *self._held]
        self._paused = True
        self._pause()

    def resume(self) -> None:
        """Continue with the batch that was put back, see `BatchSource`."""
        self._paused = False
        with suppress(KafkaException):  # partitions lost meanwhile
            self._consumer.resume(self._consumer.assignment())

    def _pause(self) -> None:
        with suppress(KafkaException):  # partitions lost meanwhile
            self._consumer.pause(self._consumer.assignment())

    def _read(self, raw: Any) -> Message | None:
        error = raw.error()
        if error is not None:
            self._is_gone = self._is_gone or error.code() in OUT_OF_RANGE
            if not self._unreadable.skip(raw):
                self._on_error(error)
            return None
        return message_of(raw)

    def _watch_topic(self) -> None:
        """Join the group again if input is gone: each partition then starts where there is some."""
        try:
            found = self._look.poll()
        except KafkaException:
            found = None  # the consumer reports brokers that do not answer
        if found is not None:
            self._look.again_in(_LOOK_S)
            self._is_gone = self._is_gone or self._topic_id not in (None, str(found.topic_id))
        if self._is_gone:
            self._is_gone = False
            self._consumer.unsubscribe()
            self._join()

    def _on_error(self, error: KafkaError) -> None:
        """Log an error, or raise a fatal one; the client recovers from the others by itself."""
        if error.fatal():
            raise KafkaException(error)
        self._last_error = error.name()
        now_s = time.monotonic()
        if now_s - self._told_s.get(error.name(), -_SAME_ERROR_S) >= _SAME_ERROR_S:
            self._told_s[error.name()] = now_s
            _log.warning("kafka.client_reported", code=error.name(), detail=error.str())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._tell_gone(consumer, partitions)
        except KafkaException as error:
            # An offset that is gone or missing will be an error, after which we join again.
            self._on_error(error.args[0])
        consumer.assign(partitions)
        if self._paused:
            consumer.pause(partitions)
        self._assigned = {partition.partition for partition in partitions}
        self._last_error = None
        _log.info("kafka.partitions_assigned", topic=self._topic, partitions=sorted(self._assigned))

    def _tell_gone(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Tell what is gone of the partitions, and commit the offsets at which they are read on.

        Raises:
            KafkaException: The broker does not answer.
        """
        topic_id = str(self._look.now().topic_id)
        moved = []
        for committed in consumer.committed(partitions, timeout=_CALL_S):
            partition, wanted = committed.partition, committed.offset
            first, end = consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=_CALL_S
            )
            if wanted < 0:
                _log.info(
                    "kafka.group_is_new", topic=self._topic, partition=partition, first_offset=first
                )
            else:
                same_topic = committed.metadata in (None, "", topic_id)
                why = why_gone(wanted, first, end, same_topic=same_topic)
                if why is None:
                    continue
                tell_gone(
                    why,
                    service=self._service,
                    topic=self._topic,
                    partition=partition,
                    wanted=wanted,
                    first=first,
                )
            moved.append(TopicPartition(self._topic, partition, first, metadata=topic_id))
        if moved:
            consumer.commit(offsets=moved, asynchronous=False)
        self._topic_id = topic_id

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Release partitions that go to other members; their lag is no longer reported here."""
        self._on_lost(consumer, partitions)
        CONSUMER_LAG.labels(self._service).set(0)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Release partitions that the group took away, as when the broker was away for too long."""
        lost = {partition.partition for partition in partitions}
        self._assigned = None
        self._held = [message for message in self._held if message.partition not in lost]
        _log.info("kafka.partitions_revoked", topic=self._topic, partitions=sorted(lost))

    def _on_statistics(self, text: str) -> None:
        partitions = orjson.loads(text).get("topics", {}).get(self._topic, {}).get("partitions", {})
        # consumer_lag counts from the committed offset, consumer_lag_stored from the stored one,
        # which is newer; -1 means unknown.
        lags = [
            partition["consumer_lag_stored"]
            if partition["consumer_lag_stored"] >= 0
            else partition["consumer_lag"]
            for number, partition in partitions.items()
            if int(number) in (self._assigned or ())
        ]
        CONSUMER_LAG.labels(self._service).set(sum(lag for lag in lags if lag > 0))


_NOT_OURS: Final = frozenset({KafkaError._STATE, KafkaError._UNKNOWN_PARTITION})
"""Errors on storing the offset of a partition that went to another member."""
