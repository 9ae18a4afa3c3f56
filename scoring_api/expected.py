"""What was sent to the stream and has not come back from it: a second or less, usually.

Without it an event that follows at once on another of the same entity would be scored as if the
other had not been; the stream, which gets both in their order, counts it.
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
"""How long something is expected, seconds; the stream may be down."""

_MAX_EVENTS: Final = 10_000
_EVENT_BYTES: Final = 8
_Place = tuple[str, str]
"""A key's name, and a value of it."""


class _Waiting(NamedTuple):
    """An event that is expected: until when, and where its records are."""

    until_s: float
    places: list[_Place]


class Expected:
    """Belongs to the thread that answers requests; `came` may be called by another.

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
        """Expect transactions, in this order behind those that are expected already."""
        until_s = self._monotonic() + EXPECTED_S
        for event, places in _events(packed):
            # Sent again, it keeps its place.
            if event not in self._events:
                self._events[event] = _Waiting(until_s, [place for place, _ in places])
                for place, record in places:
                    self._records.setdefault(place, {})[event] = record
        while len(self._events) > _MAX_EVENTS:
            self._forget(next(iter(self._events)))

    def give_up(self, packed: Packed) -> None:
        """Expect transactions no more: they could not be sent."""
        for event, _ in _events(packed):
            self._forget(event)

    def came(self, event: bytes) -> None:
        """Note that the stream has decided an event: the history has it now.

        Args:
            event: The first bytes of its record, which identify it.
        """
        if event in self._events:
            self._came.append(event)

    def look(self) -> None:
        """Forget what came, and what has been waited for too long."""
        while self._came:
            self._forget(self._came.popleft())
        now_s = self._monotonic()
        overdue = takewhile(lambda item: item[1].until_s <= now_s, self._events.items())
        for event in [event for event, _ in overdue]:
            self._forget(event)

    def behind(self, key: Key, value: str, ring: bytes) -> bytes:
        """Return a ring with what is expected at its end."""
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
    """Return the bytes of a record that identify its event, the same for all keys."""
    return record[:_EVENT_BYTES]


def rows_of(packed: Packed, key: Key) -> Iterator[tuple[str | None, bytes]]:
    """Yield each transaction's value of a key, None without one, and its record."""
    records, size = packed.records[key.name].tobytes(), key.dtype.itemsize
    for index, value in enumerate(packed.keys[key.name]):
        yield value, records[index * size : (index + 1) * size]


def _events(packed: Packed) -> Iterator[tuple[bytes, list[tuple[_Place, bytes]]]]:
    """Yield each transaction's event, and its record for each key that it has."""
    for rows in zip(*(rows_of(packed, key) for key in KEYS), strict=True):
        places = [
            ((key.name, value), record)
            for key, (value, record) in zip(KEYS, rows, strict=True)
            if value is not None
        ]
        yield event_of(places[0][1]), places
