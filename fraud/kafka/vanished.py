"""Input that is gone before it was read: expired records, and topics that were made anew.

No reader starts elsewhere in silence. Before it skips anything, it compares the offset that it wants
with the first and last ones there are, and Kafka's id of the topic with that of the topic it read.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, TopicCollection

from fraud.kafka import clients
from fraud.runtime.metrics import INPUT_VANISHED

OUT_OF_RANGE: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._LOG_TRUNCATION,
    }
)
"""Errors for reading at an offset that the topic does not have."""

_CALL_S: Final = 5.0

_log = structlog.get_logger("fraud.kafka.vanished")


class Vanished(StrEnum):
    """Why input is gone."""

    EXPIRED = "expired"
    """The retention of its topic has passed, or somebody deleted its records."""
    REPLACED = "replaced"
    """Its topic was made anew, or lost its end."""


def why_gone(wanted: int, first: int, end: int, *, same_topic: bool = True) -> Vanished | None:
    """Return why a record at an offset is gone, None if it is there or still to come.

    Args:
        wanted: The next offset to read.
        first: First offset of the partition.
        end: Offset after its last record.
        same_topic: Whether `wanted` is an offset of this topic and not of one made before it.

    Example:
        >>> why_gone(5, 3, 9), why_gone(9, 3, 9)
        (None, None)
        >>> why_gone(2, 3, 9), why_gone(10, 3, 9)
        (<Vanished.EXPIRED: 'expired'>, <Vanished.REPLACED: 'replaced'>)
    """
    if not same_topic or wanted > end:
        return Vanished.REPLACED
    return Vanished.EXPIRED if wanted < first else None


def tell_gone(
    why: Vanished, *, service: str, topic: str, partition: int, wanted: int, first: int
) -> None:
    """Log and count input that is gone; reading goes on at `first`."""
    missed = first - wanted if why is Vanished.EXPIRED else None
    INPUT_VANISHED.labels(service, why.value).inc(1 if missed is None else missed)
    _log.error(
        "kafka.input_vanished",
        why=why.value,
        service=service,
        topic=topic,
        partition=partition,
        next_offset=wanted,
        first_offset=first,
        missed="not known" if missed is None else missed,
    )


def create_series(service: str) -> None:
    """Create the series of a service, without which Prometheus would not see their first increase."""
    for why in Vanished:
        INPUT_VANISHED.labels(service, why.value)


class TopicLook:
    """Describes a topic now and then, without waiting for the answer.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        topic: Physical name of the topic.
        monotonic: Clock in seconds.
    """

    def __init__(
        self, connection: clients.Options, topic: str, monotonic: Callable[[], float]
    ) -> None:
        self._admin = clients.admin(connection, {})
        self._topic = topic
        self._monotonic = monotonic
        self._asked: Future[Any] | None = None
        self._at_s = 0.0

    def again_in(self, wait_s: float) -> None:
        """Set when the topic is looked at next."""
        self._at_s = self._monotonic() + wait_s

    def poll(self) -> Any | None:
        """Return confluent-kafka's description of the topic, once per look; None in between.

        Raises:
            KafkaException: The broker did not answer, or has no such topic.
        """
        if self._asked is None:
            if self._monotonic() >= self._at_s:
                self._asked = self._ask()
            return None
        if not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        return asked.result()

    def now(self) -> Any:
        """Return the description of the topic.

        Raises:
            KafkaException: The broker did not answer, or has no such topic.
        """
        return self._ask().result()

    def _ask(self) -> Future[Any]:
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=_CALL_S)
        return asked[self._topic]
