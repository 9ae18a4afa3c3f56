"""Evaluation: figures that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fraud.decision.scale import ScoreScale
from model.evaluation import evaluate

SCALE = ScoreScale([0.0, 0.5, 1.0], [0.0, 900.0, 1000.0])


def test_figures_of_a_case_made_by_hand() -> None:
    """Of 100 legitimate one scores above all but two of four frauds."""
    probability = np.array([0.95, 0.9, 0.8, 0.1] + [0.85] + [0.2] * 99)
    label = np.array([1] * 4 + [0] * 100, np.int8)
    figures = evaluate(label, probability, SCALE)
    assert (figures["rows"], figures["frauds"]) == (104, 4)
    assert figures["auc"] == pytest.approx((100 + 100 + 99 + 0) / 400)
    assert figures["average_precision"] == pytest.approx(0.25 * (1 + 1 + 3 / 4 + 4 / 104))
    assert figures["recall_at_fpr"]["0.01"] == 0.75
    assert figures["recall_at_fpr"]["0.06"] == 0.75
    assert figures["at_score"]["900"] == {
        "recall": 0.75,
        "false_positive_rate": 0.01,
        "precision": 0.75,
    }
    # 950 is at probability 0.75 on this scale.
    assert figures["at_score"]["950"]["recall"] == 0.75
    assert "recall_by_campaign" not in figures


def test_ties_are_not_counted_as_caught() -> None:
    """A threshold takes all that score the same, the legitimate ones too."""
    probability = np.array([0.5, 0.5] + [0.5] * 5 + [0.1] * 95)
    label = np.array([1, 1] + [0] * 100, np.int8)
    figures = evaluate(label, probability, SCALE, ["ring", "ring"] + [""] * 100)
    assert figures["recall_at_fpr"]["0.04"] == 0
    assert figures["recall_at_fpr"]["0.05"] == 1
    assert figures["recall_by_campaign"] == {"ring": {"frauds": 2, "recall_at_fpr_0.01": 0.0}}


def test_recall_by_campaign_adds_up() -> None:
    generator = np.random.default_rng(4)
    label = (generator.random(5000) < 0.05).astype(np.int8)
    probability = np.clip(generator.normal(0.3 + 0.2 * label, 0.1), 0, 1)
    kinds = np.where(label == 1, generator.choice(["a", "b"], 5000), "")
    figures = evaluate(label, probability, SCALE, kinds.tolist())
    by_kind = figures["recall_by_campaign"].values()
    caught = sum(one["frauds"] * one["recall_at_fpr_0.01"] for one in by_kind)
    assert caught / figures["frauds"] == pytest.approx(figures["recall_at_fpr"]["0.01"], abs=0.01)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_label_alone_cannot_be_evaluated(label: int) -> None:
    with pytest.raises(ValueError, match="both fraud and legitimate"):
        evaluate(np.full(10, label, np.int8), np.linspace(0, 1, 10), SCALE)
