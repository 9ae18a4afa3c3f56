"""The Kafka writer: idempotent, acknowledged by all replicas, with back-pressure."""

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
# It repeats every failed try to connect, twice a second; `error_cb` tells us once.
clients.LIBRDKAFKA.setLevel(logging.CRITICAL)

_CONFIG: Final[Mapping[str, Any]] = {
    "acks": "all",
    # A record waits for a broker that is away as long as it takes: nothing is dropped by us.
    "message.timeout.ms": 0,
    "reconnect.backoff.max.ms": 2_000,
    # Java's and kafka-python's choice: a key meets one partition, whoever writes it.
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 50_000,
    "queue.buffering.max.kbytes": 262_144,
    "message.max.bytes": 1_048_576 + 65_536,
}


class Writer(Protocol):
    """Where records go; `KafkaWriter` is the real one."""

    acknowledged: Counter[str]
    """Records that arrived, per topic."""

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
        """Count records handed over and not acknowledged."""


class WriterError(Exception):
    """Kafka refuses to go on; the process must end and start anew."""


class KafkaWriter:
    """Send records and know which ones Kafka has.

    A record is *sent* only when the broker has acknowledged it. Not for several threads.

    Args:
        connection: librdkafka's connection settings.
        linger_ms: How long a record may wait for company.
        compression: librdkafka's name of the compression.
    """

    def __init__(
        self, connection: Mapping[str, Any], *, linger_ms: int = 5, compression: str = "none"
    ) -> None:
        own = {"linger.ms": linger_ms, "compression.type": compression, "error_cb": self._on_error}
        self._producer = clients.producer({**connection, **own}, _CONFIG)
        self._fatal: str | None = None
        self.reachable: bool | None = None
        """Whether the last that was heard from the brokers was good; None = nothing yet."""
        self.acknowledged: Counter[str] = Counter()
        """Records that Kafka has, by topic."""
        self.refused: Counter[str] = Counter()
        """Records that Kafka refused for good, by reason."""

    def check(self, topic: str, timeout_s: float) -> None:
        """Ask the brokers for a topic.

        Raises:
            WriterError: No broker answers within the time, or the topic does not exist.
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
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> bool:
        """Hand a record over; waits while the queue is full.

        Args:
            topic: Physical name.
            key: Decides the partition.
            value: The record.
            stop: Ends the waiting.
            on_acknowledged: Called from `send`, `poll` or `flush` once Kafka has the record.
            headers: Names and values.

        Returns:
            False when `stop` ended the waiting: the record was not taken.

        Raises:
            WriterError: The writer is broken for good.
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
                # Too large for any broker: librdkafka refuses it at once.
                self._delivered(topic, problem.args[0], None)
            self._producer.poll(0)
            return True

    def poll(self) -> None:
        """Process the acknowledgements that have arrived."""
        self._producer.poll(0)
        self._raise_fatal()

    def flush(self, timeout_s: float) -> int:
        """Wait for the acknowledgement of all that was handed over.

        Returns:
            Records still not acknowledged after the time.
        """
        return int(self._producer.flush(timeout_s))

    def drain(self, stop: threading.Event) -> None:
        """Wait for all acknowledgements, however long Kafka is away, until `stop` is set."""
        while self._producer.flush(0.5) and not stop.is_set():
            pass

    def __len__(self) -> int:
        """Count records handed over and not acknowledged."""
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
        """Record what librdkafka reports about connections; it reconnects by itself."""
        if error.fatal():
            self._fatal = error.str()
        elif error.code() in {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION}:
            if self.reachable is not False:
                _log.warning("producer.kafka_lost", reason=error.name(), detail=error.str())
            self.reachable = False

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise WriterError(self._fatal)
