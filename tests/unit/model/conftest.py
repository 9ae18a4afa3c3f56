"""A small trained booster, shared by the tests of this folder."""

from __future__ import annotations

import os

# Read once, when XGBoost loads its threads, as `model.commands.train` does it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from fraud.decision.scale import ScoreScale
from tests.support.boosters import train_booster


@pytest.fixture(scope="session")
def booster() -> bytes:
    return train_booster()


@pytest.fixture
def scale() -> ScoreScale:
    return ScoreScale([0.0, 0.5, 1.0], [0.0, 950.0, 1000.0])
