"""Looking values up on lists, a batch at a time."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.lists import ListState, ListType

_CACHED: Final = 262_144
_FOR_EVER: Final = 0
_ABSENT: Final = -1
_NOT_DIGITS: Final = re.compile(r"\D")

Expiries = Mapping[str, int]
"""By value, when its entry ends: UTC epoch milliseconds, 0 for never."""


class Lookup:
    """A list as deciding needs it: whether values are on it. It is never changed.

    Args:
        state: The list, folded by `fraud.contracts.lists.expires_ms`.
    """

    def __init__(self, state: ListState[int]) -> None:
        self.name = state.name
        self.type = state.type
        self.use = state.use
        self.version = state.version
        self._find = _finder(state.type, state.entries)

    def members(
        self, values: Sequence[str | None], at_ms: int | NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say which values are on the list.

        Args:
            values: As the transactions have them, length n; None is on no list.
            at_ms: When, UTC epoch milliseconds, of all or of each: an entry counts until it expires.

        Returns:
            Shape (n,).
        """
        find = self._find
        found = [None if value is None else find(value) for value in values]
        ends = np.fromiter((_ABSENT if end is None else end for end in found), np.int64, len(found))
        on: NDArray[np.bool_] = (ends == _FOR_EVER) | (ends > at_ms)
        return on


def _finder(kind: ListType, entries: Expiries) -> Callable[[str], int | None]:
    match kind:
        case ListType.EMAIL:
            return _Email(entries)
        case ListType.IP:
            return _Ip(entries)
        case ListType.BIN:
            return _Bin(entries)
        case ListType.PHONE:
            return lambda value: entries.get(_NOT_DIGITS.sub("", value))
        case _:
            return lambda value: entries.get(value.strip())


def _later(ends: list[int]) -> int | None:
    """Give the last of several ends: one entry that still counts is enough."""
    if not ends:
        return None
    return 0 if 0 in ends else max(ends)


class _Email:
    """The address itself, or its domain."""

    def __init__(self, entries: Expiries) -> None:
        self._entries = entries

    def __call__(self, value: str) -> int | None:
        address = value.strip().lower()
        domain = address.rpartition("@")[2]
        known = [self._entries.get(address), self._entries.get(domain)]
        return _later([end for end in known if end is not None])


class _Bin:
    """The digits, or as many of them as an entry has."""

    def __init__(self, entries: Expiries) -> None:
        self._entries = entries
        self._lengths = sorted({len(value) for value in entries})

    def __call__(self, value: str) -> int | None:
        digits = value.strip()
        known = [self._entries.get(digits[:n]) for n in self._lengths if n <= len(digits)]
        return _later([end for end in known if end is not None])


Network = tuple[int, int, int]
"""Version, length of the prefix, and the prefix as a number."""


@lru_cache(maxsize=_CACHED)
def _network(text: str) -> Network:
    network = ipaddress.ip_network(text)
    return network.version, network.prefixlen, int(network.network_address)


@lru_cache(maxsize=_CACHED)
def _address(text: str) -> tuple[int, int, str] | None:
    """Give version, number and the text that lists have; None when it is no address."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    # An IPv4 address in IPv6's clothes is looked up as what it is.
    address = getattr(address, "ipv4_mapped", None) or address
    return address.version, int(address), str(address)


class _Ip:
    """The address itself, or a network that holds it: one look per length of prefix on the list."""

    def __init__(self, entries: Expiries) -> None:
        self._entries = entries
        by_length: dict[tuple[int, int], dict[int, int]] = {}
        for text, end in entries.items():
            if "/" in text:
                version, length, prefix = _network(text)
                by_length.setdefault((version, length), {})[prefix] = end
        self._networks = [
            (version, (32 if version == 4 else 128) - length, ends)
            for (version, length), ends in by_length.items()
        ]

    def __call__(self, value: str) -> int | None:
        address = _address(value)
        if address is None:
            return None
        version, number, text = address
        known = [self._entries.get(text)]
        for of, shift, ends in self._networks:
            if of == version:
                known.append(ends.get(number >> shift << shift))
        return _later([end for end in known if end is not None])
