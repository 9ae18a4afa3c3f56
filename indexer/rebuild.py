"""Write everything again from the topics: labels, decisions, dead letters.

What comes out is what the running indexer would have written, document by document, so a rebuild
repairs an index that lost something, was made by other settings, or is gone. It reads with no
consumer group of its own, beside the running indexer. Documents that are older than their topic
remembers stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from opensearchpy import OpenSearch
from prometheus_client import Gauge

from fraud.contracts.errors import Backpressure, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kit.feed import TopicFeed
from fraud.kit.kafka import Message
from fraud.kit.pseudonyms import Pseudonyms
from fraud.kit.settings import KafkaSettings
from indexer.dead_letters import to_dead_letter
from indexer.documents import ALIAS, LABELS, REJECTED, to_document
from indexer.labels import to_label
from indexer.sink import Sink
from indexer.template import DEAD_LETTER_INDEX

_POLL_S: Final = 1.0
_FULL: Final = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was read of a topic.

    Attributes:
        topic: Logical name.
        records: How many.
        refused: How many of these could not be read.
    """

    topic: Topic
    records: int
    refused: int


def delete_all(client: OpenSearch) -> list[str]:
    """Delete all that the indexer wrote.

    Returns:
        Names of the indexes.
    """
    found = client.indices.get(
        index=f"{ALIAS},{LABELS},{REJECTED},{DEAD_LETTER_INDEX}",
        params={"ignore_unavailable": "true", "allow_no_indices": "true"},
    )
    for name in sorted(found):
        client.indices.delete(index=name)
    return sorted(found)


def rebuild(
    settings: KafkaSettings,
    sink: Sink,
    pseudonyms: Pseudonyms,
    *,
    progress: Callable[[Topic, int], object] = lambda *_: None,
    pause: Callable[[float], object] = time.sleep,
    timeout_s: float = 60.0,
) -> list[Rebuilt]:
    """Read the topics from their beginning to their end and write all of it.

    Args:
        settings: How to reach Kafka.
        sink: Where to.
        pseudonyms: How personal values are written.
        progress: Called after each batch with the records read.
        pause: Waits some seconds.
        timeout_s: How long Kafka may stay silent before the end, seconds.

    Raises:
        TimeoutError: Kafka was silent for `timeout_s`.
    """

    def read(
        topic: Topic, decode: Callable[[Message], T], write: Callable[[Sequence[T]], None]
    ) -> Rebuilt:
        return _read(settings, topic, decode, write, progress, pause, timeout_s)

    return [
        # Labels first, so that decisions find theirs.
        read(Topic.LABELS, to_label, sink.write_labels),
        read(Topic.PROCESSED, lambda message: to_document(message.value, pseudonyms), sink.write),
        read(Topic.DEAD_LETTERS, to_dead_letter, sink.write_dead_letters),
    ]


def _read(
    settings: KafkaSettings,
    topic: Topic,
    decode: Callable[[Message], Any],
    write: Callable[[Sequence[Any]], None],
    progress: Callable[[Topic, int], object],
    pause: Callable[[float], object],
    timeout_s: float,
) -> Rebuilt:
    lag = Gauge("fraudstream_rebuild_lag", "Records not yet read.", registry=None)
    records = refused = 0
    with TopicFeed(settings, topic, service="indexer-rebuild", lag=lag) as feed:
        heard_s = time.monotonic()
        while True:
            batch = feed.poll(_POLL_S)
            decoded = []
            for message in batch:
                try:
                    decoded.append(decode(message))
                except InvalidMessage:
                    refused += 1
            while decoded:
                try:
                    write(decoded)
                    break
                except Backpressure as verdict:
                    pause(verdict.retry_after_s)
            records += len(batch)
            progress(topic, len(batch))
            # A full batch at the end is what came meanwhile. It is read on until little does, so
            # that a decision which the job repeated ends as its last one, whoever wrote it last.
            if feed.waits_for() is None and len(batch) < _FULL:
                return Rebuilt(topic, records, refused)
            if batch:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > timeout_s:
                raise TimeoutError(f"waited {timeout_s:g} s for {feed.waits_for()}")
