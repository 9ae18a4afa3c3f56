"""A small trained booster, shared by the tests of this folder."""

from __future__ import annotations

import os

# Read once, when XGBoost loads its threads, as `model.commands.train` does it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from fraud.decision.scale import ScoreScale
from fraud.features.vector import FEATURE_NAMES


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Make vectors of the right width, a fifth of the values not known."""
    generator = np.random.default_rng(seed)
    matrix = generator.lognormal(size=(count, len(FEATURE_NAMES))).astype(np.float32)
    matrix[generator.random(matrix.shape) < 0.2] = np.nan
    return matrix


def train_booster(width: int = len(FEATURE_NAMES)) -> bytes:
    """Train forty small trees on random rows."""
    matrix = rows(2000, seed=1)[:, :width]
    label = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 3]) > 3
    booster = xgboost.train(
        {
            "objective": "binary:logistic",
            "max_depth": 4,
            "nthread": 1,
            "seed": 1,
            "base_score": 0.5,
        },
        xgboost.DMatrix(matrix, label),
        40,
    )
    return bytes(booster.save_raw("ubj"))


@pytest.fixture(scope="session")
def booster() -> bytes:
    return train_booster()


@pytest.fixture
def scale() -> ScoreScale:
    return ScoreScale([0.0, 0.5, 1.0], [0.0, 950.0, 1000.0])
