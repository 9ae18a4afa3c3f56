"""Looks up values on lists, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.addresses import address_of, network_of
from fraud.contracts.lists import KeptEntry, ListState, ListType, digits_of, mailbox_of


class _Size(NamedTuple):
    """Size of a network: IP version (4 or 6), and number of bits after the prefix."""

    version: int
    free_bits: int


_FOR_EVER: Final = 0
_ABSENT: Final = -1

Entries = Mapping[str, KeptEntry]


class Lookup:
    """Immutable index of a list, which finds out whether values are on it.

    Args:
        state: The list.
        before: Index of an earlier state of the list, if any; for IP lists only the entries that
            changed since then are read.
    """

    def __init__(self, state: ListState, before: Lookup | None = None) -> None:
        self.name = state.name
        self.type = state.type
        self.use = state.use
        self.version = state.version
        self._find = _finder(state, before)

    def members(
        self, values: Sequence[str | None], at_ms: int | NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which values are on the list.

        Args:
            values: Values of the transactions, length n; None is never on a list.
            at_ms: Time of the look-up, UTC epoch milliseconds, one for all values or shape (n,);
                entries count until they expire.

        Returns:
            Shape (n,).
        """
        find = self._find
        found = [None if value is None else find(value) for value in values]
        ends = np.fromiter((_ABSENT if end is None else end for end in found), np.int64, len(found))
        on: NDArray[np.bool_] = (ends == _FOR_EVER) | (ends > at_ms)
        return on


def lookups(
    states: Mapping[str, ListState], before: Mapping[str, Lookup] = MappingProxyType({})
) -> dict[str, Lookup]:
    """Return a look-up for each list, by name.

    Args:
        states: The lists.
        before: Look-ups of earlier states. Those of unchanged lists are kept, because building one
            is slow for a long list.
    """
    return {
        name: before[name]
        if name in before and before[name].version == state.version
        else Lookup(state, before.get(name))
        for name, state in states.items()
    }


def _finder(state: ListState, before: Lookup | None) -> Callable[[str], int | None]:
    entries = state.entries
    match state.type:
        case ListType.EMAIL:
            return _Email(entries)
        case ListType.IP:
            of_before = None if before is None or before.version != state.since else before._find
            if isinstance(of_before, _Ip):
                return _Ip(entries, of_before, state.changed)
            return _Ip(entries)
        case ListType.BIN:
            return _Bin(entries)
        case ListType.PHONE:
            return lambda value: _end(entries.get(digits_of(value)))
        case _:
            return lambda value: _end(entries.get(value.strip()))


def _end(entry: KeptEntry | None) -> int | None:
    """Return the expiry of an entry, UTC epoch milliseconds; `_FOR_EVER` if it has no expiry."""
    return None if entry is None else entry.expires_ms


def _last(*found: int | None) -> int | None:
    """Return the latest of several expiries, because one entry that still counts is enough."""
    ends = [end for end in found if end is not None]
    if not ends:
        return None
    return _FOR_EVER if _FOR_EVER in ends else max(ends)


class _Email:
    """Finds the entry of an e-mail address or of its domain."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def __call__(self, value: str) -> int | None:
        address = mailbox_of(value)
        domain = address.rpartition("@")[2]
        return _last(_end(self._entries.get(address)), _end(self._entries.get(domain)))


class _Bin:
    """Finds the entries that a BIN begins with."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._lengths = sorted({len(value) for value in entries})

    def __call__(self, value: str) -> int | None:
        digits = value.strip()
        return _last(
            *(_end(self._entries.get(digits[:n])) for n in self._lengths if n <= len(digits))
        )


# Caches entries only, whose length is bounded.
_network = lru_cache(maxsize=262_144)(network_of)


class _Ip:
    """Finds an address or a network that contains it, by one look-up per prefix length on the list."""

    def __init__(
        self, entries: Entries, before: _Ip | None = None, changed: Iterable[str] = ()
    ) -> None:
        self._entries = entries
        # Expiries of networks, by size and first address. The tables of sizes without a change are
        # shared with the earlier index; the others are copied first.
        self._networks: dict[_Size, dict[int, int]] = (
            {} if before is None else dict(before._networks)
        )
        own: set[_Size] = set()
        for text in entries if before is None else changed:
            if "/" not in text:
                continue
            network = _network(text)
            size = _Size(network.version, network.bits)
            if size not in own:
                own.add(size)
                self._networks[size] = dict(self._networks.get(size, {}))
            end = _end(entries.get(text))
            if end is None:
                self._networks[size].pop(network.first, None)
            else:
                self._networks[size][network.first] = end

    def __call__(self, value: str) -> int | None:
        address = address_of(value)
        if address is None:
            return None
        return _last(
            _end(self._entries.get(address.text)),
            *(
                # Clearing the bits after the prefix gives the first address of the only network of
                # this size that can contain the address.
                ends.get(address.number >> size.free_bits << size.free_bits)
                for size, ends in self._networks.items()
                if size.version == address.version
            ),
        )
