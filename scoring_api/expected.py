"""Transactions that were sent to the stream and have not come back, usually within a second.

Scoring counts them as history. Otherwise an event that closely follows another one of its entity
would be scored without it, while the stream, which receives both in order, counts it.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Final, NamedTuple

from fraud.features.catalogue import KEYS
from fraud.features.declaration import Key
from fraud.features.history import remember
from fraud.features.packing import Packed

EXPECTED_S: Final = 30.0
"""Seconds for which a transaction is expected; the stream may be down."""

_MAX_EVENTS: Final = 10_000
_EVENT_BYTES: Final = 8
_Place = tuple[str, str]
"""Name of a key, and one of its values."""


class _Waiting(NamedTuple):
    """An expected event: its deadline, and the places of its records."""

    until_s: float
    places: list[_Place]


class Expected:
    """The transactions that are expected to come back from the stream.

    Only the thread that answers requests may use it, except for `came`.

    Args:
        monotonic: Clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._events: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._records: dict[_Place, dict[bytes, bytes]] = {}
        self._came: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def add(self, packed: Packed) -> None:
        """Expect transactions, in this order after those that are expected already."""
        until_s = self._monotonic() + EXPECTED_S
        for event, places in _events(packed):
            # An event that is sent again keeps its place.
            if event not in self._events:
                self._events[event] = _Waiting(until_s, [place for place, _ in places])
                for place, record in places:
                    self._records.setdefault(place, {})[event] = record
        # Memory stays bounded while the stream is down; the oldest go first.
        while len(self._events) > _MAX_EVENTS:
            self._forget(next(iter(self._events)))

    def give_up(self, packed: Packed) -> None:
        """Stop expecting transactions that could not be sent."""
        for event, _ in _events(packed):
            self._forget(event)

    def came(self, event: bytes) -> None:
        """Note that an event came back from the stream, so that the history has it.

        Args:
            event: The event, see `event_of`.
        """
        if event in self._events:
            # Only noted: the thread that answers requests removes it, see `look`.
            self._came.append(event)

    def look(self) -> None:
        """Forget the events that came back and those that are overdue."""
        while self._came:
            self._forget(self._came.popleft())
        now_s = self._monotonic()
        overdue = takewhile(lambda item: item[1].until_s <= now_s, self._events.items())
        for event in [event for event, _ in overdue]:
            self._forget(event)

    def behind(self, key: Key, value: str, ring: bytes) -> bytes:
        """Return the ring of a key's value with the expected records appended."""
        for record in self._records.get((key.name, value), {}).values():
            ring, _ = remember(ring, record, key.rows)
        return ring

    def _forget(self, event: bytes) -> None:
        waiting = self._events.pop(event, None)
        for place in waiting.places if waiting else ():
            records = self._records[place]
            del records[event]
            if not records:
                del self._records[place]


def event_of(record: bytes) -> bytes:
    """Return the bytes of a record that identify its event; they are the same for all keys."""
    return record[:_EVENT_BYTES]


def rows_of(packed: Packed, key: Key) -> Iterator[tuple[str | None, bytes]]:
    """Yield each transaction's value of a key, or None, and its record for that key."""
    records, size = packed.records[key.name].tobytes(), key.dtype.itemsize
    for index, value in enumerate(packed.keys[key.name]):
        yield value, records[index * size : (index + 1) * size]


def _events(packed: Packed) -> Iterator[tuple[bytes, list[tuple[_Place, bytes]]]]:
    """Yield each transaction's event, with its records by key and value."""
    for rows in zip(*(rows_of(packed, key) for key in KEYS), strict=True):
        places = [
            ((key.name, value), record)
            for key, (value, record) in zip(KEYS, rows, strict=True)
            if value is not None
        ]
        yield event_of(places[0][1]), places
