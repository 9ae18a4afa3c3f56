"""Write records to Kafka from an asyncio event loop, and await their acknowledgement."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final, Self

import structlog
from confluent_kafka import KafkaError, KafkaException

from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.runtime.settings import KafkaSettings

_POLL_S: Final = 0.1
_TIMEOUT_S: Final = 10.0
_CLOSE_S: Final = 5.0

_log = structlog.get_logger("scoring_api")


class NotPublished(Exception):
    """The broker did not acknowledge a record, though it may have it; the message says why."""


class AsyncProducer:
    """Idempotent producer for the event loop, as a context manager.

    Records of one key keep their order, and retries by the client library write no duplicates.

    Args:
        settings: How to reach Kafka, and the topics' physical names.
        timeout_s: How long the broker may take to acknowledge a record, seconds.
    """

    def __init__(self, settings: KafkaSettings, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._settings = settings
        self._producer = clients.producer(
            settings.librdkafka(),
            {
                "client.id": "scoring_api",
                "linger.ms": 1,
                "message.timeout.ms": int(timeout_s * 1000),
                # Chooses the partition of a key as the Java client does.
                "partitioner": "murmur2_random",
            },
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="publisher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(_CLOSE_S)
        self._stop.set()
        self._thread.join()

    async def send(self, topic: Topic, key: str, value: bytes) -> None:
        """Write a record; it is on the topic when this returns.

        Raises:
            NotPublished: The broker did not acknowledge it.
        """
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[KafkaError | None] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            # The future is cancelled if the client of the request hung up.
            if not sent.done():
                sent.set_result(error)

        def told(error: KafkaError | None, _message: Any) -> None:
            # The client library calls this in the polling thread.
            loop.call_soon_threadsafe(settle, error)

        try:
            self._producer.produce(self._settings.topic(topic), value, key, on_delivery=told)
        except (BufferError, KafkaException) as problem:
            raise self._not_published(topic, type(problem).__name__) from None
        if (error := await sent) is not None:
            raise self._not_published(topic, error.name())

    def _not_published(self, topic: Topic, code: str) -> NotPublished:
        _log.warning(
            "scoring_api.record_not_published", topic=self._settings.topic(topic), code=code
        )
        return NotPublished(f"Kafka did not take the record for {topic} ({code})")

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(_POLL_S)
