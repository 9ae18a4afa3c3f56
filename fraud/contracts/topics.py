"""Declares the topics; they are created, documented and tested from this declaration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fraud.contracts.times import DAY_MS

_MIB: Final = 1_048_576


class Topic(StrEnum):
    """Logical names of topics; settings may map each to a different physical name."""

    TRANSACTIONS = "transactions"
    PROCESSED = "processed_transactions"
    DEAD_LETTERS = "transactions.dlq"
    LABELS = "labels"
    CONTROL = "fraud_control"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Configuration, writers and readers of a topic.

    Attributes:
        topic: Logical name.
        partitions: Default number of partitions; a topic can be created with more.
        key: Content of the record key.
        schema: File name under `fraud/contracts/schemas`, None for raw bytes.
        config: Topic settings of Kafka.
        owners: Components that write to the topic.
        readers: Components that read the topic.
        meaning: One sentence for the docs.
    """

    topic: Topic
    partitions: int
    key: str
    schema: str | None
    config: MappingProxyType[str, str]
    owners: tuple[str, ...]
    readers: tuple[str, ...]
    meaning: str


def _config(**settings: str | int) -> MappingProxyType[str, str]:
    return MappingProxyType(
        {name.replace("_", "."): str(value) for name, value in settings.items()}
    )


TOPICS: Final[tuple[TopicSpec, ...]] = (
    TopicSpec(
        Topic.TRANSACTIONS,
        partitions=4,
        key="entity_id",
        schema="transaction.json",
        # The broker's clock, because latencies and daily indexes must not depend on clients' clocks.
        config=_config(
            cleanup_policy="delete",
            retention_ms=30 * DAY_MS,
            message_timestamp_type="LogAppendTime",
            max_message_bytes=_MIB,
        ),
        owners=("producer", "scoring_api", "fraudstream", "your systems"),
        readers=("flink_job",),
        meaning="Payment attempts to be decided.",
    ),
    TopicSpec(
        Topic.PROCESSED,
        partitions=4,
        key="entity_id",
        schema="processed_transaction.json",
        config=_config(
            cleanup_policy="delete",
            retention_ms=30 * DAY_MS,
            message_timestamp_type="LogAppendTime",
            max_message_bytes=2 * _MIB,
        ),
        owners=("flink_job",),
        readers=("notifier", "indexer", "scoring_api", "producer", "fraudstream", "your systems"),
        meaning="The same records with the decision as field `fd`.",
    ),
    TopicSpec(
        Topic.DEAD_LETTERS,
        partitions=1,
        key="the original key",
        schema=None,
        config=_config(
            cleanup_policy="delete",
            retention_ms=30 * DAY_MS,
            message_timestamp_type="LogAppendTime",
            max_message_bytes=2 * _MIB,
        ),
        owners=("flink_job", "indexer", "fraudstream"),
        readers=("indexer", "fraudstream", "operators"),
        meaning="Records that can never be decided, untouched, with the reason in their headers.",
    ),
    TopicSpec(
        Topic.LABELS,
        partitions=1,
        key="event_id",
        schema="label.json",
        # Its own clock also here: a label_time ahead of it is refused.
        config=_config(
            cleanup_policy="delete",
            retention_ms=400 * DAY_MS,
            message_timestamp_type="LogAppendTime",
        ),
        owners=("producer", "scoring_api", "fraudstream", "your systems"),
        readers=("indexer", "model", "fraudstream"),
        meaning="Ground truth of transactions.",
    ),
    TopicSpec(
        Topic.CONTROL,
        partitions=1,
        key="kind/name/version",
        schema="control_document.json",
        # A segment a day, compacted within another: what was removed is gone in days, not months.
        config=_config(
            cleanup_policy="compact",
            segment_ms=DAY_MS,
            max_compaction_lag_ms=DAY_MS,
            delete_retention_ms=30 * DAY_MS,
        ),
        owners=("fraudstream", "scoring_api"),
        readers=("flink_job", "scoring_api", "producer", "fraudstream"),
        meaning="Rules, lists, models, and injections into the simulated world, switched live.",
    ),
)
