"""The input topic as the broker describes it, and how far the job's group has committed it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Final

from confluent_kafka import TopicCollection, TopicPartition

from flink_job.settings import JobSettings
from fraud.contracts.topics import Topic
from fraud.kafka import clients

CALL_S: Final = 30.0
"""Longest wait for an answer of the broker, seconds."""


def describe(settings: JobSettings) -> tuple[str, list[int]]:
    """Return Kafka's id of the input topic, and its partitions.

    Raises:
        KafkaException: The broker does not answer.
    """
    name = settings.topic(Topic.TRANSACTIONS)
    admin = clients.admin(settings.librdkafka(), {})
    asked = admin.describe_topics(TopicCollection([name]), request_timeout=CALL_S)
    described = asked[name].result(CALL_S)
    return str(described.topic_id), [partition.id for partition in described.partitions]


def committed_offsets(settings: JobSettings, partitions: Sequence[int]) -> dict[int, int]:
    """Return the next offset of each partition that the job's group has committed, 0 without one.

    Raises:
        KafkaException: The broker does not answer.
    """
    name = settings.topic(Topic.TRANSACTIONS)
    with closing(
        clients.group_member(settings.librdkafka(), settings.flink_job_name, {})
    ) as consumer:
        found = consumer.committed(
            [TopicPartition(name, partition) for partition in partitions], timeout=CALL_S
        )
    return {place.partition: max(place.offset, 0) for place in found}
