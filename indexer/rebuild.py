"""Rebuilds the indexes from the topics of labels, decisions and dead letters.

A rebuild writes the same documents as the running indexer, so it repairs an index that lost
documents, was made with other settings, or is gone. It uses no consumer group and can run beside
the indexer. Documents whose records the topic no longer holds stay as they are.
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
    """Counts of a rebuilt topic.

    Attributes:
        topic: Logical name of the topic.
        records: Number of records read.
        refused: Number of these that could not be decoded.
    """

    topic: Topic
    records: int
    refused: int


def delete_all(client: OpenSearch) -> list[str]:
    """Delete all indexes that the indexer writes.

    Returns:
        Names of the deleted indexes.
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
    """Read the topics from beginning to end and write their documents.

    Args:
        settings: Settings of the Kafka client.
        sink: Writes the documents.
        pseudonyms: Hashes personal values, unless clear text is allowed.
        progress: Called after each batch with the topic and the number of records in the batch.
        pause: Sleeps for a number of seconds.
        timeout_s: How long Kafka may deliver nothing before the end of a topic, seconds.

    Raises:
        TimeoutError: Kafka delivered nothing for `timeout_s`.
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
        # Labels first, so that decisions are written with them.
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
    """Reads a topic and writes its documents while the indexer may write new ones."""

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
        """Read to the end, then records added meanwhile, until each document is of its last record.

        The job may decide a transaction again between our reading and writing its first decision,
        and the indexer may write the new decision before we overwrite it with the old one. The new
        one is in the topic by then. So the rest of the topic is read after each pass, and records
        whose document was just written are written again.
        """
        for _ in self._to_end(progress):
            # The ids of a whole topic would take too much memory. The next pass reads few records:
            # it writes all of them and collects their ids.
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
        """Write all records up to the current end, or those with ids in `only`; yield their ids."""
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
