"""Training: nothing is used before it was known, and the same data and seed give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fraud.contracts.decision import ModelRef
from fraud.contracts.times import DAY_MS
from fraud.features.vector import FEATURE_NAMES
from model.datasets import ColumnMapping, Dataset
from model.examples import UNKNOWN, History, MappedDataset, feature_rows, read_history
from model.scorer import XGBoostScorer
from model.training import RAW_FEATURES, TooFewLabels, Trained, TrainingConfig, split, train
from tests.support.histories import labelled_rows, read_rows, write_rows

CONFIG = TrainingConfig(
    min_rounds=30, max_rounds=60, patience=15, search=0, baseline=False, resamples=10
)
SEARCHING = replace(CONFIG, search=3)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    rows = labelled_rows(labelled_share=0.9, delay_days=2)
    return read_rows(tmp_path_factory.mktemp("history"), rows)


@pytest.fixture(scope="module")
def matrix(history: History) -> NDArray[np.float32]:
    return feature_rows(history)


@pytest.fixture(scope="module")
def trained(history: History, matrix: NDArray[np.float32]) -> Trained:
    """What one training makes of the history; each with the same arguments makes the same."""
    return train(history, matrix, CONFIG)


@pytest.fixture(scope="module")
def searched(history: History, matrix: NDArray[np.float32]) -> Trained:
    """The same after a search."""
    return train(history, matrix, SEARCHING)


def test_periods_follow_each_other(history: History) -> None:
    parts = split(history, CONFIG)
    times = history.event_time_ms
    assert times[parts.train].max() < times[parts.validation].min()
    assert times[parts.validation].max() < parts.trained_at_ms == times[parts.test].min()
    labelled = int((history.label != UNKNOWN).sum())
    assert len(parts.test) == pytest.approx(0.2 * labelled, abs=1)


def test_a_label_known_later_is_not_used(history: History) -> None:
    """What the test period is measured with was not there to learn from."""
    parts = split(history, CONFIG)
    used = np.concatenate([parts.train, parts.validation])
    assert (history.label_time_ms[used] <= parts.trained_at_ms).all()
    before = history.event_time_ms < parts.trained_at_ms
    later = before & (history.label != UNKNOWN) & (history.label_time_ms > parts.trained_at_ms)
    # Two days of delay, a transaction each half an hour.
    assert parts.known_later == later.sum() > 80


def test_a_label_known_exactly_at_training_is_used(history: History) -> None:
    parts = split(history, CONFIG)
    first, last = parts.train[0], parts.validation[-1]
    times = history.label_time_ms.copy()
    times[first], times[last] = parts.trained_at_ms, parts.trained_at_ms + 1
    moved = split(replace(history, label_time_ms=times), CONFIG)
    assert first in moved.train
    assert last not in moved.validation


def test_examples_without_a_label_and_repeats_are_never_in_a_period(history: History) -> None:
    repeated = history.repeated.copy()
    repeated[::7] = True
    changed = replace(history, repeated=repeated)
    parts = split(changed, CONFIG)
    used = np.concatenate([parts.train, parts.validation, parts.test])
    assert (history.label[used] != UNKNOWN).all()
    assert not repeated[used].any()


def test_rows_without_a_label_do_not_reach_the_loss(
    history: History, matrix: NDArray[np.float32], trained: Trained
) -> None:
    """Whatever their features, the trees are the same to the last byte."""
    other = matrix.copy()
    other[(history.label == UNKNOWN)] = 1e6
    assert train(history, other, CONFIG).booster == trained.booster


def test_same_data_and_seed_give_the_same_bytes(
    tmp_path: Path, history: History, matrix: NDArray[np.float32], trained: Trained
) -> None:
    first = trained
    again = read_rows(tmp_path, labelled_rows(labelled_share=0.9, delay_days=2))
    second = train(again, feature_rows(again), CONFIG)
    assert second.booster == first.booster
    assert second.training == first.training
    assert second.metrics == first.metrics
    np.testing.assert_array_equal(second.scale.probabilities, first.scale.probabilities)
    assert train(history, matrix, replace(CONFIG, seed=8)).booster != first.booster


def test_the_same_search_gives_the_same_bytes(
    history: History, matrix: NDArray[np.float32], searched: Trained
) -> None:
    first, second = searched, train(history, matrix, SEARCHING)
    assert first.training["search"]["folds"] > 0
    assert len(first.training["search"]["tried"]) == 3
    assert second.booster == first.booster
    assert second.training == first.training


def test_the_search_sees_nothing_of_the_later_periods(
    history: History, matrix: NDArray[np.float32], searched: Trained
) -> None:
    """Whatever their labels and vectors are, it tries and chooses alike."""
    later = np.arange(len(history)) > split(history, CONFIG).train[-1]
    other, label = matrix.copy(), history.label.copy()
    other[later] = np.random.default_rng(1).random(other[later].shape)
    label[later & (label != UNKNOWN)] ^= np.arange(int((later & (label != UNKNOWN)).sum())) % 2 == 0
    changed = replace(history, label=label)
    found = train(changed, other, SEARCHING).training["search"]
    assert found == searched.training["search"]


def test_trees_stop_at_the_best_average_precision(
    history: History, matrix: NDArray[np.float32]
) -> None:
    """No other number of trees has a better one on the validation period."""
    config = replace(CONFIG, min_rounds=1)
    trained = train(history, matrix, config)
    assert trained.training["trees"] < config.max_rounds
    booster = xgboost.Booster()
    booster.load_model(bytearray(trained.booster))
    validation = split(history, config).validation
    rows = xgboost.DMatrix(matrix[validation])
    found = [
        average_precision_score(
            history.label[validation], booster.predict(rows, iteration_range=(0, trees))
        )
        for trees in range(1, trained.training["trees"] + 1)
    ]
    assert found[-1] == pytest.approx(max(found))


def test_probabilities_are_calibrated_on_the_validation_period(
    history: History, matrix: NDArray[np.float32], trained: Trained
) -> None:
    scorer = XGBoostScorer(trained.booster, ModelRef(name="x", version="0"), trained.scale)
    validation = split(history, CONFIG).validation
    said = scorer.predict(matrix[validation])
    assert said.mean() == pytest.approx((history.label[validation] == 1).mean(), rel=0.1)


def test_calibration_allows_for_fraud_that_is_still_to_be_reported(
    tmp_path: Path, history: History, matrix: NDArray[np.float32]
) -> None:
    """Fraud known after ten days, its absence at once: half of the fraud of the period is unknown."""
    fraud = history.label == 1
    delay_ms = np.where(fraud, np.arange(len(history)) % 20 * DAY_MS, 0)
    late = replace(history, label_time_ms=history.event_time_ms + delay_ms)
    parts = split(late, CONFIG)
    trained = train(late, matrix, CONFIG)
    scorer = XGBoostScorer(trained.booster, ModelRef(name="x", version="0"), trained.scale)
    times = late.event_time_ms
    everyone = (times >= times[parts.validation[0]]) & (times < parts.trained_at_ms)
    expected = scorer.predict(np.ascontiguousarray(matrix[everyone])).mean()
    truth = fraud[everyone & (history.label != UNKNOWN)].mean()
    known = (late.label[parts.validation] == 1).mean()
    assert known < 0.8 * truth
    assert expected == pytest.approx(truth, rel=0.25)


def test_the_baseline_sees_no_history(history: History, matrix: NDArray[np.float32]) -> None:
    """Its figures do not change with what it may not see."""
    config = replace(CONFIG, baseline=True)
    other = matrix.copy()
    other[:, len(RAW_FEATURES) :] = 0
    found = train(history, other, config).metrics["raw_fields"]
    assert found == train(history, matrix, config).metrics["raw_fields"]
    assert set(found["features"]) < set(FEATURE_NAMES)


def test_it_learns_what_the_history_tells(trained: Trained) -> None:
    assert trained.metrics["auc"] > 0.8
    assert trained.metrics["average_precision"] > 5 * 0.04
    assert CONFIG.min_rounds <= trained.training["trees"] <= CONFIG.max_rounds
    scorer = XGBoostScorer(trained.booster, ModelRef(name="x", version="0"), trained.scale)
    assert scorer.width == len(FEATURE_NAMES)


def test_a_thousand_rows_get_the_scores_of_one(
    matrix: NDArray[np.float32], trained: Trained
) -> None:
    """Probability and score of a row are its own, bit for bit, whatever it is batched with."""
    scorer = XGBoostScorer(trained.booster, ModelRef(name="x", version="0"), trained.scale)
    whole = scorer.predict(matrix[:1000])
    for at in range(1000):
        alone = scorer.predict(matrix[at : at + 1])
        assert alone[0] == whole[at]
        assert scorer.scale.score(alone)[0] == scorer.scale.score(whole)[at]


def test_the_score_is_tied_to_the_false_positive_rate_on_validation(
    history: History, matrix: NDArray[np.float32], trained: Trained
) -> None:
    """1 % of the legitimate transactions of the validation period score 950 or more, 2 % 900."""
    scorer = XGBoostScorer(trained.booster, ModelRef(name="x", version="0"), trained.scale)
    validation = split(history, CONFIG).validation
    legitimate = validation[history.label[validation] == 0]
    scores = scorer.scale.score(scorer.predict(matrix[legitimate]))
    one = 1 / len(legitimate)
    assert (scores >= 950).mean() == pytest.approx(0.01, abs=one)
    assert (scores >= 900).mean() == pytest.approx(0.02, abs=one)
    # Few trees give many equal probabilities there.
    assert (scores >= 600).mean() == pytest.approx(0.10, abs=0.01)


def test_trees_that_tell_nothing_are_refused(history: History, matrix: NDArray[np.float32]) -> None:
    """They would score everybody alike, and block all or nobody."""
    with pytest.raises(TooFewLabels, match="nothing could be learnt"):
        train(history, np.zeros_like(matrix), CONFIG)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "none of the transactions has one"),
        (labelled_rows(labelled_share=0.0), "none of the transactions has one"),
        ([dict(row, label="bad") for row in labelled_rows()], "where these mean nothing: 'bad'"),
        (
            [dict(row, transaction_amt="$5") for row in labelled_rows()],
            "3,000 rows: transaction_amt: expected a number",
        ),
        (labelled_rows(200), "legitimate in the validation period"),
        ([dict(row, label=0) for row in labelled_rows()], "0 fraud in the training period"),
        (labelled_rows(delay_days=100), "labels became known too late to be used"),
    ],
)
def test_too_few_labels_are_refused_saying_what_is_missing(
    tmp_path: Path, rows: list[dict[str, Any]], told: str
) -> None:
    dataset = Dataset(write_rows(tmp_path / "rows.jsonl", rows or labelled_rows(1)))
    mapping = ColumnMapping({name: name for name in dataset.columns()})
    if not rows:
        mapping = ColumnMapping({n: n for n in dataset.columns() if not n.startswith("label")})
    history = read_history([MappedDataset(dataset, mapping)])
    with pytest.raises(TooFewLabels, match=told):
        split(history, CONFIG)


def test_the_delay_of_the_file_is_what_is_left_out(tmp_path: Path) -> None:
    """A longer delay leaves out more, and never turns into fraud or its absence."""
    left_out = []
    for delay_days in (0, 3, 6):
        history = read_rows(tmp_path, labelled_rows(delay_days=delay_days))
        parts = split(history, CONFIG)
        left_out.append(parts.known_later)
        known_from = parts.trained_at_ms - delay_days * DAY_MS
        assert history.event_time_ms[parts.validation].max() <= known_from
    assert left_out[0] == 0 < left_out[1] < left_out[2]


def test_the_first_model_draws_of_what_is_legitimate_and_learns_as_much(
    history: History, matrix: NDArray[np.float32], trained: Trained
) -> None:
    """Every fraud stays, and those drawn stand for the rest: probabilities mean what they meant."""
    parts = split(history, CONFIG)
    legitimate = int((history.label[parts.train] == 0).sum())
    drawn = replace(CONFIG, most_legitimate=legitimate // 2)
    fewer, every = train(history, matrix, drawn), trained
    assert fewer.booster != every.booster
    assert fewer.training["periods"] == every.training["periods"]
    assert fewer.metrics["auc"] == pytest.approx(every.metrics["auc"], abs=0.05)
    ratio = fewer.metrics["predicted_to_observed_ratio"]
    assert ratio == pytest.approx(every.metrics["predicted_to_observed_ratio"], rel=0.3)
    assert (
        train(history, matrix, replace(CONFIG, most_legitimate=legitimate)).booster == every.booster
    )
