"""Evaluation: how good a model is on transactions that came after all it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from fraud.decision.scale import ScoreScale

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

FALSE_POSITIVE_RATES: Final = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)
"""Rates at which the recall is given."""

SCORES: Final = (950, 900)
"""Scores at which the default rules act: block from the first, review from the second."""


def evaluate(
    label: Labels, probability: Floats, scale: ScoreScale, campaign: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure probabilities against labels.

    Args:
        label: 1 fraud, 0 legitimate, shape (n,); both must occur.
        probability: The model's, 0-1, shape (n,).
        scale: The model's score scale.
        campaign: Kind of each fraud where it is known (simulated data), length n or 0.

    Returns:
        JSON values. `recall_at_fpr` says, per false-positive rate, which share of the fraud has a
        probability that at most this share of the legitimate transactions reaches; `at_score`
        what the default rules would have done with the model's own scale.

    Raises:
        ValueError: There is no fraud or nothing legitimate.
    """
    fraud = label == 1
    if fraud.all() or not fraud.any():
        raise ValueError("expected both fraud and legitimate transactions to evaluate on")
    rates, recalls, _ = roc_curve(fraud, probability, drop_intermediate=False)

    def recall_at(rate: float) -> float:
        return float(recalls[rates <= rate].max())

    score = scale.score(probability)
    result: dict[str, Any] = {
        "rows": len(label),
        "frauds": int(fraud.sum()),
        "auc": float(roc_auc_score(fraud, probability)),
        "average_precision": float(average_precision_score(fraud, probability)),
        "brier": float(brier_score_loss(fraud, probability)),
        "recall_at_fpr": {f"{rate:g}": recall_at(rate) for rate in FALSE_POSITIVE_RATES},
        "at_score": {str(least): _acted(fraud, score >= least) for least in SCORES},
    }
    kinds = np.array(campaign, object)
    if len(kinds) and any(kinds[fraud]):
        threshold = _threshold(probability[~fraud], FALSE_POSITIVE_RATES[0])
        result["recall_by_campaign"] = {
            kind: {
                "frauds": int((fraud & (kinds == kind)).sum()),
                "recall_at_fpr_0.01": float(
                    (probability[fraud & (kinds == kind)] > threshold).mean()
                ),
            }
            for kind in sorted(set(kinds[fraud]) - {""})
        }
    return result


def _acted(fraud: NDArray[np.bool_], acted: NDArray[np.bool_]) -> dict[str, float | None]:
    caught = int((fraud & acted).sum())
    return {
        "recall": caught / int(fraud.sum()),
        "false_positive_rate": float(acted[~fraud].mean()),
        "precision": caught / int(acted.sum()) if acted.any() else None,
    }


def _threshold(legitimate: Floats, rate: float) -> float:
    """Give the probability that at most this share of legitimate transactions exceeds."""
    ascending = np.sort(legitimate)
    allowed = int(rate * len(ascending))
    return float(ascending[len(ascending) - 1 - allowed])
