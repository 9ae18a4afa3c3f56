"""Write many records to Kafka: idempotent, acknowledged by all replicas, with back-pressure."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from fraud.kafka import clients

_log = structlog.get_logger()
# librdkafka logs each failed attempt to connect, twice a second; `error_cb` reports it once.
clients.LIBRDKAFKA.setLevel(logging.CRITICAL)

_CONFIG: Final[Mapping[str, Any]] = {
    "acks": "all",
    # 0 means no limit: records wait for unreachable brokers and are never dropped.
    "message.timeout.ms": 0,
    "reconnect.backoff.max.ms": 2_000,
    # Chooses the partition of a key as the Java client and kafka-python do.
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 50_000,
    "queue.buffering.max.kbytes": 262_144,
    "message.max.bytes": 1_048_576 + 65_536,
}


class Writer(Protocol):
    """Destination of records; `KafkaWriter` writes to Kafka."""

    acknowledged: Counter[str]
    """Number of acknowledged records, by topic."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        stop: threading.Event,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> bool:
        """Queue a record; return False if `stop` was set while the queue was full."""

    def poll(self) -> None:
        """Process the acknowledgements that have arrived."""

    def __len__(self) -> int:
        """Return the number of queued records that are not acknowledged yet."""


class WriterError(Exception):
    """Kafka does not answer or lacks a topic, or the producer has failed for good."""


class KafkaWriter:
    """Send records, and count those that Kafka acknowledges or refuses. Not thread-safe.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        linger_ms: How long a record may wait to be sent in a batch, milliseconds.
        compression: Compression codec, as librdkafka names it.
    """

    def __init__(
        self, connection: Mapping[str, Any], *, linger_ms: int = 5, compression: str = "none"
    ) -> None:
        own = {"linger.ms": linger_ms, "compression.type": compression, "error_cb": self._on_error}
        self._producer = clients.producer({**connection, **own}, _CONFIG)
        self._fatal: str | None = None
        self.reachable: bool | None = None
        """Whether the brokers were reachable when last heard of; None means not known yet."""
        self.acknowledged: Counter[str] = Counter()
        """Number of acknowledged records, by topic."""
        self.refused: Counter[str] = Counter()
        """Number of records that Kafka refused for good, by reason."""

    def check(self, topic: str, timeout_s: float) -> None:
        """Check that Kafka answers and has a topic.

        Raises:
            WriterError: No broker answers within `timeout_s`, or the topic does not exist.
        """
        try:
            known = self._producer.list_topics(topic, timeout=timeout_s).topics[topic]
        except KafkaException as problem:
            raise WriterError(f"no answer from Kafka: {problem.args[0].str()}") from None
        if known.error is not None:
            raise WriterError(f"topic {topic}: {known.error.str()}")
        self.reachable = True

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        stop: threading.Event,
        on_acknowledged: Callable[[], None] | None = None,
        headers: Sequence[tuple[str, str | bytes | None]] = (),
    ) -> bool:
        """Queue a record, waiting while the queue is full.

        Args:
            topic: Physical name.
            key: Key of the record, which decides the partition.
            value: Value of the record.
            stop: Ends the wait when set.
            on_acknowledged: Called once Kafka has the record, by any later call of the writer.
            headers: Names and values of the record's headers.

        Returns:
            False if `stop` ended the wait; the record is then not queued.

        Raises:
            WriterError: librdkafka reported a fatal error.
        """

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._delivered(topic, error, on_acknowledged)

        while True:
            self._raise_fatal()
            try:
                self._producer.produce(
                    topic, value, key, on_delivery=delivered, headers=list(headers)
                )
            except BufferError:
                if stop.is_set():
                    return False
                self._producer.poll(0.1)
                continue
            except KafkaException as problem:
                # librdkafka itself refuses a record that is too large.
                self._delivered(topic, problem.args[0], None)
            self._producer.poll(0)
            return True

    def poll(self) -> None:
        """Process the acknowledgements that have arrived."""
        self._producer.poll(0)
        self._raise_fatal()

    def flush(self, timeout_s: float) -> int:
        """Wait for the acknowledgement of all queued records.

        Returns:
            Number of records that are still not acknowledged after `timeout_s`.
        """
        return int(self._producer.flush(timeout_s))

    def drain(self, stop: threading.Event) -> None:
        """Wait for all acknowledgements until `stop` is set, even while Kafka is unreachable."""
        while self._producer.flush(0.5) and not stop.is_set():
            pass

    def __len__(self) -> int:
        """Return the number of queued records that are not acknowledged yet."""
        return len(self._producer)

    def _delivered(
        self, topic: str, error: KafkaError | None, on_acknowledged: Callable[[], None] | None
    ) -> None:
        if error is None:
            self.reachable = True
            self.acknowledged[topic] += 1
            if on_acknowledged is not None:
                on_acknowledged()
            return
        if error.fatal():
            self._fatal = error.str()
        self.refused[error.name()] += 1
        _log.error("producer.record_refused", topic=topic, reason=error.name())

    def _on_error(self, error: KafkaError) -> None:
        """Note an error that librdkafka reports; it reconnects to brokers by itself."""
        if error.fatal():
            self._fatal = error.str()
        elif error.code() in {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION}:
            if self.reachable is not False:
                _log.warning("producer.kafka_lost", reason=error.name(), detail=error.str())
            self.reachable = False

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise WriterError(self._fatal)
