"""What is remembered of a key: the last records of its transactions, packed side by side.

A *ring* is the records of one key, oldest arrival first, as bytes. The stream keeps it in Flink's
state (`flink_job/java/LastN.java`), REST and training in `Histories`; both add and forget alike.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView
from dataclasses import dataclass
from typing import Final

import numpy as np

LAYOUT_VERSION: Final = 1
"""Raised whenever `Key.dtype` changes: rings of another version cannot be read."""

_COMMON: Final = (
    ("event", "<u8"),  # hash of entity_id and event_id
    ("event_time_ms", "<i8"),
    ("amount_micro", "<i8"),  # millionths of the base currency, or UNKNOWN_AMOUNT
)


@dataclass(frozen=True)
class Key:
    """Something whose past transactions tell about its next one.

    Attributes:
        name: Prefix of its features, `entity` for `entity_amount_sum_1h`.
        field: The record's field whose value is the key; a record without it has no history here.
        rows: How many transactions are remembered, the one being scored included. Windows that
            hold more are cut to these.
        codes: Fields whose values are remembered as 32-bit codes, to be compared and counted.
        location: Whether the billing location is remembered, as a point on the unit sphere.
    """

    name: str
    field: str
    rows: int
    codes: tuple[str, ...]
    location: bool = False

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Layout of one record."""
        places = ("x", "y", "z") if self.location else ()
        return np.dtype(
            [*_COMMON, *((axis, "<f4") for axis in places), *((code, "<u4") for code in self.codes)]
        )


KEYS: Final[tuple[Key, ...]] = (
    Key(
        "entity",
        field="entity_id",
        rows=32,
        codes=(
            "ip_address",
            "user_agent",
            "email_address",
            "phone",
            "card_bin",
            "product_category",
            "transaction_currency",
        ),
        location=True,
    ),
)


def remember(ring: bytes, record: bytes, rows: int) -> tuple[bytes, bool]:
    """Add one record to a ring, unless its event is there already.

    Args:
        ring: Records of one key, oldest arrival first.
        record: The new record; its first eight bytes identify the event.
        rows: Most records to keep; the oldest arrivals are forgotten first.

    Returns:
        The new ring, and whether the event was there already (then the ring is as it was).

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
    """Rings of one key's values in bounded memory: the least recently used go first.

    Args:
        key: Whose records these are.
        capacity: Most values to keep a ring for, at least 1; None is without limit.
    """

    def __init__(self, key: Key, capacity: int | None = None) -> None:
        self.key = key
        self.capacity = capacity
        self._rings: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def ring(self, value: str) -> bytes:
        """Give the ring of a value, empty when nothing is known of it."""
        return self._rings.get(value, b"")

    def with_record(self, value: str, record: bytes) -> tuple[bytes, bool]:
        """Give the ring as it would be after `remember`, and whether the event is there already.

        Nothing is remembered: this is how one asks what the score of a transaction would be.
        """
        return remember(self._rings.get(value, b""), record, self.key.rows)

    def remember(self, value: str, record: bytes) -> bool:
        """Add a record to the ring of a value; see `remember`.

        Returns:
            Whether the event was there already.
        """
        ring, known = remember(self._rings.get(value, b""), record, self.key.rows)
        self._rings[value] = ring
        self._rings.move_to_end(value)
        if self.capacity is not None and len(self._rings) > self.capacity:
            self._rings.popitem(last=False)
        return known

    def items(self) -> ItemsView[str, bytes]:
        """View all values and their rings, least recently used first, as for a snapshot."""
        return self._rings.items()

    def restore(self, items: list[tuple[str, bytes]]) -> None:
        """Take over what `items` of an earlier process gave."""
        self._rings = OrderedDict(items)
