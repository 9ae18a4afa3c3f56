"""Wires the parts of the indexer together and shuts them down in order."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, TypeVar

import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from fraud.contracts.errors import Backpressure, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka.dead_letters import DeadLetterWriter
from fraud.kafka.group_consumer import KafkaSource, Message, consume, paused
from fraud.runtime.background import Background
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.lifecycle import CannotStart, OpsServer
from fraud.runtime.metrics import RETENTION_REFUSED
from fraud.security.pseudonyms import Pseudonyms
from indexer.bulk import connect, reason_of
from indexer.dead_letters import to_dead_letter
from indexer.documents import to_document
from indexer.labels import to_label
from indexer.retention import ClockDoubted, delete_expired
from indexer.settings import IndexerSettings
from indexer.sink import Sink

_SERVICE: Final = "indexer"
_RETENTION_ROUND_S: Final = 3600.0
_SMALL_TOPIC_LINGER_S: Final = 1.0
"""How long labels and dead letters are gathered for a batch. Each batch of labels refreshes the
indexes of decisions, which is too expensive to do more often."""
T = TypeVar("T")
_log = structlog.get_logger(_SERVICE)


def _prepare(sink: Sink, stop: threading.Event, service: str) -> None:
    """Prepare the sink, waiting for OpenSearch if need be, before joining the consumer group.

    Otherwise templates would be installed only with the first record, which may be hours away.
    """
    paused(service, False)
    while not stop.is_set():
        try:
            sink.prepare()
            return
        except Backpressure as verdict:
            paused(service, True)
            _log.warning(
                "indexer.opensearch_awaited",
                problem=str(verdict),
                retry_after_s=verdict.retry_after_s,
            )
            stop.wait(verdict.retry_after_s)


def sink_of(
    settings: IndexerSettings,
    client: OpenSearch,
    pseudonyms: Pseudonyms,
    *,
    clock: Clock = system_clock,
    pause: Callable[[float], object] = time.sleep,
) -> Sink:
    """Return a sink with the options of the settings."""
    return Sink(
        client,
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter
        shards=settings.indexer_shards,
        replicas=settings.indexer_replicas,
        clear=pseudonyms.clear,
        pause=pause,
    )


def run(settings: IndexerSettings, stop: threading.Event, *, clock: Clock = system_clock) -> None:
    """Run the indexer until `stop` is set.

    Decisions, labels and dead letters have a thread each, so none waits for the others. Shutdown
    order: stop reading, finish the current writes, commit, close.

    Raises:
        CannotStart: The key that hashes personal data cannot be read or created.
    """
    try:
        pseudonyms = Pseudonyms.of(settings)
    except (ValueError, OSError) as problem:
        raise CannotStart(str(problem), exit_code=1) from None
    client = connect(settings)
    decisions, labels, dead_letters = (
        sink_of(settings, client, pseudonyms, clock=clock, pause=stop.wait) for _ in range(3)
    )
    source: KafkaSource | None = None

    def waits_for() -> str | None:
        return (
            decisions.problem
            or (source.waits_for() if source else "Kafka")
            or labels.problem
            or dead_letters.problem
        )

    with ExitStack() as stack:
        stack.callback(client.close)
        stack.enter_context(OpsServer(settings.bind_host, settings.indexer_ops_port, waits_for))
        _prepare(decisions, stop, _SERVICE)
        stack.enter_context(
            Background("retention", lambda: _retain(client, settings, stop, clock), stop)
        )

        def follow_labels() -> None:
            _prepare(labels, stop, _service("labels"))
            _follow(
                settings,
                Topic.LABELS,
                "labels",
                lambda message: to_label(message, settings.label_ahead_s),
                labels.write_labels,
                stop,
                DeadLetterWriter(settings, clock).write,
            )

        def follow_dead_letters() -> None:
            _prepare(dead_letters, stop, _service("dead-letters"))
            _follow(
                settings,
                Topic.DEAD_LETTERS,
                "dead-letters",
                to_dead_letter,
                dead_letters.write_dead_letters,
                stop,
            )

        stack.enter_context(Background("labels", follow_labels, stop))
        stack.enter_context(Background("dead letters", follow_dead_letters, stop))
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
        consume(
            source,
            lambda message: to_document(message.value, pseudonyms),
            decisions.write,
            stop,
            service=_SERVICE,
        )
        _log.info("indexer.stopping")


def _service(name: str) -> str:
    """Return the name in metrics of the consumer of labels or dead letters."""
    return f"{_SERVICE}_{name.replace('-', '_')}"


def _follow(
    settings: IndexerSettings,
    topic: Topic,
    name: str,
    decode: Callable[[Message], T],
    handle: Callable[[Sequence[T]], None],
    stop: threading.Event,
    dead_letter: Callable[[Sequence[tuple[Message, InvalidMessage]]], None] | None = None,
) -> None:
    """Read one of the small topics until `stop` is set.

    Others write to them as well: unreadable records, however many, are counted and never keep
    decisions from being indexed.
    """
    service = _service(name)
    with KafkaSource(
        settings,
        topic,
        f"{settings.indexer_group}-{name}",
        service=service,
        max_records=settings.indexer_batch,
        linger_s=_SMALL_TOPIC_LINGER_S,
    ) as source:
        consume(
            source,
            decode,
            handle,
            stop,
            service=service,
            max_refused_in_a_row=sys.maxsize,
            dead_letter=dead_letter,
        )


def _retain(
    client: OpenSearch, settings: IndexerSettings, stop: threading.Event, clock: Clock
) -> None:
    while not stop.is_set():
        try:
            for expired in delete_expired(
                client,
                now_ms=clock(),
                keep_days=settings.indexer_retention_days,
                careful=True,
            ):
                _log.info(
                    "indexer.expired_deleted", index=expired.name, documents=expired.documents
                )
            RETENTION_REFUSED.set(0)
        except ClockDoubted as verdict:
            RETENTION_REFUSED.set(1)
            _log.error(
                "indexer.retention_refused",
                problem=str(verdict),
                command="fraudstream index retention",
            )
        except TransportError as error:
            # The next round tries again.
            _log.warning("indexer.retention_put_off", problem=reason_of(error))
        stop.wait(_RETENTION_ROUND_S)
