"""Evaluation: figures that can be checked by hand, and against scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fraud.backtest.resampling import difference
from fraud.contracts.times import DAY_MS
from fraud.decision.scale import ScoreScale
from model.datasets import DatasetError
from model.evaluation import MeasuredPeriod, average_precision, importance, measure

SCALE = ScoreScale([0.0, 0.5, 1.0], [0.0, 900.0, 1000.0])
FEW = 20
"""Resamples where their number does not matter."""


def a_period(label: NDArray[np.int8], *, kinds: list[str] | None = None) -> MeasuredPeriod:
    """Make a period of one transaction of each entity, all on one day."""
    count = len(label)
    names = ("", *sorted({kind for kind in kinds or [] if kind}))
    return MeasuredPeriod(
        np.zeros((count, 2), np.float32),
        label.astype(np.int8),
        np.arange(count),
        np.zeros(count, np.int64),
        np.ones(count),
        np.array([names.index(kind) for kind in kinds] if kinds else np.full(count, -1), np.int16),
        names if kinds else (),
    )


def random_case(seed: int, count: int = 2000) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Make labels and probabilities with many ties."""
    generator = np.random.default_rng(seed)
    label = (generator.random(count) < 0.05).astype(np.int8)
    said = np.clip(generator.normal(0.3 + 0.2 * label, 0.15), 0, 1)
    return label, np.round(said, 2)


def test_figures_of_a_case_made_by_hand() -> None:
    """Of 100 legitimate one scores above all but two of four frauds."""
    probability = np.array([0.95, 0.9, 0.8, 0.1] + [0.85] + [0.2] * 99)
    label = np.array([1] * 4 + [0] * 100, np.int8)
    figures = measure(a_period(label), probability, SCALE, resamples=FEW).report()
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
    assert "by_campaign" not in figures


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    label, probability = random_case(seed)
    figures = measure(a_period(label), probability, SCALE, resamples=FEW).report()
    assert figures["auc"] == pytest.approx(roc_auc_score(label, probability))
    assert figures["average_precision"] == pytest.approx(
        average_precision_score(label, probability)
    )
    assert figures["brier"] == pytest.approx(brier_score_loss(label, probability))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_average_precision_is_that_of_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    """What stops the trees is the figure that is reported, ties included."""
    label = np.array([fraud for fraud, _ in rows], np.float32)
    said = np.array([score for _, score in rows], np.float32)
    expected = average_precision_score(label, said) if label.any() else 0.0
    assert average_precision(label, said) == pytest.approx(expected)


def test_ties_are_not_counted_as_caught() -> None:
    """A threshold takes all that score the same, the legitimate ones too."""
    probability = np.array([0.5, 0.5] + [0.5] * 5 + [0.1] * 95)
    period = a_period(np.array([1, 1] + [0] * 100), kinds=["ring", "ring"] + [""] * 100)
    figures = measure(period, probability, SCALE, resamples=FEW).report()
    assert figures["recall_at_fpr"]["0.04"] == 0
    assert figures["recall_at_fpr"]["0.05"] == 1
    ring = figures["by_campaign"]["ring"]
    assert (ring["frauds"], ring["recall_at_fpr_0.01"]) == (2, 0.0)
    assert ring["average_precision"] == pytest.approx(2 / 7)


def test_kinds_of_fraud_are_measured_by_the_truth() -> None:
    """Also where nobody reported it, or not yet."""
    label, probability = random_case(4)
    kinds = ["ring" if one else "" for one in label.tolist()]
    told = measure(a_period(label, kinds=kinds), probability, SCALE, resamples=FEW).report()
    frauds = np.flatnonzero(label == 1)
    hidden = label.copy()
    hidden[frauds[::3]] = -1
    hidden[frauds[1::3]] = 0
    figures = measure(a_period(hidden, kinds=kinds), probability, SCALE, resamples=FEW).report()
    assert figures["by_campaign"] == told["by_campaign"]
    assert figures["frauds"] < told["frauds"]


def test_alerts_are_the_most_probable_of_each_day() -> None:
    """Two days: one alert each catches the first day's fraud, two the second day's as well."""
    label = np.array([1, 0, 0, 1, 0, 0], np.int8)
    probability = np.array([0.9, 0.2, 0.1, 0.5, 0.6, 0.4])
    period = replace(
        a_period(label),
        event_time_ms=np.array([0, 1, 2, DAY_MS, DAY_MS + 1, DAY_MS + 2]),
        amount=np.array([30.0, 1, 1, 10, 1, 1]),
    )
    figures = measure(period, probability, SCALE, alerts_per_day=2, resamples=FEW).report()
    alerts = figures["at_alerts_per_day"]
    assert alerts["1"] == {
        "precision": 0.5,
        "recall": 0.5,
        "money_caught_ratio": 0.75,
        "money_caught_per_day": 15.0,
    }
    assert (alerts["2"]["precision"], alerts["2"]["recall"]) == (0.5, 1.0)


def test_intervals_hold_the_figure_and_narrow_with_more_data() -> None:
    widths = []
    for count in (1000, 20_000):
        label, probability = random_case(1, count)
        figures = measure(a_period(label), probability, SCALE).report()
        low, high = figures["intervals"]["auc"]
        assert low < figures["auc"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_one_entity_is_one_piece_of_evidence() -> None:
    """Ten copies of every transaction of an entity tell nothing new: the interval stays as it was."""
    label, probability = random_case(2)
    once = a_period(label)
    many = a_period(np.repeat(label, 10))
    many = replace(many, entity=np.repeat(once.entity, 10))
    first = measure(once, probability, SCALE).report()["intervals"]["auc"]
    second = measure(many, np.repeat(probability, 10), SCALE).report()["intervals"]["auc"]
    assert second == pytest.approx(first)


def test_a_weaker_model_is_told_from_a_better_one() -> None:
    label, probability = random_case(3)
    period = a_period(label)
    noise = np.random.default_rng(1).normal(0, 0.2, len(label))
    better = measure(period, probability, SCALE)
    weaker = measure(period, np.clip(probability + noise, 0, 1), SCALE)
    found = difference(weaker, better)
    assert found.low < found.value < found.high < 0
    assert found.lower_share == 1
    assert difference(better, better).value == 0


def test_reliability_bins_hold_everything_once() -> None:
    label, probability = random_case(5)
    figures = measure(a_period(label), probability, SCALE, resamples=FEW).report()
    bins = figures["reliability"].values()
    assert sum(one["rows"] for one in bins) == len(label)
    frauds = sum(one["rows"] * one["observed"] for one in bins)
    assert frauds == pytest.approx(label.sum())
    assert all(one["from"] <= one["predicted"] <= one["to"] for one in bins)


def test_importance_is_a_share() -> None:
    label, _ = random_case(6, 500)
    parts = np.random.default_rng(1).normal(size=(500, 3)) * [1, 3, 0]
    found = importance(a_period(label), parts, ("a", "b", "c"), resamples=FEW)
    assert [one["feature"] for one in found] == ["b", "a", "c"]
    assert sum(one["share"] for one in found) == pytest.approx(1)


def test_a_period_survives_its_file() -> None:
    label, _ = random_case(7, 300)
    period = a_period(label, kinds=["ring" if one else "" for one in label.tolist()])
    period.matrix[3, 1] = np.nan
    again = MeasuredPeriod.from_bytes(period.to_bytes())
    assert again.digest == period.digest
    assert again.campaigns == ("", "ring")
    np.testing.assert_array_equal(again.matrix, period.matrix)
    with pytest.raises(ValueError, match="Parquet"):
        MeasuredPeriod.from_bytes(b"PAR1 or not")


@pytest.mark.parametrize("label", [0, 1, -1])
def test_one_kind_of_label_alone_cannot_be_measured(label: int) -> None:
    with pytest.raises(DatasetError, match="both fraud and legitimate"):
        measure(a_period(np.full(10, label, np.int8)), np.linspace(0, 1, 10), SCALE)
