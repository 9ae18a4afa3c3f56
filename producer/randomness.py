"""Counter-based randomness: a draw depends on its purpose, subject and time, not on earlier draws.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), vectorised
over arrays. Any customer's hour can thus be generated alone, in any order and in any grouping,
with the same result, and an added fraud campaign shifts nobody else's draws.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Unsigned 32-bit words, each kept in 64 bits so that products fit."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_M0: Final = np.uint64(0xD2511F53)
_M1: Final = np.uint64(0xCD9E8D57)
_W0: Final = 0x9E3779B9
_W1: Final = 0xBB67AE85
_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_BLOCK: Final = 16_384
"""Rows processed at once: the temporaries of one block stay in the processor's cache."""


@unique
class Purpose(IntEnum):
    """Purpose of a draw. Numbers are stable and never reused: every seed's draws depend on them."""

    ACTIVITY = 1
    IDENTITY = 2
    HOME = 3
    DEVICE = 4
    MERCHANT = 5
    COUNT = 6
    DAY = 7
    PAYMENT = 8
    SHOP = 9
    NETWORK = 10
    TRIP = 11
    SUBSCRIPTION = 12
    EVENT_ID = 13
    COMPANION = 14
    CAMPAIGN = 15
    CAMPAIGN_EVENT_ID = 16
    LABEL = 17
    HABITS = 18
    FRIENDLY = 19
    CONTACT = 20
    INJECTION = 21
    INJECTION_EVENT_ID = 22
    DRIFT = 23
    DELIVERY = 24
    PRIVACY = 25
    CARD = 26
    MISSING = 27


def _mix(value: int) -> int:
    """Mix the bits of a 64-bit integer (the finaliser of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Turn counters into random words by ten Philox rounds, row by row.

    For one key this is a bijection: different counters never yield the same four words.

    Args:
        counter: Four words per row, in arrays of equal shape.
        key: Two 32-bit words.

    Returns:
        Four random 32-bit words per row.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = c0 * _M0
        p1 = c2 * _M1
        c0 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c1 = p1 & _LOW
        c2 = (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c3 = p0 & _LOW
        k0 = (k0 + _W0) & 0xFFFFFFFF
        k1 = (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


class Draws:
    """All random draws of one seed.

    Args:
        seed: Any integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def key(self, purpose: Purpose) -> tuple[int, int]:
        """Return the Philox key of a purpose."""
        mixed = _mix(_mix(self.seed & (2**64 - 1)) ^ int(purpose))
        return mixed & 0xFFFFFFFF, mixed >> 32

    def words(
        self, purpose: Purpose, who: Any, when: Any = 0, index: Any = 0, block: Any = 0
    ) -> Words:
        """Draw four words for each row; all arguments but the purpose broadcast.

        Args:
            purpose: Purpose of the draw.
            who: Customer, household, merchant or town, below 2**32.
            when: Hour, day or generation.
            index: Number of the thing within that time.
            block: Number of the draw, for things that need several.

        Returns:
            Words, shape (4, n).
        """
        rows = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(c)) for c in (who, when, index, block))
        )
        n = rows[0].shape[0]
        key = self.key(purpose)
        out = np.empty((4, n), np.uint64)
        for first in range(0, n, _BLOCK):
            part = slice(first, first + _BLOCK)
            c0, c1, c2, c3 = (row[part].astype(np.uint64) & _LOW for row in rows)
            out[:, part] = philox((c0, c1, c2, c3), key)
        return out

    def uniforms(
        self, purpose: Purpose, who: Any, when: Any = 0, index: Any = 0, block: Any = 0
    ) -> Floats:
        """Draw four uniform numbers in the open interval (0, 1) for each row; shape (4, n)."""
        words = self.words(purpose, who, when, index, block)
        return np.asarray((words.astype(np.float64) + 0.5) * 2.0**-32)

    def generator(self, purpose: Purpose, *counter: int) -> np.random.Generator:
        """Return a generator of its own for one rare thing, such as a campaign.

        Args:
            purpose: Purpose of the draws.
            counter: Up to three integers that identify the thing.
        """
        k0, k1 = self.key(purpose)
        start = [0, *counter, 0, 0, 0][:4]
        return np.random.Generator(
            np.random.Philox(key=np.array([k0, k1], np.uint64), counter=np.array(start, np.uint64))
        )


def normal(u: Floats, v: Floats) -> Floats:
    """Turn two uniform draws into one standard normal one (Box and Muller)."""
    return np.asarray(np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v))


def pick(cumulative: Floats, u: Floats) -> Ints:
    """Choose an index for each uniform draw by cumulative weights that end in 1.

    Example:
        >>> pick(np.array([0.5, 0.75, 1.0]), np.array([0.1, 0.6, 0.99])).tolist()
        [0, 1, 2]
    """
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1).astype(
        np.int64
    )


def cumulative(weights: Any) -> Floats:
    """Return the cumulative weights, scaled to end in 1."""
    total = np.cumsum(np.asarray(weights, np.float64))
    return np.asarray(total / total[-1])
