"""Kafka clients, made here and nowhere else: what all of them have in common, and how they fail in words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

LIBRDKAFKA: Final = logging.getLogger("librdkafka")
"""Takes what the client library logs; without a logger it writes to stderr."""


Options = Mapping[str, Any]
"""Settings of librdkafka by their names, such as `linger.ms`."""


def group_member(connection: Options, group: str, options: Options) -> Consumer:
    """Make a consumer that is a member of a group: partitions and offsets are the group's.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        group: Id of the consumer group.
        options: Further settings.
    """
    return Consumer({**connection, "group.id": group, **options}, logger=LIBRDKAFKA)


def reader(connection: Options, name: str, options: Options) -> Consumer:
    """Make a consumer that reads what it is assigned, and commits nothing.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        name: Name of the reader, for the broker's logs: librdkafka insists on a group's name.
        options: Further settings.
    """
    return group_member(connection, name, {"enable.auto.commit": False, **options})


def producer(connection: Options, options: Options) -> Producer:
    """Make an idempotent producer: retries of the library write no record twice.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        options: Further settings; those of the connection win.
    """
    return Producer({"enable.idempotence": True, **options, **connection}, logger=LIBRDKAFKA)


def admin(connection: Options, options: Options) -> AdminClient:
    """Make an administrative client.

    Args:
        connection: From `KafkaSettings.librdkafka`.
        options: Further settings.
    """
    return AdminClient({**connection, **options}, logger=LIBRDKAFKA)


def unreachable(servers: str, code: str, *, verb: str = "reached") -> str:
    """Write the error text for a broker that did not answer."""
    return (
        f"Kafka at {servers} could not be {verb} ({code}): is it running, and is "
        "KAFKA_BOOTSTRAP_SERVERS right?"
    )


def no_topic(servers: str, topic: str) -> str:
    """Write the error text for a topic that the broker does not have."""
    return (
        f"Kafka at {servers} has no topic {topic}: is it the right one, and "
        "were the topics made (python -m fraud.kafka.topics)?"
    )
