"""Computes the rings of a whole history at once, with the same result as repeated `remember`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud.features.catalogue import KEYS
from fraud.features.declaration import Key
from fraud.features.history import Rings
from fraud.features.packing import Packed
from fraud.features.vector import compute

BATCH_ROWS: Final = 4000
"""Rows whose features are computed at once: large enough for NumPy, small enough for the cache."""

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def replay(
    packed: Packed, batch_rows: int = BATCH_ROWS, keys: Sequence[Key] = KEYS
) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors that the stream computes if the transactions arrive in this order.

    Args:
        packed: The transactions, in the order of their arrival.
        batch_rows: Rows of each matrix except the last; no value depends on it.
        keys: Keys to use instead of the stream's, to measure longer or shorter rings.

    Yields:
        Matrices of `fraud.features.vector.feature_matrix`, together one row per transaction.
    """
    rings, _ = rings_of(packed, keys)
    for start in range(0, len(packed), batch_rows):
        rows = slice(start, start + batch_rows)
        yield compute(
            {name: records[rows] for name, records in packed.records.items()},
            packed.own[rows],
            {name: every.part(rows) for name, every in rings.items()},
        ).matrix


def rings_of(packed: Packed, keys: Sequence[Key] = KEYS) -> tuple[dict[str, Rings], Mask]:
    """Compute each transaction's ring right after its arrival, per key.

    Returns:
        The rings by the name of the key, and which transactions are duplicates.
    """
    first, *others = keys
    everyone = np.ones(len(packed), np.bool_)
    rings = {}
    rings[first.name], duplicates = _rings_of_key(first, packed, everyone)
    for key in others:
        rings[key.name], _ = _rings_of_key(key, packed, ~duplicates)
    return rings, duplicates


def _rings_of_key(key: Key, packed: Packed, remembered: Mask) -> tuple[Rings, Mask]:
    """Compute the rings of one key.

    Args:
        key: The key.
        packed: The transactions.
        remembered: Which of them may be added to a ring.

    Returns:
        The rings, and which events were already in their ring.
    """
    records = packed.records[key.name]
    codes: dict[str | None, int] = {None: -1}
    groups = np.fromiter(
        (codes.setdefault(value, len(codes)) for value in packed.keys[key.name]),
        np.int64,
        len(packed),
    )
    present = groups >= 0
    known = _known_already(
        groups, np.ascontiguousarray(records["event"]), remembered & present, present, key.rows
    )
    order = np.argsort(groups, kind="stable")
    kept = (remembered & present & ~known)[order]
    ordered = groups[order]
    taken = np.cumsum(kept)
    begins = np.ones(len(order), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    # Kept rows before the group of each, then those up to and with the row itself.
    before = np.maximum.accumulate(np.where(begins, taken - kept, 0))
    ends, lengths = np.empty_like(taken), np.empty_like(taken)
    ends[order] = taken
    lengths[order] = np.minimum(taken - before, key.rows)
    lengths[~present] = 0
    rows = np.concatenate([records[order[kept]], np.zeros(1, key.dtype)])
    return Rings(rows, ends, lengths), known


def _known_already(
    groups: Ints, events: NDArray[np.uint64], remembered: Mask, present: Mask, rows: int
) -> Mask:
    """Return which events were already in their ring; searches only groups that repeat an event."""
    known = np.zeros(len(groups), np.bool_)
    order = np.lexsort((events, groups))
    again = (events[order][1:] == events[order][:-1]) & (groups[order][1:] == groups[order][:-1])
    twice = np.unique(groups[order][1:][again & present[order][1:]])
    if not len(twice):
        return known
    rings: dict[int, deque[int]] = {int(group): deque(maxlen=rows) for group in twice}
    concerned = np.flatnonzero(np.isin(groups, twice))
    for at, group, event, may in zip(
        concerned.tolist(),
        groups[concerned].tolist(),
        events[concerned].tolist(),
        remembered[concerned].tolist(),
        strict=True,
    ):
        ring = rings[group]
        if event in ring:
            known[at] = True
        elif may:
            ring.append(event)
    return known
