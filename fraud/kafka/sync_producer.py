"""Write single records to Kafka, and wait for the acknowledgement of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message

from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.runtime.settings import KafkaSettings

_CALL_S: Final = 5.0

Headers = Sequence[tuple[str, str | bytes | None]]


class CannotPublish(Exception):
    """The broker did not acknowledge a record; the message says why."""


class SyncProducer:
    """Write records to one topic, one at a time.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        topic: The topic to write to.
        timeout_s: How long the broker may take to acknowledge a record, seconds.
    """

    def __init__(self, settings: KafkaSettings, topic: Topic, timeout_s: float = 10.0) -> None:
        self._topic = settings.topic(topic)
        self._servers = settings.kafka_bootstrap_servers
        self._timeout_s = timeout_s
        self._producer = clients.producer(
            settings.librdkafka(),
            {
                "message.timeout.ms": int(timeout_s * 1000),
                "linger.ms": 0,
                # Errors are raised by the calls, so librdkafka need not log them.
                "log_level": 0,
            },
        )

    def check(self) -> None:
        """Check that the topic can be reached, before callers change anything elsewhere.

        Raises:
            CannotPublish: No broker answers, or the topic does not exist.
        """
        try:
            topics = self._producer.list_topics(timeout=_CALL_S).topics
        except KafkaException as error:
            raise self._cannot(error.args[0].name()) from None
        if self._topic not in topics:
            raise CannotPublish(clients.no_topic(self._servers, self._topic))

    def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Write a record; it is on the topic when this returns.

        Raises:
            CannotPublish: The broker did not acknowledge it.
        """
        problems: list[str] = []

        def acknowledged(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                problems.append(error.name())

        try:
            self._producer.produce(
                self._topic, value, key, headers=list(headers), on_delivery=acknowledged
            )
        except KafkaException as error:
            raise self._cannot(error.args[0].name()) from None
        except BufferError:
            raise self._cannot("its queue is full") from None
        # Short waits let Ctrl-C interrupt; the client's own timeout ends before this one.
        until_s = time.monotonic() + self._timeout_s + 1
        while self._producer.flush(0.1) and time.monotonic() < until_s:
            pass
        if problems or len(self._producer):
            raise self._cannot(*problems)

    def _cannot(self, code: str = "no answer") -> CannotPublish:
        return CannotPublish(clients.unreachable(self._servers, code))
