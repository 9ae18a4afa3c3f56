"""Read a range of a topic: from a start time to the current end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Final, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.unreadable import UnreadableRecords
from fraud.kafka.vanished import OUT_OF_RANGE
from fraud.runtime.settings import KafkaSettings

_CALL_S: Final = 10.0
_POLL_S: Final = 0.25
_SILENT_S: Final = 30.0
"""Seconds without an answer from the broker after which reading fails."""
_BATCH: Final = 5_000

_LEADERLESS: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
)

_log = structlog.get_logger("fraud.kafka.range_reader")


class CannotRead(Exception):
    """Kafka cannot be read; the message says where and why."""


class Stopped(Exception):
    """Reading was stopped before its end."""


class TopicSpan:
    """Records of a topic from a start time on, read without a consumer group; a context manager.

    The end is fixed at the start: records written later are not read. Only committed records are
    read.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        topic: The topic to read.
        since_ms: Kafka timestamp from which records are read, UTC epoch milliseconds.
        latest: Approximate maximum of records: each partition yields its latest ones, up to an
            equal share. None reads all.
        service: Name of the reader, for the broker's logs.

    Raises:
        CannotRead: No broker answers, or the topic does not exist.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        *,
        since_ms: int = 0,
        latest: int | None = None,
        service: str,
    ) -> None:
        self._topic = settings.topic(topic)
        self._servers = settings.kafka_bootstrap_servers
        self._consumer = clients.reader(
            settings.librdkafka(),
            service,
            {
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                # Few large fetches, for throughput.
                "fetch.message.max.bytes": 8 * 1_048_576,
                "error_cb": self._on_error,
                # Errors are raised by the calls, so librdkafka need not log them.
                "log_level": 0,
            },
        )
        self._unreadable = UnreadableRecords(self._consumer, service)
        self._problem = "no answer"
        try:
            self._starts, self._ends = self._settled_bounds(since_ms, latest)
        except KafkaException as error:
            self._consumer.close()
            raise self._cannot(error.args[0].name()) from None
        except CannotRead:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    @property
    def total(self) -> int:
        """Maximum number of records to read; Kafka's transaction markers are included."""
        return sum(end - self._starts[number] for number, end in self._ends.items())

    def batches(self, stop: Event | None = None) -> Iterator[list[KafkaMessage]]:
        """Yield the records in batches of confluent-kafka messages, in order within each partition.

        Raises:
            CannotRead: The broker went away, or records expired before they were read.
            Stopped: `stop` was set.
        """
        left = {number for number, end in self._ends.items() if end > self._starts[number]}
        self._consumer.assign(
            [TopicPartition(self._topic, number, self._starts[number]) for number in left]
        )
        heard_s = time.monotonic()
        while left:
            if stop is not None and stop.is_set():
                raise Stopped(f"reading of {self._topic} was stopped")
            batch = []
            for message in self._consumer.consume(_BATCH, _POLL_S):
                error = message.error()
                partition, offset = message.partition(), message.offset()
                if error is None and partition is not None and offset is not None:
                    end = self._ends[partition]
                    if offset < end:
                        batch.append(message)
                    if offset >= end - 1:
                        self._finish(partition, left)
                # The last offsets may hold transaction markers, which only this event tells.
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    self._finish(partition, left)
                elif error is not None and error.code() in OUT_OF_RANGE:
                    raise CannotRead(
                        f"records of {self._topic} expired before they were read: start again"
                    )
                elif error is not None and not self._unreadable.skip(message):
                    self._on_error(error)
                heard_s = time.monotonic()
            if batch:
                yield batch
            elif time.monotonic() - heard_s > _SILENT_S:
                raise self._cannot(self._problem)
            else:
                continue
            # The time that the caller took for the batch is not silence of the broker.
            heard_s = time.monotonic()

    def values(
        self, on_progress: Callable[[int, int], None], stop: Event | None = None
    ) -> Iterator[list[bytes | None]]:
        """Yield the values of the records in batches, and report the progress.

        Args:
            on_progress: Called with the number of records read and the total.
            stop: Ends reading when set.

        Raises:
            CannotRead: The broker went away.
            Stopped: `stop` was set.
        """
        done, total = 0, self.total
        on_progress(done, total)
        for batch in self.batches(stop):
            yield [message.value() for message in batch]
            done += len(batch)
            on_progress(done, total)
        on_progress(total, total)

    def _finish(self, partition: int | None, left: set[int]) -> None:
        if partition is not None and partition in left:
            left.discard(partition)
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _settled_bounds(
        self, since_ms: int, latest: int | None
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Return the bounds once the partitions have leaders: those of a new topic get them soon."""
        until_s = time.monotonic() + _CALL_S
        while True:
            try:
                return self._bounds(since_ms, latest)
            except KafkaException as error:
                if error.args[0].code() not in _LEADERLESS or time.monotonic() >= until_s:
                    raise
            time.sleep(_POLL_S)

    def _bounds(self, since_ms: int, latest: int | None) -> tuple[dict[int, int], dict[int, int]]:
        found = self._consumer.list_topics(self._topic, timeout=_CALL_S).topics[self._topic]
        if found.error is not None:
            raise CannotRead(clients.no_topic(self._servers, self._topic))
        ends: dict[int, int] = {}
        starts: dict[int, int] = {}
        for number in found.partitions:
            partition = TopicPartition(self._topic, number)
            starts[number], ends[number] = self._consumer.get_watermark_offsets(
                partition, timeout=_CALL_S
            )
        if since_ms > 0:
            asked = [TopicPartition(self._topic, number, since_ms) for number in ends]
            for found_offset in self._consumer.offsets_for_times(asked, timeout=_CALL_S):
                # A negative offset means that no record is as late as `since_ms`.
                starts[found_offset.partition] = (
                    found_offset.offset
                    if found_offset.offset >= 0
                    else ends[found_offset.partition]
                )
        if latest is not None:
            share = max(1, latest // max(1, len(ends)))
            starts = {number: max(start, ends[number] - share) for number, start in starts.items()}
        return starts, ends

    def _on_error(self, error: KafkaError) -> None:
        """Log an error, or raise a fatal one; the client recovers from the others by itself."""
        if error.fatal():
            raise KafkaException(error)
        self._problem = error.name()
        _log.info("kafka.client_reported", code=error.name(), detail=error.str())

    def _cannot(self, code: str) -> CannotRead:
        return CannotRead(clients.unreachable(self._servers, code, verb="read"))
