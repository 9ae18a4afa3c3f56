"""The score scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fraud.decision.scale import ScoreScale, score_at_rate


@pytest.mark.parametrize(("rate", "score"), [(0.01, 950), (0.02, 900), (0.1, 600)])
def test_a_score_means_a_share_of_legitimate_traffic(rate: float, score: int) -> None:
    """On the traffic that it was fitted on, `rate` of the legitimate ones reach `score`."""
    legitimate = np.random.default_rng(1).beta(0.5, 20, 50_000)
    reached = (ScoreScale.fit(legitimate).score(legitimate) >= score).mean()
    assert reached == pytest.approx(rate, rel=0.02)


@example([2.2250738585e-313], [0.0, 5e-324])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.lists(st.floats(0, 1), min_size=2))
def test_scores_rise_with_probabilities(legitimate: list[float], asked: list[float]) -> None:
    """Whatever it was fitted on, also on equal or few probabilities."""
    scores = ScoreScale.fit(np.array(legitimate)).score(np.sort(np.array(asked)))
    assert (np.diff(scores) >= 0).all()
    assert scores.min() >= 0
    assert scores.max() <= 1000


@pytest.mark.parametrize(
    ("probabilities", "scores"),
    [([0.5], [1]), ([0, 0], [0, 1]), ([0, 1], [5, 4]), ([0, 1], [0, 1001]), ([0, 1], [0])],
)
def test_knots_that_are_no_scale_are_refused(
    probabilities: list[float], scores: list[float]
) -> None:
    """A manifest that was written by hand may hold such."""
    with pytest.raises(ValueError, match="score scale"):
        ScoreScale(probabilities, scores)


def test_rates_between_anchors_are_interpolated() -> None:
    """And the ends are 0 and 1000."""
    assert [score_at_rate(rate) for rate in (1.0, 0.55, 0.06, 0.0)] == [0, 300, 750, 1000]
