"""Write everything again from the topics: labels, decisions, dead letters.

What comes out is what the running indexer would have written, document by document, so a rebuild
repairs an index that lost something, was made by other settings, or is gone. It reads with no
consumer group of its own, beside the running indexer. Documents that are older than their topic
remembers stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from opensearchpy import OpenSearch
from prometheus_client import Gauge

from fraud.contracts.errors import Backpressure, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Feed, TopicFeed
from fraud.runtime.settings import KafkaSettings
from fraud.security.pseudonyms import Pseudonyms
from indexer.dead_letters import to_dead_letter
from indexer.documents import ALIAS, LABELS, REJECTED, to_document
from indexer.labels import to_label
from indexer.sink import Sink
from indexer.template import DEAD_LETTER_INDEX

_POLL_S: Final = 0.1
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
        topic: Topic,
        decode: Callable[[Message], T],
        write: Callable[[Sequence[T]], None],
        identify: Callable[[T], str],
    ) -> Rebuilt:
        lag = Gauge("fraudstream_rebuild_lag", "Records not yet read.", registry=None)
        with TopicFeed(settings, topic, service="indexer-rebuild", lag=lag) as feed:
            reader = _Reader(feed, decode, write, identify, pause, timeout_s)
            return reader.read_all(topic, lambda count: progress(topic, count))

    return [
        # Labels first, so that decisions find theirs.
        read(Topic.LABELS, to_label, sink.write_labels, lambda label: label.event_id),
        read(
            Topic.PROCESSED,
            lambda message: to_document(message.value, pseudonyms),
            sink.write,
            lambda document: document.id,
        ),
        read(
            Topic.DEAD_LETTERS,
            to_dead_letter,
            sink.write_dead_letters,
            lambda document: document.id,
        ),
    ]


class _Reader(Generic[T]):
    """Reads a topic and writes it, beside an indexer that does the same with what comes."""

    def __init__(
        self,
        feed: Feed,
        decode: Callable[[Message], T],
        write: Callable[[Sequence[T]], None],
        identify: Callable[[T], str],
        pause: Callable[[float], object],
        timeout_s: float,
    ) -> None:
        self._feed = feed
        self._decode = decode
        self._write = write
        self._identify = identify
        self._pause = pause
        self._timeout_s = timeout_s
        self._records = 0
        self._refused = 0

    def read_all(self, topic: Topic, progress: Callable[[int], object]) -> Rebuilt:
        """Read to the end, and then what came meanwhile, until the last word on all is written.

        A decision that the job repeated may come, and be written by the indexer, between our
        reading the earlier one and our writing it. It stands in the topic then: so after all is
        written the rest is read, and what repeats something just written is written again.
        """
        for _ in self._to_end(progress):
            # Of all that there is, the names would take more memory than anything else.
            pass
        self._feed.start(self._feed.position())
        just_written = set(self._to_end(progress))
        while just_written:
            self._feed.start(self._feed.position())
            just_written = set(self._to_end(progress, only=just_written))
        return Rebuilt(topic, self._records, self._refused)

    def _to_end(
        self, progress: Callable[[int], object], *, only: Container[str] | None = None
    ) -> Iterator[str]:
        """Write all up to the end as it is now, or what `only` names; yield the names."""
        heard_s = time.monotonic()
        while self._feed.waits_for() is not None:
            batch = self._feed.poll(_POLL_S)
            decoded = []
            for message in batch:
                try:
                    document = self._decode(message)
                except InvalidMessage:
                    self._refused += 1
                    continue
                if only is None or self._identify(document) in only:
                    decoded.append(document)
            self._write_all(decoded)
            yield from map(self._identify, decoded)
            self._records += len(batch)
            progress(len(batch))
            if batch:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > self._timeout_s:
                raise TimeoutError(f"waited {self._timeout_s:g} s for {self._feed.waits_for()}")

    def _write_all(self, decoded: Sequence[T]) -> None:
        while decoded:
            try:
                self._write(decoded)
                return
            except Backpressure as verdict:
                self._pause(verdict.retry_after_s)
