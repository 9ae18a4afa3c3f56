"""The feature vector: all features in one fixed order, as the model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud.features.history import KEYS, LAYOUT_VERSION
from fraud.features.of_history import HISTORY_FEATURES, HistoryFeature, KeyView
from fraud.features.of_transaction import TRANSACTION_FEATURES, TransactionFeature
from fraud.features.packing import Packed

FEATURES: Final[tuple[TransactionFeature | HistoryFeature, ...]] = (
    *TRANSACTION_FEATURES,
    *HISTORY_FEATURES,
)
FEATURE_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
FEATURE_BY_NAME: Final = {feature.name: feature for feature in FEATURES}

FEATURES_HASH: Final = hashlib.sha256(
    "\n".join(
        [f"layout {LAYOUT_VERSION}"]
        + [f"{key.name} {key.field} {key.rows}" for key in KEYS]
        + [f"{feature.name} {feature.unit} {feature.meaning}" for feature in FEATURES]
    ).encode()
).hexdigest()[:16]
"""Identifies names, order and meaning of the vector. A model trained on another cannot be used."""


def feature_matrix(packed: Packed, rings: Mapping[str, Sequence[bytes]]) -> NDArray[np.float32]:
    """Compute the vectors of a batch.

    Args:
        packed: The transactions, length n.
        rings: Per key, each transaction's ring after it was remembered, length n; empty where the
            transaction has no such key.

    Returns:
        Shape (n, len(FEATURES)), C-contiguous, in the order of `FEATURES`; NaN is not known.
    """
    n = len(packed)
    matrix = np.empty((n, len(FEATURES)), np.float32)
    for column, own in enumerate(TRANSACTION_FEATURES):
        matrix[:, column] = packed.own[own.name]
    views = {key.name: KeyView(key, packed.records[key.name], rings[key.name]) for key in KEYS}
    for column, feature in enumerate(HISTORY_FEATURES, start=len(TRANSACTION_FEATURES)):
        matrix[:, column] = feature.of(views[feature.key])
    return matrix


def history_rows(rings: Mapping[str, Sequence[bytes]], packed: Packed) -> dict[str, list[int]]:
    """Count the rows of history behind each vector, the transaction itself and its repeats not counted.

    Returns:
        Per key, length n.
    """
    counts = {}
    for key in KEYS:
        size = key.dtype.itemsize
        events = packed.records[key.name]["event"].tobytes()
        rows = []
        for at, ring in enumerate(rings[key.name]):
            event = events[at * 8 : at * 8 + 8]
            own = any(ring[row : row + 8] == event for row in range(0, len(ring), size))
            rows.append(len(ring) // size - own)
        counts[key.name] = rows
    return counts
