"""A Kafka topic in memory, for tests; it passes the same test suite as the real one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fraud.kafka.group_consumer import Message


class MemoryTopic:
    """A topic with partitions, and committed offsets per consumer group. Not thread-safe.

    Args:
        name: Physical name.
        partitions: Number of partitions.
    """

    def __init__(self, name: str = "memory", partitions: int = 2) -> None:
        self.name = name
        self._records: list[list[Message]] = [[] for _ in range(partitions)]
        self._committed: dict[str, dict[int, int]] = defaultdict(dict)

    def produce(self, value: bytes | None, *, partition: int = 0, timestamp_ms: int = 0) -> None:
        """Append one record to the topic."""
        records = self._records[partition]
        records.append(Message(self.name, partition, len(records), timestamp_ms, None, value))

    def committed(self, group: str) -> dict[int, int]:
        """Return a group's committed offsets by partition; partitions without one are left out."""
        return dict(self._committed[group])

    def read(self, partition: int, offset: int, at_most: int) -> list[Message]:
        """Return at most `at_most` records from an offset on."""
        return self._records[partition][offset : offset + at_most]

    def commit(self, group: str, partition: int, offset: int) -> None:
        """Commit a group's next offset of a partition."""
        self._committed[group][partition] = offset

    def source(self, group: str = "group", *, max_records: int = 1000) -> MemorySource:
        """Join a group as its only member."""
        return MemorySource(self, group, len(self._records), max_records)


class MemorySource:
    """The only member of a consumer group. Commits each batch when it is done, and never waits.

    Args:
        topic: Topic to read.
        group: Id of the group.
        partitions: Number of partitions of the topic.
        max_records: Maximum number of records in a batch.
    """

    def __init__(self, topic: MemoryTopic, group: str, partitions: int, max_records: int) -> None:
        self._topic = topic
        self._group = group
        self._max_records = max_records
        committed = topic.committed(group)
        self._next = [committed.get(partition, 0) for partition in range(partitions)]
        self._held: list[Message] = []
        self._paused = False

    def poll(self, timeout_s: float) -> list[Message]:  # noqa: ARG002 - nothing to wait for
        """Return the batch that was put back, or else the next records."""
        if self._paused:
            return []
        if self._held:
            held, self._held = self._held, []
            return held
        batch: list[Message] = []
        for partition, offset in enumerate(self._next):
            batch += self._topic.read(partition, offset, self._max_records - len(batch))
        for message in batch:
            self._next[message.partition] = message.offset + 1
        return batch

    def done(self, batch: Sequence[Message]) -> None:
        """Commit the offsets after the batch."""
        for message in batch:
            self._topic.commit(self._group, message.partition, message.offset + 1)

    def put_back(self, batch: Sequence[Message]) -> None:
        """Hold the batch back and return nothing until `resume`."""
        self._held = [*batch, *self._held]
        self._paused = True

    def resume(self) -> None:
        """Continue, beginning with the batch that was put back."""
        self._paused = False
