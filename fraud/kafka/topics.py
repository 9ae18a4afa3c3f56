"""`python -m fraud.kafka.topics` creates the topics of the contract; existing ones stay as is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __all__ names them as text
    AdminClient,
    ConfigResource,
    NewTopic,
)
from pydantic import Field

from fraud.contracts.times import DAY_MS
from fraud.contracts.topics import TOPICS, Topic, TopicSpec
from fraud.kafka import clients
from fraud.kafka.control import adopt_unsigned
from fraud.kafka.range_reader import CannotRead
from fraud.kafka.sync_producer import CannotPublish
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_logs
from fraud.runtime.settings import KafkaSettings

_log = structlog.get_logger("fraud.kafka.topics")

_STREAM: Final = frozenset({Topic.TRANSACTIONS, Topic.PROCESSED})
_CALL_S: Final = 3.0
_PAUSE_S: Final = 1.0


class Settings(KafkaSettings):
    """Settings for the creation of topics."""

    kafka_replication_factor: int = Field(
        1, ge=1, description="Copies of each partition when a topic is made; at most the number of brokers."
    )  # fmt: skip
    transactions_partitions: int | None = Field(
        None, ge=1, description="Partitions of transactions and processed_transactions when made; empty = the contract's."
    )  # fmt: skip
    transactions_retention_days: int | None = Field(
        None, ge=1, description="Days that transactions keeps records when made; below 30, windows of 30 days are short after the history is rebuilt. Empty = the contract's 30."
    )  # fmt: skip
    topics_timeout_s: float = Field(
        120.0, gt=0, description="How long to wait for Kafka when topics are made, seconds."
    )


def partitions_of(spec: TopicSpec, settings: Settings) -> int:
    """Return the number of partitions with which a topic is created."""
    if spec.topic in _STREAM and settings.transactions_partitions is not None:
        return settings.transactions_partitions
    return spec.partitions


def config_of(spec: TopicSpec, settings: Settings) -> dict[str, str]:
    """Return Kafka's settings with which a topic is created."""
    config = dict(spec.config)
    if spec.topic is Topic.TRANSACTIONS and settings.transactions_retention_days is not None:
        config["retention.ms"] = str(settings.transactions_retention_days * DAY_MS)
    return config


def make_topics(
    settings: Settings,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> set[str]:
    """Create missing topics, and warn about existing ones that differ from the contract.

    Waits until Kafka answers. Existing topics are never changed: their settings are the operator's,
    and more partitions would break the order per key.

    Returns:
        Physical names of the topics that this process created.

    Raises:
        TimeoutError: Kafka did not answer within `topics_timeout_s`.
        KafkaException: Kafka refused, for example because a permission is missing.
    """
    admin = clients.admin(settings.librdkafka(), {"reconnect.backoff.max.ms": 1000})
    started_s, made = monotonic(), set[str]()
    while True:
        try:
            made |= _make(admin, settings)
            _warn_of_differences(admin, settings)
            return made
        except KafkaException as error:
            if error.args[0].code() not in _TRANSIENT:
                raise
            waited_s = monotonic() - started_s
            if waited_s >= settings.topics_timeout_s:
                raise TimeoutError(
                    f"Kafka at {settings.kafka_bootstrap_servers} did not answer within "
                    f"{settings.topics_timeout_s:g} s ({error.args[0].name()})"
                ) from error
            _log.info(
                "topics.kafka_awaited",
                servers=settings.kafka_bootstrap_servers,
                waited_s=round(waited_s, 1),
                code=error.args[0].name(),
            )
            pause(_PAUSE_S)


def _make(admin: AdminClient, settings: Settings) -> set[str]:
    existing = admin.list_topics(timeout=_CALL_S).topics
    missing = [spec for spec in TOPICS if settings.topic(spec.topic) not in existing]
    if not missing:
        _log.info("topics.found", topics=[settings.topic(spec.topic) for spec in TOPICS])
        return set()
    asked = admin.create_topics(
        [
            NewTopic(
                settings.topic(spec.topic),
                num_partitions=partitions_of(spec, settings),
                replication_factor=settings.kafka_replication_factor,
                config=config_of(spec, settings),
            )
            for spec in missing
        ],
        request_timeout=_CALL_S,
    )
    made = set()
    for name, answer in asked.items():
        try:
            answer.result()
        except KafkaException as error:
            # Another process created it first.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            made.add(name)
            _log.info("topics.made", topic=name)
    return made


def _warn_of_differences(admin: AdminClient, settings: Settings) -> None:
    """Log how existing topics differ from the contract, as far as Kafka shows their settings."""
    known = admin.list_topics(timeout=_CALL_S).topics
    resources = [
        ConfigResource(ConfigResource.Type.TOPIC, settings.topic(spec.topic)) for spec in TOPICS
    ]
    answers = admin.describe_configs(resources, request_timeout=_CALL_S)
    for spec, resource in zip(TOPICS, resources, strict=True):
        name = settings.topic(spec.topic)
        found = known.get(name)
        if found is not None and len(found.partitions) != partitions_of(spec, settings):
            _log.warning(
                "topics.partitions_differ",
                topic=name,
                found=len(found.partitions),
                wanted=partitions_of(spec, settings),
            )
        try:
            entries = answers[resource].result()
        except KafkaException as error:
            if error.args[0].code() in _TRANSIENT:
                raise
            _log.warning("topics.config_unreadable", topic=name, code=error.args[0].name())
            continue
        for setting, (is_value, wanted) in differences(config_of(spec, settings), entries).items():
            _log.warning(
                "topics.config_differs", topic=name, setting=setting, found=is_value, wanted=wanted
            )


def differences(
    config: Mapping[str, str], entries: dict[str, Any]
) -> dict[str, tuple[str | None, str]]:
    """Compare a topic's settings with the contract.

    Args:
        config: Its settings by the contract, see `config_of`.
        entries: Kafka's settings of the topic by name, each with an attribute `value`.

    Returns:
        Found and wanted value of each setting that differs.
    """
    found = {name: entries[name].value if name in entries else None for name in config}
    return {name: (found[name], wanted) for name, wanted in config.items() if found[name] != wanted}


_TRANSIENT: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.INVALID_REPLICATION_FACTOR,
    }
)
"""Errors of a cluster that is still starting; the last one while too few brokers are registered."""


def main() -> None:
    """Create the topics; if Kafka does not answer in time, print one line and exit with code 1."""
    settings = load_settings(Settings)
    configure_logs(settings, "topics")
    try:
        made = make_topics(settings)
        # Documents from before they were signed count from now on, and no other unsigned ones.
        if settings.topic(Topic.CONTROL) not in made:
            adopt_unsigned(settings, "fraudstream")
    except TimeoutError as error:
        sys.stderr.write(f"topics: {error}; is it running, and is KAFKA_BOOTSTRAP_SERVERS right?\n")
        raise SystemExit(1) from None
    except (CannotRead, CannotPublish, ValueError, OSError) as error:
        sys.stderr.write(f"topics: control documents cannot be signed: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
