"""Topics are made as the contract says."""

from __future__ import annotations

from types import SimpleNamespace

from fraud.contracts.topics import TOPICS, Topic
from fraud.kafka.topics import Settings, config_of, differences, partitions_of

SPECS = {spec.topic: spec for spec in TOPICS}


def test_the_setting_counts_for_the_stream_only() -> None:
    """Labels and dead letters keep their one partition."""
    settings = Settings(transactions_partitions=12)
    assert partitions_of(SPECS[Topic.TRANSACTIONS], settings) == 12
    assert partitions_of(SPECS[Topic.PROCESSED], settings) == 12
    assert partitions_of(SPECS[Topic.DEAD_LETTERS], settings) == 1


def test_the_retention_is_that_of_transactions_alone() -> None:
    settings = Settings(transactions_retention_days=3)
    assert config_of(SPECS[Topic.TRANSACTIONS], settings)["retention.ms"] == str(3 * 86_400_000)
    assert config_of(SPECS[Topic.PROCESSED], settings) == SPECS[Topic.PROCESSED].config
    assert config_of(SPECS[Topic.TRANSACTIONS], Settings()) == SPECS[Topic.TRANSACTIONS].config


def test_differences_name_found_and_wanted() -> None:
    """A setting that Kafka does not tell counts as different."""
    spec = SPECS[Topic.TRANSACTIONS]
    same = {name: SimpleNamespace(value=value) for name, value in spec.config.items()}
    assert differences(spec.config, same) == {}
    changed = same | {"message.timestamp.type": SimpleNamespace(value="CreateTime")}
    del changed["retention.ms"]
    assert differences(spec.config, changed) == {
        "message.timestamp.type": ("CreateTime", "LogAppendTime"),
        "retention.ms": (None, spec.config["retention.ms"]),
    }
