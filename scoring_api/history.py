"""The API's history: the job's rings (see `fraud.features.history`), rebuilt from its output.

The job publishes at least once, so it repeats records after a restart. A ring recognises repeats of
the events that it holds, but not of older ones. Each entity therefore also has *marks*: the last
offset that was remembered of each of its input partitions.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fraud.contracts.decision import Mark, decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import DECISION_FIELD, Transaction, as_of_arrival, from_mapping
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories, remember
from fraud.features.packing import Packed, pack
from scoring_api.expected import Expected, event_of, rows_of

_COPIED_AT_ONCE: Final = 1000
_MARK: Final = struct.Struct("<iqq")  # partition, offset, timestamp_ms


@dataclass(frozen=True, slots=True)
class Processed:
    """The parts of a record of `processed_transactions` that the history needs.

    Attributes:
        transaction: The input record.
        partition: Partition of the input record.
        offset: Offset of the input record.
        timestamp_ms: Kafka's timestamp of the input record, UTC epoch milliseconds.
    """

    transaction: Transaction
    partition: int
    offset: int
    timestamp_ms: int


def read_processed(raw: bytes | None) -> Processed | None:
    """Parse a record of `processed_transactions`.

    Returns:
        The record, or None for a duplicate, which leaves no trace in the history.

    Raises:
        InvalidMessage: The record is malformed.
    """
    record, decision = decode_processed(raw)
    if decision.get("duplicate"):
        return None
    source = decision["source"]
    place = (source["partition"], source["offset"], source["timestamp_ms"])
    try:
        _MARK.pack(*place)
    except struct.error:
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE,
            f"{DECISION_FIELD}.source: expected integers",
            f"{DECISION_FIELD}.source",
        ) from None
    transaction = from_mapping(record)
    # As the job did, whatever the limit is by now.
    if Mark.EVENT_TIME_AHEAD in (decision.get("marks") or ()):
        transaction = as_of_arrival(transaction, place[2])
    return Processed(transaction, *place)


def _copied(items: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Copy items in parts: all 100,000 at once would hold up a request for 40 ms."""
    copied: list[tuple[str, bytes]] = []
    rest = iter(items)
    while part := list(islice(rest, _COPIED_AT_ONCE)):
        copied += part
    return copied


@dataclass(frozen=True, slots=True)
class Content:
    """A copy of a history for a snapshot, the least recently seen values first.

    Attributes:
        rings: Values and their rings, by key.
        marks: Entities and their marks.
    """

    rings: dict[str, list[tuple[str, bytes]]]
    marks: list[tuple[str, bytes]]


class RecentHistory:
    """The rings of all keys, in bounded memory.

    One thread adds records while others read: a look-up is one read of an immutable ring.

    Args:
        capacity: Most values of each key that have a ring.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.expected = Expected()
        """Transactions sent to the stream that have not come back; they count as if they had."""
        self.clear()

    def clear(self) -> None:
        """Forget all rings and marks."""
        self._rings = {key.name: Histories(key, self._capacity) for key in KEYS}
        self._marks: OrderedDict[str, bytes] = OrderedDict()

    def sizes(self) -> dict[str, int]:
        """Return the number of values remembered, per key."""
        return {name: len(histories) for name, histories in self._rings.items()}

    def remember(self, batch: Sequence[Processed]) -> int:
        """Add records in the order of the stream, skipping those that were added before.

        Returns:
            Number of new records.
        """
        new = [processed.transaction for processed in batch if self._advance(processed)]
        packed = pack(new)
        known = [False] * len(new)
        for key in KEYS:
            histories = self._rings[key.name]
            for index, (value, row) in enumerate(rows_of(packed, key)):
                if value is None or known[index]:
                    continue
                # The entity, the first key, tells duplicates; no other key remembers them.
                was_there = histories.remember(value, row)
                if key is KEYS[0]:
                    known[index] = was_there
        if len(self.expected):
            for record in packed.records[KEYS[0].name]:
                self.expected.came(event_of(record.tobytes()))
        return len(new)

    def _advance(self, processed: Processed) -> bool:
        """Move the entity's mark to a record; return False if it is there or beyond already."""
        entity = processed.transaction.entity_id
        marks = self._marks.get(entity, b"")
        latest_ms = processed.timestamp_ms
        for start in range(0, len(marks), _MARK.size):
            partition, offset, timestamp_ms = _MARK.unpack_from(marks, start)
            if partition != processed.partition:
                continue
            # A lower offset with a later time is not a repeat: the input topic was made anew.
            if processed.offset <= offset and processed.timestamp_ms <= timestamp_ms:
                return False
            latest_ms = max(latest_ms, timestamp_ms)
            marks = marks[:start] + marks[start + _MARK.size :]
            break
        self._marks[entity] = marks + _MARK.pack(processed.partition, processed.offset, latest_ms)
        # Marks move as the entities' rings do, so that both forget the same entities.
        self._marks.move_to_end(entity)
        if len(self._marks) > self._capacity:
            self._marks.popitem(last=False)
        return True

    def rings_with(self, packed: Packed) -> tuple[dict[str, list[bytes]], list[bool]]:
        """Return each transaction's rings as they would be if the stream processed it next.

        Returns:
            Rings by key, empty where a transaction lacks the key; and whether each event is in its
            entity's history already.
        """
        rings: dict[str, list[bytes]] = {}
        known = [False] * len(packed)
        self.expected.look()
        for key in KEYS:
            histories = self._rings[key.name]
            found = rings[key.name] = []
            for index, (value, row) in enumerate(rows_of(packed, key)):
                if value is None:
                    found.append(b"")
                    continue
                # The stream gets expected transactions before this one.
                ring = self.expected.behind(key, value, histories.ring(value))
                if not known[index]:
                    ring, was_there = remember(ring, row, key.rows)
                    if key is KEYS[0]:
                        known[index] = was_there
                found.append(ring)
        return rings, known

    def content(self) -> Content:
        """Return a copy for a snapshot. Only the thread that adds records may call it."""
        return Content(
            {name: _copied(histories.items()) for name, histories in self._rings.items()},
            _copied(self._marks.items()),
        )

    def restore(self, content: Content) -> None:
        """Replace rings and marks by the content of a snapshot."""
        for name, histories in self._rings.items():
            histories.restore(content.rings[name][-self._capacity :])
        self._marks = OrderedDict(content.marks[-self._capacity :])
