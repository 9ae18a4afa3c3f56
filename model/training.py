"""Trains a model on a labelled history, using only what was known at the time of training.

The history is cut in time. Training happens, as it were, at the start of the test period:

    train (fits the trees) | validation (stops them, ties the score scale) | test (measures)
                                                                           ^ now

Before that moment, only labels known by then are used. Transactions without a label, and repeats
of an event, count in the history of others, but are not examples themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray
from pydantic import BaseModel

from fraud.backtest.resampling import RESAMPLES, difference
from fraud.contracts.decision import ModelRef
from fraud.contracts.times import utc_text
from fraud.decision.scale import ScoreScale
from fraud.features.catalogue import KEYS
from fraud.features.currency import MICRO, UNKNOWN_AMOUNT
from fraud.features.packing import OWN_FEATURES
from fraud.features.vector import FEATURE_AT, FEATURE_NAMES
from model.calibration import Platt, fold_in
from model.calibration import fit as fit_platt
from model.datasets import DatasetError
from model.evaluation import (
    UNKNOWN,
    Measured,
    MeasuredPeriod,
    average_precision,
    importance,
    measure,
)
from model.examples import History
from model.missing import hidden_columns, hide
from model.report import number_hint
from model.scorer import XGBoostScorer

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]

MIN_TRAIN_FRAUDS: Final = 10
MIN_VALIDATION_FRAUDS: Final = 3
MIN_TEST_FRAUDS: Final = 1
MIN_LEGITIMATE: Final = 100
"""Legitimate examples that a period must have: with fewer, a false-positive rate of 1 % means little."""

RAW_FEATURES: Final = tuple(feature.name for feature in OWN_FEATURES)
"""Features of the baseline: a transaction's own fields, without any history."""

SEARCH: Final = 8
"""Number of settings to try, the shipped ones included."""

FIRST_LEGITIMATE: Final = 100_000
"""Legitimate transactions that fit the trees of the first model (docs/decisions/0028)."""

_MOST_STAND_FOR: Final = 20
"""Most transactions that one example may stand for: a single early report proves little."""

_STOPPING: Final = "later"
_METRIC: Final = "average_precision"
_IMPORTANCE_ROWS: Final = 1000

TREES: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    # Fewer bins, or a base score fitted to rare fraud, cost average precision: .69 -> .58 on a
    # public benchmark.
    "max_bin": 1024,
    "base_score": 0.5,
    "max_depth": 4,
    "learning_rate": 0.1,
    "min_child_weight": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "reg_lambda": 1.0,
}
"""Shipped settings of the trees."""

_SPACE: Final[dict[str, tuple[float, ...]]] = {
    "max_depth": (3, 4, 5, 6),
    "min_child_weight": (0.5, 1.0, 2.0),
    "subsample": (0.6, 0.8, 1.0),
    "colsample_bytree": (0.3, 0.6, 0.9),
    "reg_lambda": (1.0, 3.0, 10.0),
}
_FOLD_CUTS: Final = (0.4, 0.6, 0.8, 1.0)
_FOLD_LEGITIMATE: Final = 20_000
_MIN_FOLD_FRAUDS: Final = 5
_FOLD_LEAST: Final = 40
_FOLD_PATIENCE: Final = 20
_FOLD_ROUNDS: Final = 150


class TooFewLabels(DatasetError):
    """A history cannot be learnt from; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Configuration of a training; with the same data it reproduces the same model, byte for byte.

    Attributes:
        seed: Seed of all draws.
        validation_share: Share of the labelled transactions that stop the training.
        test_share: Share of the labelled transactions, the latest, that measure the model.
        min_rounds: Fewest trees. The first ones mostly learn how rare fraud is, and may not split at
            all, so their average precision means nothing.
        max_rounds: Most trees.
        patience: Trees without a better average precision on the validation period before training
            ends.
        threads: Threads to train with; part of the result, as sums of gradients depend on it.
        search: Settings to try on folds of the training period, the shipped ones included; below 2,
            the shipped ones are used untried.
        most_legitimate: Most legitimate transactions that fit the trees; of more, this many are
            drawn and weighted accordingly. None uses all.
        baseline: Whether to train a second model, on the transaction's own fields, to compare.
        alerts_per_day: Transactions that people can review in a day.
        resamples: Number of resamples of the entities, for the intervals.
    """

    seed: int = 7
    validation_share: float = 0.2
    test_share: float = 0.2
    min_rounds: int = 60
    max_rounds: int = 600
    patience: int = 60
    threads: int = 2
    search: int = SEARCH
    most_legitimate: int | None = None
    baseline: bool = True
    alerts_per_day: int = 50
    resamples: int = RESAMPLES


class DataPeriod(BaseModel):
    """One of the three periods.

    Attributes:
        start: Event time of its first example, ISO 8601, UTC.
        end: Event time of its last example.
        rows: Examples in it.
        frauds: How many of them are fraud.
    """

    start: str
    end: str
    rows: int
    frauds: int


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the examples of each period in the history.

    Attributes:
        train: Examples that fit the trees.
        validation: Examples that stop them, calibrate them and tie the score scale.
        test: Examples that measure the model.
        later: Transactions of the test period: if simulated, those without a label too, as their
            truth is known; else the examples.
        trained_at_ms: Start of the test period, UTC epoch milliseconds; before it, only labels that
            were known by then are used.
        known_later: Labelled transactions left out before it, as their labels became known later.
    """

    train: Rows
    validation: Rows
    test: Rows
    later: Rows
    trained_at_ms: int
    known_later: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, not yet in a registry.

    Attributes:
        booster: Trees in XGBoost's own format.
        scale: Score scale.
        metrics: Figures on the test period, JSON values.
        training: How it was made, JSON values.
        later: Test period, for comparisons with other models.
        curves: Points of the plots, JSON values.
    """

    booster: bytes
    scale: ScoreScale
    metrics: dict[str, Any]
    training: dict[str, Any]
    later: MeasuredPeriod
    curves: dict[str, Any]


def split(history: History, config: TrainingConfig) -> Split:
    """Cut a history in time.

    Raises:
        TooFewLabels: A period has too few examples of a kind.
    """
    times = history.event_time_ms
    labelled = np.flatnonzero((history.label != UNKNOWN) & ~history.repeated)
    if not len(history):
        why = "; ".join(f"{count:,} rows: {what}" for what, count in history.refused_why.items())
        hint = number_hint(history.refused_why)
        raise TooFewLabels(
            f"no transaction could be read: {why or 'there are no rows'}{'.' + hint if hint else ''}"
        )
    if not len(labelled):
        seen = ", ".join(repr(label) for label in [*history.other_labels][:5])
        raise TooFewLabels(
            "too few labels: none of the transactions has one; "
            + (
                "their label_time is no ISO 8601 date, or date and time"
                if history.bad_label_times
                else f"name your values under [labels], where these mean nothing: {seen}"
                if seen
                else "map your column to label, and name its values under [labels]"
            )
        )

    def start_ms(share_after: float) -> int:
        return int(times[labelled[int(len(labelled) * (1 - share_after))]])

    trained_at_ms = start_ms(config.test_share)
    validation_ms = start_ms(config.test_share + config.validation_share)
    event_times = times[labelled]
    known = history.label_time_ms[labelled] <= trained_at_ms
    before = event_times < trained_at_ms
    result = Split(
        train=labelled[(event_times < validation_ms) & known],
        validation=labelled[(event_times >= validation_ms) & before & known],
        test=labelled[~before],
        later=measurable(history, trained_at_ms),
        trained_at_ms=trained_at_ms,
        known_later=int((before & ~known).sum()),
    )
    _check(history, result)
    return result


def measurable(history: History, since_ms: int = 0) -> Rows:
    """Return the transactions to measure on: those with a label, and simulated ones without one too."""
    known = history.has_truth | (history.label != UNKNOWN)
    return np.flatnonzero(known & ~history.repeated & (history.event_time_ms >= since_ms))


def _check(history: History, parts: Split) -> None:
    needs = (
        ("training", parts.train, MIN_TRAIN_FRAUDS),
        ("validation", parts.validation, MIN_VALIDATION_FRAUDS),
        ("test", parts.test, MIN_TEST_FRAUDS),
    )
    lacking = []
    for name, rows, frauds_needed in needs:
        frauds = int((history.label[rows] == 1).sum())
        legitimate = len(rows) - frauds
        if frauds < frauds_needed:
            lacking.append(f"{frauds} fraud in the {name} period (at least {frauds_needed})")
        if legitimate < MIN_LEGITIMATE:
            lacking.append(
                f"{legitimate} legitimate in the {name} period (at least {MIN_LEGITIMATE})"
            )
    if lacking:
        later = (
            f"; {parts.known_later} labels became known too late to be used"
            if parts.known_later
            else ""
        )
        raise TooFewLabels(f"too few labels: {', '.join(lacking)}{later}")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Examples that fit trees, and later ones that stop them."""

    fitting: xgboost.DMatrix
    stopping: xgboost.DMatrix

    @classmethod
    def of(
        cls,
        history: History,
        matrix: Matrix,
        fit: Rows,
        stop: Rows,
        config: TrainingConfig,
        columns: Sequence[int] | slice = slice(None),
        weight: NDArray[np.float32] | None = None,
    ) -> _Rows:
        """Build the examples of two periods; in those that fit the trees, fields are hidden at random."""

        def examples(
            rows: Rows,
            ref: xgboost.DMatrix | None = None,
            weight: NDArray[np.float32] | None = None,
        ) -> xgboost.DMatrix:
            vectors = matrix[rows]
            if ref is None:
                hidden = hidden_columns()[:, columns]
                hide(vectors, hidden, np.random.default_rng(config.seed))
            return xgboost.QuantileDMatrix(
                vectors,
                history.label[rows],
                weight=weight,
                ref=ref,
                max_bin=TREES["max_bin"],
                nthread=config.threads,
            )

        fitting = examples(fit, weight=weight)
        return cls(fitting, examples(stop, fitting))


class _Stopper(xgboost.callback.TrainingCallback):
    """Ends the training when average precision on later examples no longer improves."""

    def __init__(
        self, least: int, patience: int, on_round: Callable[[int], None] = lambda _: None
    ) -> None:
        super().__init__()
        self._least = least
        self._patience = patience
        self._on_round = on_round
        self.best = -1.0
        """Average precision of the best round so far."""
        self.trees = 0
        """Trees of that round."""

    def after_iteration(self, _model: Any, epoch: int, evals_log: Any) -> bool:
        trees = epoch + 1
        self._on_round(trees)
        precision = float(evals_log[_STOPPING][_METRIC][-1])
        if trees < self._least:
            return False
        if precision > self.best:
            self.best, self.trees = precision, trees
        return trees - self.trees >= self._patience


def _average_precision(
    probability: NDArray[np.float32], rows: xgboost.DMatrix
) -> tuple[str, float]:
    return _METRIC, average_precision(rows.get_label(), probability)


def _grow(rows: _Rows, parameters: dict[str, Any], most: int, stopper: _Stopper) -> xgboost.Booster:
    """Grow trees until the stopper ends the training."""
    return xgboost.train(
        # XGBoost's own aucpr interpolates between points; average precision does not.
        {**parameters, "disable_default_eval_metric": 1},
        rows.fitting,
        most,
        evals=[(rows.stopping, _STOPPING)],
        custom_metric=_average_precision,
        callbacks=[stopper],
        verbose_eval=False,
    )


def _folds(history: History, train_rows: Rows, seed: int) -> list[tuple[Rows, Rows]]:
    """Cut the training period into an earlier and a later part, several times.

    Each later part is judged by trees that saw what was known when it began. At most
    `_FOLD_LEGITIMATE` legitimate transactions are drawn per part: candidates are only compared.
    """
    generator = np.random.default_rng(seed)
    times = history.event_time_ms[train_rows]
    folds = []
    for start, end in pairwise(_FOLD_CUTS):
        first = int(times[int(len(train_rows) * start)])
        last = train_rows[: int(len(train_rows) * end)]
        earlier = train_rows[(times < first) & (history.label_time_ms[train_rows] <= first)]
        later = last[history.event_time_ms[last] >= first]
        parts = []
        for rows in (earlier, later):
            fraud = history.label[rows] == 1
            legitimate = rows[~fraud]
            if len(legitimate) > _FOLD_LEGITIMATE:
                legitimate = generator.choice(legitimate, _FOLD_LEGITIMATE, replace=False)
            parts.append((np.sort(np.concatenate((rows[fraud], legitimate))), int(fraud.sum())))
        (fit, fit_frauds), (stop, stop_frauds) = parts
        if (
            fit_frauds >= MIN_TRAIN_FRAUDS
            and stop_frauds >= _MIN_FOLD_FRAUDS
            and len(stop) > stop_frauds
        ):
            folds.append((fit, stop))
    return folds


def _candidates(count: int, seed: int) -> list[dict[str, Any]]:
    """Draw distinct settings to try: the shipped ones first, then others from `_SPACE`."""
    generator = random.Random(seed)  # noqa: S311 - a search, no secret
    candidates: list[dict[str, Any]] = [{}]
    while len(candidates) < count:
        candidate = {name: generator.choice(values) for name, values in _SPACE.items()}
        if candidate not in candidates:
            candidates.append(candidate)
    return candidates


def _search(
    history: History,
    matrix: Matrix,
    parts: Split,
    config: TrainingConfig,
    on_round: Callable[[int], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search for better settings on the training period alone.

    Returns:
        Differences from the shipped settings, and what was tried, as JSON values.
    """
    if config.search < 2:
        return {}, {"candidates": 0, "why": "not asked for"}
    folds = _folds(history, parts.train, config.seed)
    if not folds:
        return {}, {"candidates": 0, "why": "too few frauds to divide the training period"}
    rows = [_Rows.of(history, matrix, fit, stop, config) for fit, stop in folds]
    tried: list[dict[str, Any]] = []
    for number, candidate in enumerate(_candidates(config.search, config.seed)):
        found = []
        for fold in rows:
            stopper = _Stopper(_FOLD_LEAST, _FOLD_PATIENCE)
            _grow(fold, {**_parameters(config), **candidate}, _FOLD_ROUNDS, stopper)
            found.append(stopper.best)
        tried.append({"settings": candidate, "average_precision": found})
        on_round(number + 1)
    shipped = np.array(tried[0]["average_precision"])
    # Better in the mean and in most folds: one lucky fold of few frauds is no reason to change.
    better = [
        trial
        for trial in tried[1:]
        if (np.array(trial["average_precision"]) > shipped).mean() > 0.5
        and np.mean(trial["average_precision"]) > shipped.mean()
    ]
    best = max(
        better, key=lambda trial: float(np.mean(trial["average_precision"])), default=tried[0]
    )
    return dict(best["settings"]), {
        "candidates": len(tried),
        "folds": len(folds),
        "chosen": best["settings"],
        "tried": tried,
    }


def _parameters(config: TrainingConfig) -> dict[str, Any]:
    return {**TREES, "seed": config.seed, "nthread": config.threads}


def period_of(history: History, matrix: Matrix, rows: Rows) -> MeasuredPeriod:
    """Build a period to measure on from transactions of a history.

    Args:
        history: Transactions.
        matrix: Their feature vectors.
        rows: Positions of the transactions to include.
    """
    first = KEYS[0].name
    micro = history.packed.records[first]["amount_micro"][rows]
    entities: dict[str | None, int] = {}
    keys = history.packed.keys[first]
    entity = [entities.setdefault(keys[row], len(entities)) for row in rows.tolist()]
    kinds = ("", *sorted({history.campaign[row] for row in rows.tolist()} - {""}))
    numbers = {kind: number for number, kind in enumerate(kinds)}
    simulated = history.has_truth
    return MeasuredPeriod(
        np.ascontiguousarray(matrix[rows]),
        history.label[rows],
        np.array(entity, np.int64),
        history.event_time_ms[rows],
        np.where(micro == UNKNOWN_AMOUNT, np.nan, micro / MICRO),
        np.array(
            [numbers[history.campaign[row]] for row in rows.tolist()]
            if simulated
            else np.full(len(rows), -1),
            np.int16,
        ),
        kinds if simulated else (),
    )


def train(
    history: History,
    matrix: Matrix,
    config: TrainingConfig,
    on_round: Callable[[int], None] = lambda _: None,
    on_candidate: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train a model and measure it on the later period.

    Args:
        history: Transactions with their labels.
        matrix: Their feature vectors, from `model.examples.feature_rows`.
        config: Configuration of the training.
        on_round: Called with the number of trees after each, for a progress bar.
        on_candidate: Called with the number of settings tried after each.

    Raises:
        TooFewLabels: A period has too few examples of a kind, or the trees learn nothing from them.
    """
    parts = split(history, config)
    chosen, searched = _search(history, matrix, parts, config, on_candidate)
    fit, weight = _drawn(history, parts.train, config)
    rows = _Rows.of(history, matrix, fit, parts.validation, config, weight=weight)
    later = period_of(history, matrix, parts.later)
    fitted = _fit(history, matrix, parts, rows, config, chosen, on_round)
    measured = _measured(fitted, later, config)
    metrics = measured.report()
    curves = {"model": measured.curves}
    if config.baseline:
        # The same trees without history show how much the history adds.
        own = [FEATURE_AT[name] for name in RAW_FEATURES]
        plain = np.ascontiguousarray(matrix[:, own])
        raw_rows = _Rows.of(history, plain, fit, parts.validation, config, own, weight)
        raw = _fit(history, plain, parts, raw_rows, config, chosen, lambda _: None)
        raw_measured = _measured(raw, period_of(history, plain, parts.later), config)
        metrics["raw_fields"] = {
            "features": list(RAW_FEATURES),
            **raw_measured.report(),
        }
        curves["raw_fields"] = raw_measured.curves
        metrics["average_precision_above_raw_fields"] = asdict(difference(measured, raw_measured))
    metrics["importance"] = _importance(fitted, later, config.seed)
    made = _made(history, parts, config, fitted.trees)
    made |= {
        "parameters": {**TREES, **chosen},
        "search": searched,
        "calibration": fitted.line._asdict(),
        "later_digest": later.digest,
    }
    return Trained(fitted.booster, fitted.scale, metrics, made, later, curves)


def _drawn(
    history: History, train_rows: Rows, config: TrainingConfig
) -> tuple[Rows, NDArray[np.float32] | None]:
    """Return the examples that fit the trees, and how many transactions each stands for (None: one)."""
    fraud = history.label[train_rows] == 1
    legitimate = train_rows[~fraud]
    most = config.most_legitimate
    if most is None or len(legitimate) <= most:
        return train_rows, None
    generator = np.random.default_rng(config.seed)
    drawn = generator.choice(legitimate, most, replace=False)
    rows = np.sort(np.concatenate((train_rows[fraud], drawn)))
    weight = np.where(history.label[rows] == 1, 1.0, len(legitimate) / most)
    return rows, weight.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Fitted:
    booster: bytes
    scale: ScoreScale
    line: Platt
    trees: int

    def scorer(self) -> XGBoostScorer:
        """Return a scorer on the fitted trees, as it will serve."""
        return XGBoostScorer(self.booster, ModelRef(name="training", version="0"), self.scale)


def _fit(
    history: History,
    matrix: Matrix,
    parts: Split,
    rows: _Rows,
    config: TrainingConfig,
    chosen: dict[str, Any],
    on_round: Callable[[int], None],
) -> _Fitted:
    """Grow the trees; then calibrate them and tie the score scale, both on the validation period."""
    stopper = _Stopper(config.min_rounds, config.patience, on_round)
    grown = _grow(rows, {**_parameters(config), **chosen}, config.max_rounds, stopper)
    booster = grown[: stopper.trees]
    said = booster.predict(rows.stopping, output_margin=True)
    label = history.label[parts.validation]
    if said.min() == said.max():
        raise TooFewLabels(
            "nothing could be learnt: the trees give every transaction the same probability"
        )
    line = fit_platt(said, label, _still_to_come(history, parts))
    raw = fold_in(booster, line)
    unscaled = XGBoostScorer(
        raw, ModelRef(name="training", version="0"), ScoreScale([0, 1], [0, 1000])
    )
    legitimate = unscaled.predict(np.ascontiguousarray(matrix[parts.validation[label == 0]]))
    return _Fitted(raw, ScoreScale.fit(legitimate), line, stopper.trees)


def _still_to_come(history: History, parts: Split) -> NDArray[np.float64]:
    """Return how many transactions each example of the validation period stands for.

    Many labels of its latest days were not known at training time, and fraud becomes known later
    than legitimacy. The share of labels known after a given delay is read off the training period.
    """
    weight = np.ones(len(parts.validation))
    delay_ms = history.label_time_ms - history.event_time_ms
    age_ms = parts.trained_at_ms - history.event_time_ms[parts.validation]
    for label in (0, 1):
        delays = np.sort(delay_ms[parts.train[history.label[parts.train] == label]])
        members = history.label[parts.validation] == label
        known = np.searchsorted(delays, age_ms[members], "right") / len(delays)
        # An example stands for itself and for those whose labels are still to come.
        weight[members] = 1 / np.maximum(known, 1 / _MOST_STAND_FOR)
    return weight


def _measured(fitted: _Fitted, later: MeasuredPeriod, config: TrainingConfig) -> Measured:
    return measure(
        later,
        fitted.scorer().predict(later.matrix),
        fitted.scale,
        alerts_per_day=config.alerts_per_day,
        resamples=config.resamples,
    )


def _importance(fitted: _Fitted, later: MeasuredPeriod, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(later), np.bool_)
    for label in (0, 1):
        rows = np.flatnonzero(later.label == label)
        chosen[generator.choice(rows, min(len(rows), _IMPORTANCE_ROWS), replace=False)] = True
    drawn = later.rows(chosen)
    return importance(drawn, fitted.scorer().contributions(drawn.matrix), FEATURE_NAMES)


def _made(history: History, parts: Split, config: TrainingConfig, trees: int) -> dict[str, Any]:
    def period(rows: Rows) -> dict[str, Any]:
        times = history.event_time_ms[rows]
        return DataPeriod(
            start=utc_text(int(times[0])),
            end=utc_text(int(times[-1])),
            rows=len(rows),
            frauds=int((history.label[rows] == 1).sum()),
        ).model_dump()

    return {
        "data_hash": history.data_hash,
        "has_truth": history.has_truth,
        **history.told(),
        "repeated": int(history.repeated.sum()),
        "known_later": parts.known_later,
        "trained_at": utc_text(parts.trained_at_ms),
        "periods": {
            "train": period(parts.train),
            "validation": period(parts.validation),
            "test": period(parts.test),
        },
        "trees": trees,
        "config": asdict(config),
        "xgboost": xgboost.__version__,
    }
