"""Calibration: the trees themselves say the calibrated probability."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale
from model.calibration import Platt, fit, fold_in
from model.scorer import XGBoostScorer
from tests.support.boosters import rows

REF = ModelRef(name="test", version="0")


def test_a_line_is_found_again() -> None:
    """Labels drawn by a known line give that line back."""
    generator = np.random.default_rng(1)
    said = generator.normal(-2, 2, 50_000)
    drawn = generator.random(50_000) < 1 / (1 + np.exp(-(0.7 * said - 1)))
    slope, intercept = fit(said, drawn.astype(np.int8))
    assert slope == pytest.approx(0.7, abs=0.03)
    assert intercept == pytest.approx(-1, abs=0.05)


def test_the_order_is_never_turned_round() -> None:
    """Also of trees that are wrong: what they rank higher stays higher."""
    said = np.linspace(-3, 3, 1000)
    assert fit(said, (said < 0).astype(np.int8)).slope > 0


def test_trees_with_the_line_in_them_say_what_it_says(booster: bytes) -> None:
    trees = xgboost.Booster()
    trees.load_model(bytearray(booster))
    matrix = rows(1000, seed=3)
    line = Platt(0.8, -1.5)
    plain = trees.predict(xgboost.DMatrix(matrix), output_margin=True).astype(np.float64)
    scorer = XGBoostScorer(fold_in(trees, line), REF, ScoreScale([0, 1], [0, 1000]))
    expected = 1 / (1 + np.exp(-(line.slope * plain + line.intercept)))
    np.testing.assert_allclose(scorer.predict(matrix), expected, rtol=1e-4)


def test_reasons_add_up_to_the_calibrated_probability(booster: bytes) -> None:
    trees = xgboost.Booster()
    trees.load_model(bytearray(booster))
    matrix = rows(200, seed=4)
    before = XGBoostScorer(booster, REF, ScoreScale([0, 1], [0, 1000]))
    after = XGBoostScorer(fold_in(trees, Platt(0.5, 2.0)), REF, before.scale)
    np.testing.assert_allclose(
        after.contributions(matrix), 0.5 * before.contributions(matrix), atol=1e-4
    )
