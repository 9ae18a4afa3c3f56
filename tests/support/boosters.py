"""A small trained booster, and a registry with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud.decision.scale import ScoreScale
from fraud.features.vector import FEATURE_NAMES
from model.registry import Registry


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


def a_trained_registry(folder: Path) -> Path:
    """Make a registry with a champion."""
    registry = Registry(folder)
    scale = ScoreScale([0.0, 0.5, 1.0], [0.0, 950.0, 1000.0])
    model = registry.add("fraud", train_booster(), scale, metrics={}, training={})
    registry.promote("fraud", model.version)
    return registry.folder
