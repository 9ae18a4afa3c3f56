"""Training: from a labelled history to a model, with nothing known that was not known then.

The history is cut in time. Training happens, as it were, at the start of the test period:

    train (fits the trees) | validation (stops them, ties the score scale) | test (measures)
                                                                           ^ now

Only labels that were known at that moment are used before it. Transactions without a label, and
repeats of an event, are history to others but no examples themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray
from pydantic import BaseModel

from fraud.contracts.dead_letter import utc_text
from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale
from model.datasets import DatasetError
from model.evaluation import evaluate
from model.examples import UNKNOWN, History
from model.scorer import XGBoostScorer

Rows = NDArray[np.int64]

MIN_TRAIN_FRAUDS: Final = 10
MIN_VALIDATION_FRAUDS: Final = 3
MIN_TEST_FRAUDS: Final = 1
MIN_LEGITIMATE: Final = 100
"""In each period: below it, a false-positive rate of 1 % means nothing."""

_VALIDATION: Final = "validation"

_TREES: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "eval_metric": "aucpr",
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


class TooFewLabels(DatasetError):  # noqa: N818 - a verdict, named as the caller reads it
    """A history cannot be learnt from; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a training does, besides its data: the same of both gives the same bytes.

    Attributes:
        seed: Of all draws.
        validation_share: Part of the labelled transactions that stop the training.
        test_share: Part of the labelled transactions, the latest, that measure the model.
        min_rounds: Fewest trees. The first ones mostly learn how rare fraud is, and may not split at
            all: their average precision means nothing.
        max_rounds: Most trees.
        patience: Trees without a better average precision on the validation period before it ends.
        threads: Sums of gradients hang on their number, so it is part of the result.
    """

    seed: int = 7
    validation_share: float = 0.2
    test_share: float = 0.2
    min_rounds: int = 60
    max_rounds: int = 600
    patience: int = 60
    threads: int = 2


class Period(BaseModel):
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
        validation: Examples that stop them and tie the score scale.
        test: Examples that measure.
        trained_at_ms: Start of the test period, UTC epoch milliseconds: labels that became known
            later are not used before it.
        known_later: Labelled transactions before it that are left out for that reason.
    """

    train: Rows
    validation: Rows
    test: Rows
    trained_at_ms: int
    known_later: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, not yet in a registry.

    Attributes:
        booster: The trees, in XGBoost's own format.
        scale: The score scale.
        metrics: Figures on the test period, JSON values.
        training: How it was made, JSON values.
    """

    booster: bytes
    scale: ScoreScale
    metrics: dict[str, Any]
    training: dict[str, Any]


def split(history: History, config: TrainingConfig) -> Split:
    """Cut a history in time.

    Raises:
        TooFewLabels: A period has too few examples of a kind.
    """
    times = history.event_time_ms
    labelled = np.flatnonzero((history.label != UNKNOWN) & ~history.repeated)
    if not len(labelled):
        raise TooFewLabels(
            "too few labels: none of the transactions has one; map your column to label, and name "
            "its values under [labels]"
        )

    def start_ms(share_after: float) -> int:
        return int(times[labelled[int(len(labelled) * (1 - share_after))]])

    trained_at_ms = start_ms(config.test_share)
    validation_ms = start_ms(config.test_share + config.validation_share)
    at = times[labelled]
    known = history.label_time_ms[labelled] <= trained_at_ms
    before = at < trained_at_ms
    result = Split(
        train=labelled[(at < validation_ms) & known],
        validation=labelled[(at >= validation_ms) & before & known],
        test=labelled[~before],
        trained_at_ms=trained_at_ms,
        known_later=int((before & ~known).sum()),
    )
    _check(history, result)
    return result


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
            lacking.append(f"{legitimate} legitimate in the {name} period (at least {MIN_LEGITIMATE})")  # fmt: skip
    if lacking:
        later = f"; {parts.known_later} labels became known too late to be used" if parts.known_later else ""  # fmt: skip
        raise TooFewLabels(f"too few labels: {', '.join(lacking)}{later}")


class _Stopper(xgboost.callback.TrainingCallback):
    """Ends the training when average precision on the validation period grows no more."""

    def __init__(self, config: TrainingConfig, on_round: Callable[[int], None]) -> None:
        super().__init__()
        self._config = config
        self._on_round = on_round
        self._best = -1.0
        self.trees = 0
        """Trees of the best round so far."""

    def after_iteration(self, _model: Any, epoch: int, evals_log: Any) -> bool:
        trees = epoch + 1
        self._on_round(trees)
        precision = float(evals_log[_VALIDATION]["aucpr"][-1])
        if trees < self._config.min_rounds:
            return False
        if precision > self._best:
            self._best, self.trees = precision, trees
        return trees - self.trees >= self._config.patience


def train(
    history: History,
    matrix: NDArray[np.float32],
    config: TrainingConfig,
    on_round: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train a model and measure it on the later period.

    Args:
        history: The transactions with their labels.
        matrix: Their vectors, from `model.examples.feature_rows`.
        config: What to do.
        on_round: Called with the number of trees after each, for a progress bar.

    Raises:
        TooFewLabels: A period has too few examples of a kind, or they teach nothing.
    """
    parts = split(history, config)
    parameters = {**_TREES, "seed": config.seed, "nthread": config.threads}

    def examples(rows: Rows, ref: xgboost.DMatrix | None = None) -> xgboost.DMatrix:
        return xgboost.QuantileDMatrix(
            matrix[rows],
            history.label[rows],
            ref=ref,
            max_bin=_TREES["max_bin"],
            nthread=config.threads,
        )

    fitting = examples(parts.train)
    stopper = _Stopper(config, on_round)
    booster = xgboost.train(
        parameters,
        fitting,
        config.max_rounds,
        evals=[(examples(parts.validation, fitting), _VALIDATION)],
        callbacks=[stopper],
        verbose_eval=False,
    )
    raw = bytes(booster[: stopper.trees].save_raw("ubj"))
    # Measured through the scorer that will serve it.
    unscaled = XGBoostScorer(
        raw, ModelRef(name="training", version="0"), ScoreScale([0, 1], [0, 1000])
    )
    legitimate = parts.validation[history.label[parts.validation] == 0]
    probabilities = unscaled.predict(matrix[legitimate])
    if probabilities.min() == probabilities.max():
        raise TooFewLabels(
            "nothing could be learnt: the trees give every transaction the same probability"
        )
    scale = ScoreScale.fit(probabilities)
    metrics = evaluate(
        history.label[parts.test],
        unscaled.predict(matrix[parts.test]),
        scale,
        [history.campaign[at] for at in parts.test.tolist()],
    )
    return Trained(raw, scale, metrics, _made(history, parts, config, stopper.trees))


def _made(history: History, parts: Split, config: TrainingConfig, trees: int) -> dict[str, Any]:
    def period(rows: Rows) -> dict[str, Any]:
        times = history.event_time_ms[rows]
        return Period(
            start=utc_text(int(times[0])),
            end=utc_text(int(times[-1])),
            rows=len(rows),
            frauds=int((history.label[rows] == 1).sum()),
        ).model_dump()

    return {
        "data_hash": history.data_hash,
        "rows": len(history),
        "refused": {str(reason): count for reason, count in sorted(history.refused.items())},
        "repeated": int(history.repeated.sum()),
        "unlabelled": int((history.label == UNKNOWN).sum()),
        "known_later": parts.known_later,
        "trained_at": utc_text(parts.trained_at_ms),
        "periods": {
            "train": period(parts.train),
            "validation": period(parts.validation),
            "test": period(parts.test),
        },
        "trees": trees,
        "parameters": _TREES,
        "config": asdict(config),
        "xgboost": xgboost.__version__,
    }
