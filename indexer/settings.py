"""Settings of the indexer."""

from __future__ import annotations

from pydantic import Field

from fraud.runtime.settings import KafkaSettings, LabelSettings, OpenSearchSettings
from fraud.security.pseudonyms import PersonalDataSettings


class IndexerSettings(KafkaSettings, LabelSettings, OpenSearchSettings, PersonalDataSettings):
    """What the indexer needs."""

    indexer_group: str = Field("indexer", min_length=1, description="Kafka consumer group.")
    indexer_batch: int = Field(1000, ge=1, description="Most documents in one write.")
    indexer_linger_ms: int = Field(
        200, ge=0, description="How long documents are gathered for one write, milliseconds."
    )
    indexer_shards: int = Field(1, ge=1, description="Primary shards of each day's index.")
    indexer_replicas: int = Field(
        0, ge=0, description="Copies of each shard; 1 or more on several nodes."
    )
    indexer_retention_days: int = Field(
        90, ge=1, le=100_000, description="Days for which indexes are kept besides today's."
    )
    indexer_ops_port: int = Field(
        9104, ge=0, le=65535, description="Port of the indexer's metrics and health."
    )
