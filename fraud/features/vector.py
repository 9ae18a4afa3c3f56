"""The feature vector: all features in the one order that the model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.features.catalogue import FEATURES, KEYS, REMEMBERED
from fraud.features.history import Records, Rings
from fraud.features.history_features import KeyView
from fraud.features.packing import OWN_FEATURES, Packed

__all__ = [
    "FEATURES",
    "FEATURES_HASH",
    "FEATURE_AT",
    "FEATURE_NAMES",
    "Vectors",
    "compute",
    "feature_matrix",
    "vectors",
]

FEATURE_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
FEATURE_AT: Final = {name: at for at, name in enumerate(FEATURE_NAMES)}
"""Column of each feature in a matrix of vectors, by name."""

FEATURES_HASH: Final = hashlib.sha256(
    "\n".join(
        [REMEMBERED] + [f"{feature.name} {feature.unit} {feature.meaning}" for feature in FEATURES]
    ).encode()
).hexdigest()[:16]
"""Identifies names, order and meanings of the features; a model with another hash cannot be used."""


class Vectors(NamedTuple):
    """The feature vectors of n transactions, and what else their history tells.

    Attributes:
        matrix: Shape (n, len(FEATURES)), C-contiguous, in the order of `FEATURES`; NaN means unknown.
        remembered: Per key, the number of records in each transaction's history, length n, without
            itself and duplicates of it.
        reused: Whether another event in the entity's history has the event_id, length n.
    """

    matrix: NDArray[np.float32]
    remembered: dict[str, list[int]]
    reused: list[bool]


def feature_matrix(packed: Packed, rings: Mapping[str, Sequence[bytes]]) -> NDArray[np.float32]:
    """Compute the feature vectors of a batch.

    Args:
        packed: The transactions, length n.
        rings: Per key, each transaction's ring after it was added, length n; empty if the
            transaction lacks the key.

    Returns:
        Shape (n, len(FEATURES)), C-contiguous, in the order of `FEATURES`; NaN means unknown.
    """
    return vectors(packed, rings).matrix


def vectors(packed: Packed, rings: Mapping[str, Sequence[bytes]]) -> Vectors:
    """Compute the feature vectors of a batch; see `feature_matrix` for the arguments."""
    return compute(
        packed.records, packed.own, {key.name: Rings.of(key, rings[key.name]) for key in KEYS}
    )


def compute(records: Mapping[str, Records], own: Records, rings: Mapping[str, Rings]) -> Vectors:
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
    return Vectors(
        matrix,
        {name: view.remembered.tolist() for name, view in views.items()},
        views[KEYS[0].name].reused.tolist(),
    )
