"""The indexer as a process: settings, wiring, shutdown."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from typing import Final

import structlog
from pydantic import Field

from fraud.contracts.errors import Backpressure
from fraud.contracts.topics import Topic
from fraud.kit.background import Background
from fraud.kit.clock import Clock, system_clock
from fraud.kit.kafka import KafkaSource, Message, consume
from fraud.kit.lifecycle import OpsServer
from fraud.kit.pseudonyms import PersonalDataSettings, Pseudonyms
from fraud.kit.settings import KafkaSettings, OpenSearchSettings
from indexer.documents import Document, to_document
from indexer.sink import Sink, connect

_SERVICE: Final = "indexer"
_RETENTION_ROUND_S: Final = 3600.0
_log = structlog.get_logger(_SERVICE)


class Settings(KafkaSettings, OpenSearchSettings, PersonalDataSettings):
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
        90, ge=1, description="Days for which indexes are kept besides today's."
    )
    indexer_ops_port: int = Field(
        9104, ge=0, le=65535, description="Port of the indexer's metrics and health."
    )


def _prepare(sink: Sink, stop: threading.Event) -> None:
    """Wait for OpenSearch before joining the consumer group: no traffic may come for long."""
    while not stop.is_set():
        try:
            sink.prepare()
            return
        except Backpressure as verdict:
            _log.info(
                "indexer.opensearch_awaited",
                problem=str(verdict),
                retry_after_s=verdict.retry_after_s,
            )
            stop.wait(verdict.retry_after_s)


def run(settings: Settings, stop: threading.Event, *, clock: Clock = system_clock) -> None:
    """Index until `stop` is set.

    On the way out: stop reading, finish the write in hand, commit, close.
    """
    pseudonyms = Pseudonyms.of(settings)
    client = connect(settings)
    sink = Sink(
        client,
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter
        shards=settings.indexer_shards,
        replicas=settings.indexer_replicas,
    )

    def retain() -> None:
        while not stop.is_set():
            sink.delete_expired(settings.indexer_retention_days)
            stop.wait(_RETENTION_ROUND_S)

    def read(message: Message) -> Document:
        return to_document(message.value, pseudonyms)

    source: KafkaSource | None = None
    with ExitStack() as stack:
        stack.callback(client.close)
        stack.enter_context(
            OpsServer(
                settings.bind_host,
                settings.indexer_ops_port,
                lambda: sink.problem or (source.waits_for() if source else "Kafka"),
            )
        )
        _prepare(sink, stop)
        stack.enter_context(Background("retention", retain, stop))
        source = stack.enter_context(
            KafkaSource(
                settings,
                Topic.PROCESSED,
                settings.indexer_group,
                service=_SERVICE,
                max_records=settings.indexer_batch,
                linger_s=settings.indexer_linger_ms / 1000,
            )
        )
        _log.info("indexer.started")
        consume(source, read, sink.write, stop, service=_SERVICE)
        _log.info("indexer.stopping")
