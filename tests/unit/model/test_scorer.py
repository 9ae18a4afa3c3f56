"""The scorer: what the engine may rely on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale
from fraud.decision.scorer import Scorer
from fraud.features.vector import FEATURE_NAMES
from model.scorer import XGBoostScorer
from tests.support.boosters import rows


@pytest.fixture
def scorer(booster: bytes, scale: ScoreScale) -> XGBoostScorer:
    return XGBoostScorer(booster, ModelRef(name="fraud", version="abc"), scale)


def test_a_row_alone_scores_as_in_any_batch(scorer: XGBoostScorer) -> None:
    """Stream and REST see the same row in batches of other sizes: not a bit may differ."""
    matrix = rows(2311, seed=2)
    whole = scorer.predict(matrix)
    assert len(np.unique(whole)) > 100
    alone = np.concatenate([scorer.predict(matrix[at : at + 1]) for at in range(len(matrix))])
    np.testing.assert_array_equal(alone, whole)
    for size in (2, 7, 64, 65, 1000):
        parts = [scorer.predict(matrix[at : at + size]) for at in range(0, len(matrix), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_threads_that_trained_do_not_matter(
    scorer: XGBoostScorer, booster: bytes, scale: ScoreScale
) -> None:
    """Another process with its own thread settings gives the same bits."""
    matrix = rows(500, seed=3)
    other = XGBoostScorer(booster, scorer.ref, scale)
    other._booster.set_param({"nthread": 2})
    np.testing.assert_array_equal(other.predict(matrix), scorer.predict(matrix))


def test_probabilities_are_float32_values(scorer: XGBoostScorer) -> None:
    probabilities = scorer.predict(rows(100, seed=4))
    assert probabilities.dtype == np.float64
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_array_equal(
        probabilities.astype(np.float32).astype(np.float64), probabilities
    )


def test_contributions_add_up_to_the_log_odds(scorer: XGBoostScorer) -> None:
    """Up to the base value, which is the same for all rows."""
    matrix = rows(50, seed=5)
    parts = scorer.contributions(matrix)
    assert parts.shape == (50, len(FEATURE_NAMES))
    probabilities = scorer.predict(matrix)
    base = np.log(probabilities / (1 - probabilities)) - parts.sum(axis=1)
    np.testing.assert_allclose(base, base[0], atol=1e-4)


def test_an_empty_batch_is_no_error(scorer: XGBoostScorer) -> None:
    nothing = np.empty((0, len(FEATURE_NAMES)), np.float32)
    assert scorer.predict(nothing).shape == (0,)
    assert scorer.contributions(nothing).shape == (0, len(FEATURE_NAMES))


def test_a_matrix_of_another_shape_or_type_is_refused(scorer: XGBoostScorer) -> None:
    """XGBoost itself would read wrong columns, or convert and so change bits."""
    matrix = rows(4, seed=6)
    for wrong in (
        matrix[:, 1:],
        matrix.astype(np.float64),
        np.asfortranarray(matrix),
        matrix[0],
    ):
        with pytest.raises(ValueError, match="expected C-contiguous float32"):
            scorer.predict(wrong)


def test_scoring_needs_no_scikit_learn() -> None:
    """It would cost every Python worker 130 MB; training can still have it afterwards."""
    script = """
import sys
import model.registry
assert not {"sklearn", "pandas"} & sys.modules.keys(), "imported"
import sklearn.metrics
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_is_a_scorer(scorer: XGBoostScorer) -> None:
    engine_asks: Scorer = scorer
    assert engine_asks.ref == ModelRef(name="fraud", version="abc")
    assert engine_asks.scale.score(np.array([0.5])).tolist() == [950]
