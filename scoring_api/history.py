"""What the API remembers: the same rings as the stream's state, rebuilt from its output.

The job publishes at least once: after a restart it repeats records. A ring recognises the repeats
of the events it holds, but no older ones, so for each entity we also keep how far its input
partitions were remembered (its *marks*).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fraud.contracts.decision import decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import DECISION_FIELD, Transaction, from_mapping
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories, remember
from fraud.features.packing import Packed, pack
from scoring_api.expected import Expected, event_of, rows_of

_COPIED_AT_ONCE: Final = 1000
_MARK: Final = struct.Struct("<iqq")  # partition, offset, timestamp_ms


@dataclass(frozen=True, slots=True)
class Processed:
    """What history needs of one record of `processed_transactions`.

    Attributes:
        transaction: The input record.
        partition: Partition of the input it came from.
        offset: Its offset there.
        timestamp_ms: Kafka's timestamp of the input, UTC epoch milliseconds.
    """

    transaction: Transaction
    partition: int
    offset: int
    timestamp_ms: int


def read_processed(raw: bytes | None) -> Processed | None:
    """Read one record of `processed_transactions`.

    Returns:
        None for a duplicate: it leaves no trace in the history.

    Raises:
        InvalidMessage: The value is no such record.
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
    return Processed(from_mapping(record), *place)


def _copied(items: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Copy a part at a time: a request need not wait for all of 100,000 (40 ms)."""
    copied: list[tuple[str, bytes]] = []
    rest = iter(items)
    while part := list(islice(rest, _COPIED_AT_ONCE)):
        copied += part
    return copied


@dataclass(frozen=True, slots=True)
class Content:
    """A history at one moment, for a snapshot. Least recently seen first.

    Attributes:
        rings: Per key, its values and their rings.
        marks: Entities and their marks.
    """

    rings: dict[str, list[tuple[str, bytes]]]
    marks: list[tuple[str, bytes]]


class RecentHistory:
    """The rings of all keys, in bounded memory.

    One thread remembers while others look: each look-up is one read of an immutable ring.

    Args:
        capacity: Most values per key to keep a ring for.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.expected = Expected()
        """What was sent to the stream and has not come back; it counts as if it had."""
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rings = {key.name: Histories(key, self._capacity) for key in KEYS}
        self._marks: OrderedDict[str, bytes] = OrderedDict()

    def sizes(self) -> dict[str, int]:
        """Count the values remembered, per key."""
        return {name: len(histories) for name, histories in self._rings.items()}

    def remember(self, batch: Sequence[Processed]) -> int:
        """Add records in the order of the stream, passing over what was remembered before.

        Returns:
            How many were new.
        """
        new = [processed.transaction for processed in batch if self._advance(processed)]
        packed = pack(new)
        known = [False] * len(new)
        for key in KEYS:
            histories = self._rings[key.name]
            for index, (value, row) in enumerate(rows_of(packed, key)):
                if value is None or known[index]:
                    continue
                was_there = histories.remember(value, row)
                if key is KEYS[0]:
                    known[index] = was_there
        if len(self.expected):
            for record in packed.records[KEYS[0].name]:
                self.expected.came(event_of(record.tobytes()))
        return len(new)

    def _advance(self, processed: Processed) -> bool:
        """Move the mark of the record's entity, unless it is there or beyond already."""
        entity = processed.transaction.entity_id
        marks = self._marks.get(entity, b"")
        latest_ms = processed.timestamp_ms
        for start in range(0, len(marks), _MARK.size):
            partition, offset, timestamp_ms = _MARK.unpack_from(marks, start)
            if partition != processed.partition:
                continue
            # A lower offset with a later time is no repeat: the input topic was made anew.
            if processed.offset <= offset and processed.timestamp_ms <= timestamp_ms:
                return False
            latest_ms = max(latest_ms, timestamp_ms)
            marks = marks[:start] + marks[start + _MARK.size :]
            break
        self._marks[entity] = marks + _MARK.pack(processed.partition, processed.offset, latest_ms)
        # The same moves as those of the entity's ring, so that both forget the same entities.
        self._marks.move_to_end(entity)
        if len(self._marks) > self._capacity:
            self._marks.popitem(last=False)
        return True

    def rings_with(self, packed: Packed) -> tuple[dict[str, list[bytes]], list[bool]]:
        """Return each transaction's rings as they would be after it came down the stream next.

        Returns:
            Per key the rings, empty where a transaction lacks the key; and whether each event is
            in its entity's history already.
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
                ring = self.expected.behind(key, value, histories.ring(value))
                if not known[index]:
                    ring, was_there = remember(ring, row, key.rows)
                    if key is KEYS[0]:
                        known[index] = was_there
                found.append(ring)
        return rings, known

    def content(self) -> Content:
        """Copy everything, to be kept. Called by the thread that remembers."""
        return Content(
            {name: _copied(histories.items()) for name, histories in self._rings.items()},
            _copied(self._marks.items()),
        )

    def restore(self, content: Content) -> None:
        """Take over what `content` of an earlier process gave."""
        for name, histories in self._rings.items():
            histories.restore(content.rings[name][-self._capacity :])
        self._marks = OrderedDict(content.marks[-self._capacity :])
