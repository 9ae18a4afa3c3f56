"""Follow all partitions of a topic, without a consumer group.

A reader that keeps the content of a whole topic stores the offsets together with that content
instead of committing them to Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import orjson
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from prometheus_client import Gauge

from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.group_consumer import Message, message_of
from fraud.kafka.unreadable import UnreadableRecords
from fraud.kafka.vanished import (
    OUT_OF_RANGE,
    TopicLook,
    Vanished,
    create_series,
    tell_gone,
    why_gone,
)
from fraud.runtime.metrics import INPUT_VANISHED
from fraud.runtime.settings import KafkaSettings

_MAX_RECORDS: Final = 1000
_LOOK_S: Final = 10.0
"""Seconds between checks for new partitions, and for a topic that was recreated."""
_RETRY_S: Final = 1.0
_CALL_S: Final = 5.0

_log = structlog.get_logger("fraud.kafka.topic_follower")


@dataclass(frozen=True, slots=True)
class Position:
    """Position up to which a topic was read.

    Attributes:
        topic_id: Kafka's id of the topic; a recreated topic has another id.
        offsets: Next offset by partition.
    """

    topic_id: str
    offsets: dict[int, int]


class TopicReplaced(Exception):
    """The topic was recreated or no longer has the position: what was read of it is void."""


class Feed(Protocol):
    """Source of all records of a topic from a given position on: `TopicFeed`, or a fake in tests."""

    def start(self, position: Position | None) -> None:
        """Start reading at a position, or at the earliest record if it is None. Does not wait."""
        ...

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait for records and return them, in order within each partition.

        Raises:
            TopicReplaced: The topic was recreated; `start` must be called before further records.
        """
        ...

    def position(self) -> Position | None:
        """Return the position after the last returned record, None before the topic was found."""
        ...

    def waits_for(self) -> str | None:
        """Return one line on why the end was not reached since `start`, or None once it was."""
        ...


class TopicFeed:
    """A `Feed` from Kafka, as a context manager.

    Only committed records are read. Unreachable brokers are waited for.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        topic: The topic to read.
        service: Name of the reader, for the broker's logs.
        lag: Gauge that is set to the number of unread records, once a second.
        monotonic: Clock in seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        *,
        service: str,
        lag: Gauge,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = settings.topic(topic)
        self._lag = lag
        self._monotonic = monotonic
        connection = {**settings.librdkafka(), "reconnect.backoff.max.ms": 2_000}
        self._service = service
        self._look = TopicLook(connection, self._topic, monotonic)
        create_series(service)
        self._consumer = clients.reader(
            connection,
            service,
            {
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                # Bounds the memory for records fetched ahead.
                "queued.max.messages.kbytes": 16_384,
                "statistics.interval.ms": 1000,
                "stats_cb": self._on_statistics,
                "error_cb": self._on_error,
            },
        )
        self._unreadable = UnreadableRecords(self._consumer, service)
        self._problem: str | None = None
        self.start(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def start(self, position: Position | None) -> None:
        """Start reading at a position, see `Feed`."""
        self._wanted = position
        self._topic_id: str | None = None
        self._next: dict[int, int] = {}
        self._behind: set[int] = set()
        self._look.again_in(0)
        self._consumer.unassign()

    def position(self) -> Position | None:
        """Return the position after the last returned record, see `Feed`."""
        if self._topic_id is None:
            return None
        return Position(self._topic_id, dict(self._next))

    def waits_for(self) -> str | None:
        """Return why the end was not reached yet, see `Feed`."""
        if self._topic_id is None:
            problem = f" ({self._problem})" if self._problem else ""
            return f"topic {self._topic} from Kafka{problem}"
        if self._behind:
            return f"{len(self._behind)} of {len(self._next)} partitions of {self._topic} not read to their end yet"
        return None

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait for records and return them, see `Feed`."""
        self._watch_topic()
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        rest = self._consumer.consume(_MAX_RECORDS - 1, 0)
        return [message for raw in (first, *rest) if (message := self._read(raw)) is not None]

    def _read(self, raw: Any) -> Message | None:
        error = raw.error()
        if error is None:
            self._next[raw.partition()] = raw.offset() + 1
            return message_of(raw)
        if error.code() == KafkaError._PARTITION_EOF:
            # The end is also after transaction markers, which use offsets but are not returned.
            self._next[raw.partition()] = raw.offset()
            self._behind.discard(raw.partition())
        elif error.code() in OUT_OF_RANGE:
            raise self._replaced(f"{self._topic}: {error.str()}")
        elif not self._unreadable.skip(raw):
            self._on_error(error)
        return None

    def _on_error(self, error: KafkaError) -> None:
        """Log an error, or raise a fatal one; the client recovers from the others by itself."""
        if error.fatal():
            raise KafkaException(error)
        self._problem = error.name()
        _log.warning("kafka.client_reported", code=error.name(), detail=error.str())

    def _watch_topic(self) -> None:
        """Check the topic from time to time, without waiting for the answer."""
        try:
            found = self._look.poll()
            if found is None:
                return
            self._look.again_in(_RETRY_S if self._topic_id is None else _LOOK_S)
            topic_id = str(found.topic_id)
            partitions = {partition.id for partition in found.partitions}
            if self._topic_id is None:
                self._begin(topic_id, partitions)
                self._look.again_in(_LOOK_S)
            elif topic_id != self._topic_id:
                raise self._replaced(f"{self._topic} was made anew")
            elif new := partitions - self._next.keys():
                _log.info("kafka.partitions_found", topic=self._topic, partitions=sorted(new))
                self._assign(dict.fromkeys(new, 0), incremental=True)
        except KafkaException as error:
            self._look.again_in(_RETRY_S if self._topic_id is None else _LOOK_S)
            self._problem = error.args[0].name()
            _log.info("kafka.topic_awaited", topic=self._topic, code=self._problem)

    def _replaced(self, text: str) -> TopicReplaced:
        """Count a topic that was made anew; return the exception that tells its reader."""
        INPUT_VANISHED.labels(self._service, Vanished.REPLACED.value).inc()
        return TopicReplaced(text)

    def _begin(self, topic_id: str, partitions: set[int]) -> None:
        wanted = self._wanted
        if wanted is not None and wanted.topic_id != topic_id:
            raise self._replaced(f"{self._topic} was made anew")
        starts: dict[int, int] = {}
        self._behind = set()
        for partition in sorted(partitions):
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=_CALL_S
            )
            start = low if wanted is None else wanted.offsets.get(partition, low)
            why = why_gone(start, low, high)
            if why is Vanished.REPLACED:
                raise self._replaced(f"{self._topic} ends before what was read of it")
            if why is Vanished.EXPIRED:
                tell_gone(
                    why,
                    service=self._service,
                    topic=self._topic,
                    partition=partition,
                    wanted=start,
                    first=low,
                )
            starts[partition] = max(start, low)
            if starts[partition] < high:
                self._behind.add(partition)
        self._assign(starts, incremental=False)
        self._topic_id = topic_id
        self._problem = None
        _log.info("kafka.following", topic=self._topic, offsets=starts)

    def _assign(self, starts: dict[int, int], *, incremental: bool) -> None:
        assigned = [TopicPartition(self._topic, number, at) for number, at in starts.items()]
        if incremental:
            self._consumer.incremental_assign(assigned)
        else:
            self._consumer.assign(assigned)
        self._next |= starts

    def _on_statistics(self, text: str) -> None:
        partitions = orjson.loads(text).get("topics", {}).get(self._topic, {}).get("partitions", {})
        lags = [
            partition["ls_offset"] - self._next[int(number)]
            for number, partition in partitions.items()
            if int(number) in self._next and partition["ls_offset"] >= 0
        ]
        self._lag.set(sum(lag for lag in lags if lag > 0))
