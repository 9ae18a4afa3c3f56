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
    return vectors(packed, rings)[0]


def vectors(
    packed: Packed, rings: Mapping[str, Sequence[bytes]]
) -> tuple[NDArray[np.float32], dict[str, list[int]]]:
    """Compute the vectors of a batch, and how much history is behind each.

    Args:
        packed: See `feature_matrix`.
        rings: See `feature_matrix`.

    Returns:
        The matrix as `feature_matrix` gives it; and per key the rows of history that each
        transaction saw, length n, itself and repeats of it not counted.
    """
    matrix = np.empty((len(packed), len(FEATURES)), np.float32)
    for column, own in enumerate(TRANSACTION_FEATURES):
        matrix[:, column] = packed.own[own.name]
    views = {key.name: KeyView(key, packed.records[key.name], rings[key.name]) for key in KEYS}
    for column, feature in enumerate(HISTORY_FEATURES, start=len(TRANSACTION_FEATURES)):
        matrix[:, column] = feature.of(views[feature.key])
    return matrix, {name: view.remembered.sum(axis=1).tolist() for name, view in views.items()}
