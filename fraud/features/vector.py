"""The feature vector: all features in the one order that the model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud.features.catalogue import FEATURES, KEYS, LAYOUT
from fraud.features.history import Records, Rings
from fraud.features.history_features import KeyView
from fraud.features.packing import OWN_FEATURES, Packed

__all__ = [
    "FEATURES",
    "FEATURES_HASH",
    "FEATURE_AT",
    "FEATURE_NAMES",
    "compute",
    "feature_matrix",
    "vectors",
]

FEATURE_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
FEATURE_AT: Final = {name: at for at, name in enumerate(FEATURE_NAMES)}
"""Column of each feature in a matrix of vectors, by name."""

FEATURES_HASH: Final = hashlib.sha256(
    "\n".join(
        [LAYOUT] + [f"{feature.name} {feature.unit} {feature.meaning}" for feature in FEATURES]
    ).encode()
).hexdigest()[:16]
"""Identifies names, order and meanings of the features; a model with another hash cannot be used."""


def feature_matrix(packed: Packed, rings: Mapping[str, Sequence[bytes]]) -> NDArray[np.float32]:
    """Compute the feature vectors of a batch.

    Args:
        packed: The transactions, length n.
        rings: Per key, each transaction's ring after it was added, length n; empty if the
            transaction lacks the key.

    Returns:
        Shape (n, len(FEATURES)), C-contiguous, in the order of `FEATURES`; NaN means unknown.
    """
    return vectors(packed, rings)[0]


def vectors(
    packed: Packed, rings: Mapping[str, Sequence[bytes]]
) -> tuple[NDArray[np.float32], dict[str, list[int]]]:
    """Compute the feature vectors of a batch and the length of each transaction's history.

    Args:
        packed: See `feature_matrix`.
        rings: See `feature_matrix`.

    Returns:
        The matrix of `feature_matrix`, and per key the number of records in each transaction's
        history, length n, without itself and duplicates of it.
    """
    return compute(
        packed.records, packed.own, {key.name: Rings.of(key, rings[key.name]) for key in KEYS}
    )


def compute(
    records: Mapping[str, Records], own: Records, rings: Mapping[str, Rings]
) -> tuple[NDArray[np.float32], dict[str, list[int]]]:
    """Compute the same as `vectors`, from rings that are already parsed."""
    matrix = np.empty((len(own), len(FEATURES)), np.float32)
    matrix[:, : len(OWN_FEATURES)] = own.view(np.float32).reshape(len(own), len(OWN_FEATURES))
    views = {key.name: KeyView(key, records[key.name], rings[key.name]) for key in KEYS}
    for column, feature in enumerate(FEATURES[len(OWN_FEATURES) :], start=len(OWN_FEATURES)):
        matrix[:, column] = feature.operation(views[feature.key], feature.window_ms)
    first = len(OWN_FEATURES)
    for key in KEYS:
        end = first + sum(feature.key == key.name for feature in FEATURES)
        matrix[~views[key.name].present, first:end] = np.nan
        first = end
    return matrix, {name: view.remembered.tolist() for name, view in views.items()}
