"""The score scale, 0 to 1000, tied to the false-positive rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_SCORE: Final = 1000

ANCHORS: Final[tuple[tuple[float, float], ...]] = (
    (1.0, 0.0),
    (0.10, 600.0),
    (0.02, 900.0),
    (0.01, 950.0),
    (0.0, 1000.0),
)
"""(false-positive rate, score) pairs that Amazon Fraud Detector publishes; linear in between."""

_RATES: Final = (
    1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.10, 0.08, 0.06, 0.05, 0.04, 0.03, 0.025,
    0.02, 0.0175, 0.015, 0.0125, 0.01, 0.0075, 0.005, 0.0025, 0.001, 0.0,
)  # fmt: skip

_LEAST: Final = 1e-12
"""Lower probabilities do not become knots: interpolating from 0 to them could overflow."""


def score_at_rate(false_positive_rate: float) -> float:
    """Return the score that this share of legitimate transactions reaches or exceeds.

    Example:
        >>> [score_at_rate(rate) for rate in (0.01, 0.015, 0.02, 0.1)]
        [950.0, 925.0, 900.0, 600.0]
    """
    rates, scores = zip(*reversed(ANCHORS), strict=True)
    return float(np.interp(false_positive_rate, rates, scores))


class ScoreScale:
    """Maps probabilities to scores by linear interpolation between knots.

    Args:
        probabilities: Knots, strictly ascending, at least two.
        scores: Score of each knot, ascending, 0 to 1000.

    Raises:
        ValueError: There are fewer than two knots, or they are not ascending or out of range.
    """

    def __init__(self, probabilities: Sequence[float], scores: Sequence[float]) -> None:
        self.probabilities = np.asarray(probabilities, np.float64)
        self.scores = np.asarray(scores, np.float64)
        if (
            len(self.probabilities) != len(self.scores)
            or len(self.scores) < 2
            or (np.diff(self.probabilities) <= 0).any()
            or (np.diff(self.scores) < 0).any()
            or self.scores[0] < 0
            or self.scores[-1] > MAX_SCORE
        ):
            raise ValueError("score scale: expected at least two ascending knots, scores 0 to 1000")

    @classmethod
    def fit(cls, legitimate: NDArray[np.floating[Any]]) -> ScoreScale:
        """Fit the scale to the probabilities of legitimate transactions that training did not use.

        Args:
            legitimate: Their probabilities, shape (n,), n at least 1.
        """
        knots: dict[float, float] = {0.0: 0.0}
        ascending = np.sort(legitimate.astype(np.float64))
        for rate in _RATES[1:-1]:
            at = float(np.quantile(ascending, 1 - rate, method="higher"))
            if _LEAST <= at < 1:
                # If several rates share a probability, the lowest score stays: a higher one would
                # claim a lower false-positive rate than the probability has.
                knots.setdefault(at, score_at_rate(rate))
        knots[1.0] = float(MAX_SCORE)
        return cls(list(knots), list(knots.values()))

    def score(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return scores, rounded down; a high score means fraud.

        Example:
            >>> ScoreScale([0, 0.5, 1], [0, 950, 1000]).score(np.array([0.25, 0.5, 1.0])).tolist()
            [475, 950, 1000]
        """
        return np.interp(probabilities, self.probabilities, self.scores).astype(np.int64)
