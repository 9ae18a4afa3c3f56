"""History of a key: the last records of its transactions, packed side by side.

A *ring* is the sequence of records of one key value, oldest arrival first, as bytes. The stream keeps
rings in Flink's state (`flink_job/java/LastN.java`), REST in `Histories`; both add and evict records
alike, and `replay` computes the same rings for a whole history at once.

An event that is already in its entity's ring is a duplicate and is not added to any ring again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud.features.declaration import Key

Records = NDArray[np.void]


class Rings:
    """The rings of n transactions, as slices of one array of records.

    Args:
        rows: Records of all rings, of `Key.dtype`; the last one is all zeros.
        ends: End of each ring in `rows`, exclusive, shape (n,).
        lengths: Number of records of each ring, shape (n,).
    """

    def __init__(self, rows: Records, ends: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self.ends = ends
        self.lengths = lengths
        self._rows = rows
        self._columns: dict[str, NDArray[Any]] = {}

    @classmethod
    def of(cls, key: Key, rings: Sequence[bytes]) -> Rings:
        """Create from rings of bytes, in the format of `remember`."""
        sizes = np.fromiter(map(len, rings), np.int64, len(rings))
        lengths = sizes // key.dtype.itemsize
        rows = np.frombuffer(b"".join([*rings, bytes(key.dtype.itemsize)]), key.dtype)
        return cls(rows, np.cumsum(lengths), lengths)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of all records; its last item is 0."""
        column = self._columns.get(name)
        if column is None:
            if name == "entity_id":
                column = (self._rows["event"] >> np.uint64(32)).astype(np.uint32)
            else:
                column = np.ascontiguousarray(self._rows[name])
            self._columns[name] = column
        return column

    def part(self, rows: slice) -> Rings:
        """Return the rings of some of the transactions."""
        some = Rings(self._rows, self.ends[rows], self.lengths[rows])
        some._columns = self._columns
        return some


def remember(ring: bytes, record: bytes, rows: int) -> tuple[bytes, bool]:
    """Add one record to a ring, unless the ring holds its event already.

    Args:
        ring: Records of one key, oldest arrival first.
        record: The new record; its first eight bytes identify the event.
        rows: Maximum number of records to keep; the oldest arrivals are evicted first.

    Returns:
        The new ring, and whether it already held the event (then the ring is unchanged).

    Example:
        >>> ring, _ = remember(b"", b"event--1....", rows=2)
        >>> remember(ring, b"event--1////", rows=2)
        (b'event--1....', True)
        >>> remember(ring, b"event--2....", rows=2)
        (b'event--1....event--2....', False)
    """
    size = len(record)
    event = record[:8]
    at = ring.find(event)
    while at != -1:
        if at % size == 0:
            return ring, True
        at = ring.find(event, at + 1)
    return ring[max(0, len(ring) - (rows - 1) * size) :] + record, False


class Histories:
    """Rings by the values of one key, in bounded memory.

    Args:
        key: Key of the records.
        capacity: Maximum number of values, at least 1; the least recently updated is evicted first.
            None means unlimited.
    """

    def __init__(self, key: Key, capacity: int | None = None) -> None:
        self.key = key
        self.capacity = capacity
        self._rings: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def ring(self, value: str) -> bytes:
        """Return the ring of a value, empty for an unknown value."""
        return self._rings.get(value, b"")

    def remember(self, value: str, record: bytes) -> bool:
        """Add a record to the ring of a value; see `remember`.

        Returns:
            Whether the ring already held the event.
        """
        ring, known = remember(self._rings.get(value, b""), record, self.key.rows)
        self._rings[value] = ring
        self._rings.move_to_end(value)
        if self.capacity is not None and len(self._rings) > self.capacity:
            self._rings.popitem(last=False)
        return known

    def items(self) -> ItemsView[str, bytes]:
        """Return all values and their rings, least recently updated first, for a snapshot."""
        return self._rings.items()

    def restore(self, items: list[tuple[str, bytes]]) -> None:
        """Restore the rings from `items` of an earlier process."""
        self._rings = OrderedDict(items)
