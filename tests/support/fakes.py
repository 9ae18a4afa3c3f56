"""A scorer and a feed that do as told."""

from __future__ import annotations

from threading import Event

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.decision.engine import Engine
from fraud.decision.policy import Policy
from fraud.decision.rule_sets import shipped
from fraud.decision.scale import ScoreScale
from fraud.features.vector import FEATURE_NAMES
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Position, TopicReplaced
from tests.support.builders import START_MS, a_processed

NOW_MS = START_MS + 60_000
KNOWN_COUNT = FEATURE_NAMES.index("entity_known_count")


class CountingScorer:
    """Gives a probability that tells how much history the vector saw: 0.001 a row."""

    ref = ModelRef(name="counting", version="1")
    scale = ScoreScale([0.0, 1.0], [0.0, 1000.0])

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the count of known rows in thousandths."""
        return matrix[:, KNOWN_COUNT].astype(np.float64) / 1000

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return no feature a part."""
        return np.zeros(matrix.shape)


def an_engine(scorer: CountingScorer | None = None) -> Engine:
    """Make an engine whose clock stands still."""
    scorer = scorer or CountingScorer()
    return Engine(scorer, Policy(shipped(), scorer.ref), lambda: NOW_MS, lambda: 0.0)


class ListFeed:
    """A topic of one partition, which ends the follower's run once it has all been read.

    Args:
        values: Its records.
        stop: Set when they have been handed out.
        topic_id: Id of the topic.
        at_most: Most records handed out at once.
    """

    def __init__(
        self,
        values: list[bytes | None],
        stop: Event,
        *,
        topic_id: str = "topic-a",
        at_most: int = 1000,
    ) -> None:
        self.values = values
        self.stop = stop
        self.topic_id = topic_id
        self.at_most = at_most
        self.next = 0
        self.started_at: list[Position | None] = []
        self._replaced = False

    def start(self, position: Position | None) -> None:
        """See `Feed`."""
        self.started_at.append(position)
        self.next = 0 if position is None else position.offsets[0]
        self._replaced = position is not None and (
            position.topic_id != self.topic_id or self.next > len(self.values)
        )

    def poll(self, timeout_s: float) -> list[Message]:
        """See `Feed`."""
        if self._replaced:
            raise TopicReplaced("another topic")
        batch = [
            Message("processed_transactions", 0, offset, START_MS, None, self.values[offset])
            for offset in range(self.next, min(self.next + self.at_most, len(self.values)))
        ]
        self.next += len(batch)
        if self.next == len(self.values):
            self.stop.set()
        return batch

    def position(self) -> Position | None:
        """See `Feed`."""
        return None if self._replaced else Position(self.topic_id, {0: self.next})

    def waits_for(self) -> str | None:
        """See `Feed`."""
        return None if self.next == len(self.values) else "the end of the list"


def processed(
    number: int,
    *,
    entity: str = "c-1",
    partition: int = 0,
    timestamp_ms: int | None = None,
    offset: int | None = None,
    duplicate: bool = False,
) -> bytes:
    """Make the output record of one event; by default its offset is its number."""
    return a_processed(
        {"event_id": f"e-{number}", "entity_id": entity},
        {
            "duplicate": duplicate,
            "source": {
                "topic": "transactions",
                "partition": partition,
                "offset": number if offset is None else offset,
                "timestamp_ms": START_MS + number if timestamp_ms is None else timestamp_ms,
            },
        },
    )
