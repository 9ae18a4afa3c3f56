"""A rebuild beside an indexer that goes on: the last word on each input stays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Position
from indexer.rebuild import Rebuilt, _Reader
from tests.support.builders import START_MS


class GrowingFeed:
    """A topic of one partition; its end is where it ended when reading was begun."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)
        self.start(None)

    def start(self, position: Position | None) -> None:
        self.next = 0 if position is None else position.offsets[0]
        self.end = len(self.values)

    def poll(self, timeout_s: float) -> list[Message]:
        batch = [
            Message("processed_transactions", 0, at, START_MS, None, self.values[at])
            for at in range(self.next, min(self.next + 2, len(self.values)))
        ]
        self.next += len(batch)
        return batch

    def position(self) -> Position:
        return Position("topic", {0: self.next})

    def waits_for(self) -> str | None:
        return None if self.next >= self.end else "more"


def decode(message: Message) -> tuple[str, int]:
    """Read `NAME=VERSION`."""
    name, is_pair, version = (message.value or b"").decode().partition("=")
    if not is_pair:
        raise InvalidMessage(ErrorCode.NOT_JSON, "no pair")
    return name, int(version)


@pytest.mark.parametrize("repeats", [0, 1, 2, 5])
def test_a_repeat_that_the_indexer_writes_meanwhile_stays(repeats: int) -> None:
    """However often one comes between our reading and our writing of the same input."""
    feed = GrowingFeed(b"a=1", b"b=1", b"c=1", b"garbage", b"d=1")
    index: dict[str, int] = {}
    left = repeats

    def write(batch: Sequence[tuple[str, int]]) -> None:
        nonlocal left
        # The job decides anew what it has just read, and the running indexer is faster than we.
        for name, version in batch if left and feed.next >= 4 else ():
            feed.values.append(f"{name}={version + 1}".encode())
            index[name] = version + 1
            left -= 1
            break
        index.update(batch)

    reader = _Reader(feed, decode, write, lambda one: one[0], lambda _: None, 60.0)
    done = reader.read_all(Topic.PROCESSED, lambda _: None)
    last = dict(
        decode(Message("", 0, 0, 0, None, value)) for value in feed.values if value != b"garbage"
    )
    assert index == last
    assert done == Rebuilt(Topic.PROCESSED, 5 + repeats, 1)
