"""Create all Kafka clients with their common settings, and word their common errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

LIBRDKAFKA: Final = logging.getLogger("librdkafka")
"""Logger of the client library, which would otherwise write to stderr."""


Options = Mapping[str, Any]
"""Settings of librdkafka by their names, such as `linger.ms`."""


def group_member(connection: Options, group: str, options: Options) -> Consumer:
    """Create a consumer in a consumer group, which assigns its partitions and keeps its offsets.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        group: Id of the consumer group.
        options: Further settings.
    """
    return Consumer({**connection, "group.id": group, **options}, logger=LIBRDKAFKA)


def reader(connection: Options, name: str, options: Options) -> Consumer:
    """Create a consumer of explicitly assigned partitions, which commits no offsets.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        name: Name of the reader in the broker's logs: its group id, which librdkafka requires.
        options: Further settings.
    """
    return group_member(connection, name, {"enable.auto.commit": False, **options})


def producer(connection: Options, options: Options) -> Producer:
    """Create an idempotent producer: retries by the library write no duplicates.

    Args:
        connection: From `KafkaSettings.librdkafka`; overrides `options`.
        options: Further settings.
    """
    return Producer({"enable.idempotence": True, **options, **connection}, logger=LIBRDKAFKA)


def admin(connection: Options, options: Options) -> AdminClient:
    """Create a client for administration.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        options: Further settings.
    """
    return AdminClient({**connection, **options}, logger=LIBRDKAFKA)


def unreachable(servers: str, code: str, *, verb: str = "reached") -> str:
    """Return the error text for brokers that did not answer."""
    return (
        f"Kafka at {servers} could not be {verb} ({code}): is it running, and is "
        "KAFKA_BOOTSTRAP_SERVERS right?"
    )


def no_topic(servers: str, topic: str) -> str:
    """Return the error text for a topic that does not exist."""
    return (
        f"Kafka at {servers} has no topic {topic}: is it the right one, and "
        "were the topics made (python -m fraud.kafka.topics)?"
    )
