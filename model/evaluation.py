"""Measures how good a model is on transactions that came after all it was trained on.

Every figure comes with an interval, from resampling the *entities* of the period
(`fraud.backtest.resampling`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.backtest.resampling import (
    INTERVAL,
    RESAMPLES,
    FigurePath,
    Floats,
    Ranking,
    ResampledFigures,
    average_precision_of,
    draws,
    number,
    resample,
)
from fraud.contracts.times import DAY_MS
from fraud.decision.scale import ScoreScale
from model.datasets import DatasetError

Ints = NDArray[np.int64]

UNKNOWN: Final = -1
"""Label of transactions not known to be fraud or legitimate."""

FALSE_POSITIVE_RATES: Final = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)
"""False-positive rates at which recall is measured."""

SCORES: Final = (950, 900)
"""Scores at which the default rules act: block from the first, review from the second."""

_BIN_SHARES: Final = (0.5, 0.25, 0.15, 0.05, 0.03, 0.01, 0.005, 0.005)
"""Share of the transactions in each bin of the reliability figures, least probable first.

Fraud is rare, so the bins are narrow where it is.
"""
_CURVE_POINTS: Final = 200


@dataclass(frozen=True, slots=True)
class MeasuredPeriod:
    """Transactions to measure on; all arrays have length n.

    Attributes:
        matrix: Feature vectors, shape (n, features).
        label: 1 fraud, 0 legitimate, `UNKNOWN`.
        entity: Number of each transaction's entity, from 0.
        event_time_ms: UTC epoch milliseconds.
        amount: In the base currency; NaN without a known rate.
        campaign: True kind of simulated transactions, an index into `campaigns`; else -1.
        campaigns: Kinds of fraud by index; the first is empty and stands for legitimate.
    """

    matrix: NDArray[np.float32]
    label: NDArray[np.int8]
    entity: Ints
    event_time_ms: Ints
    amount: Floats
    campaign: NDArray[np.int16]
    campaigns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @property
    def simulated(self) -> bool:
        """Whether the true kind of each transaction is known."""
        return bool(self.campaigns)

    def since(self, time_ms: int) -> MeasuredPeriod:
        """Return the transactions from a time on, UTC epoch milliseconds."""
        return self.rows(self.event_time_ms >= time_ms)

    def rows(self, chosen: NDArray[np.bool_]) -> MeasuredPeriod:
        """Return a selection of the transactions; entities are numbered anew."""
        entity = np.unique(self.entity[chosen], return_inverse=True)[1]
        return MeasuredPeriod(
            self.matrix[chosen],
            self.label[chosen],
            entity.astype(np.int64),
            self.event_time_ms[chosen],
            self.amount[chosen],
            self.campaign[chosen],
            self.campaigns,
        )

    @property
    def digest(self) -> str:
        """Hash of the content, 16 hexadecimal digits."""
        digest = hashlib.sha256("\n".join(self.campaigns).encode())
        for values in (
            self.matrix,
            self.label,
            self.entity,
            self.event_time_ms,
            self.amount,
            self.campaign,
        ):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """Encode it as a Parquet file: vectors and labels only, no ids and no personal data."""
        import pyarrow as pa  # takes half a second, which other callers are spared
        from pyarrow import parquet

        names = [*_COLUMNS, *(f"f{feature}" for feature in range(self.matrix.shape[1]))]
        columns = [self.label, self.entity, self.event_time_ms, self.amount, self.campaign]
        table = pa.table(
            [*columns, *(np.ascontiguousarray(self.matrix[:, feature]) for feature in range(self.matrix.shape[1]))],
            names,
        ).replace_schema_metadata({"campaigns": "\n".join(self.campaigns)})  # fmt: skip
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd", use_dictionary=False)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> MeasuredPeriod:
        """Decode a period that `to_bytes` encoded.

        Raises:
            ValueError: The content is not a period.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(io.BytesIO(content))
            own = [table.column(name).to_numpy() for name in _COLUMNS]
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(str(error)) from None
        matrix = np.empty((table.num_rows, table.num_columns - len(own)), np.float32)
        for feature in range(matrix.shape[1]):
            matrix[:, feature] = table.column(f"f{feature}").to_numpy()
        kinds = (table.schema.metadata or {}).get(b"campaigns", b"").decode()
        label, entity, event_time_ms, amount, campaign = own
        named = tuple(kinds.split("\n")) if kinds else ()
        return cls(matrix, label, entity, event_time_ms, amount, campaign, named)


_COLUMNS: Final = ("label", "entity", "event_time_ms", "amount", "campaign")


def average_precision(label: NDArray[Any], score: NDArray[Any]) -> float:
    """Return the average precision as scikit-learn defines it: no interpolation, ties as one.

    Training computes it after every tree; this function takes a tenth of scikit-learn's time.

    Args:
        label: 1 for fraud, any other value for legitimate, shape (n,).
        score: High = fraud, shape (n,).

    Returns:
        0-1; 0 without any fraud.

    Example:
        >>> average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))
        0.8333333333333333
    """
    fraud = label == 1
    caught = np.sort(score[fraud])
    legitimate = np.sort(score[~fraud])
    total = len(caught)
    if not total:
        return 0.0
    # Frauds, and legitimate transactions, that score at least as high as each fraud.
    true = total - np.searchsorted(caught, caught, "left")
    false = len(legitimate) - np.searchsorted(legitimate, caught, "left")
    return float((true / (true + false)).sum() / total)


@dataclass(frozen=True, slots=True)
class Measured(ResampledFigures):
    """Figures of one model on one period.

    Attributes:
        facts: JSON values that have no interval.
        curves: Points to plot, JSON values.
    """

    facts: dict[str, Any]
    curves: dict[str, Any]

    def report(self) -> dict[str, Any]:
        """Return facts and figures as JSON values; `intervals` has the same shape as the figures."""
        report: dict[str, Any] = dict(self.facts)
        intervals: dict[str, Any] = {}
        for path, value in self.figures.items():
            ends = self.interval(path)
            _put(report, path, number(value))
            _put(intervals, path, None if ends is None else list(ends))
        return {**report, "intervals": intervals}


def _put(report: dict[str, Any], path: FigurePath, value: Any) -> None:
    for name in path[:-1]:
        report = report.setdefault(name, {})
    report[path[-1]] = value


def curve_figures(true: Floats, false: Floats) -> dict[FigurePath, float]:
    """Return the figures that follow from the ranking alone, given the sums of `Ranking`."""
    frauds, legitimate = true[-1], false[-1]
    # Fraud that shares its probability with legitimate transactions counts half.
    above = true - np.diff(true, prepend=0.0) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        figures: dict[FigurePath, float] = {
            ("auc",): float((np.diff(false, prepend=0.0) * above).sum() / (frauds * legitimate)),
            ("average_precision",): average_precision_of(true, false),
        }
        for rate in FALSE_POSITIVE_RATES:
            figures["recall_at_fpr", f"{rate:g}"] = float(_at_rate(true, false, rate) / frauds)
    return figures


def _at_rate(true: Floats, false: Floats, rate: float) -> float:
    """Return the weight of fraud caught at a false-positive rate of up to `rate`, see `Ranking.sums`."""
    groups = _groups_at(false, rate)
    return float(true[groups - 1]) if groups else 0.0


def _groups_at(false: Floats, rate: float) -> int:
    # Counts are whole numbers; rounding may put rate * count just below the number it stands for.
    return int(np.searchsorted(false, rate * false[-1] * (1 + 1e-12), "right"))


class _Alerts:
    """Most probable transactions of each day, as many as people can review."""

    def __init__(self, period: MeasuredPeriod, probability: Floats) -> None:
        day = period.event_time_ms // DAY_MS
        # Of equal probabilities, the earlier transaction is reviewed first.
        self.order = np.lexsort((period.event_time_ms, -probability, day))
        starts = np.flatnonzero(np.diff(day[self.order], prepend=-1))
        self.start = np.repeat(starts, np.diff(np.append(starts, len(day))))
        self.fraud = (period.label[self.order] == 1).astype(np.float64)
        self.money = self.fraud * np.clip(np.nan_to_num(period.amount[self.order]), 0, None)
        self.days = len(starts)

    def figures(self, weight: Floats, budgets: tuple[int, ...]) -> dict[FigurePath, float]:
        ranked = weight[self.order]
        before = np.cumsum(ranked) - ranked
        in_day = before - before[self.start]
        frauds, money = float((ranked * self.fraud).sum()), float((ranked * self.money).sum())
        figures: dict[FigurePath, float] = {}
        for budget in budgets:
            # A resample may repeat a transaction beyond what is left of the day's budget.
            looked_at = np.clip(budget - in_day, 0, ranked)
            caught = float((looked_at * self.fraud).sum())
            saved = float((looked_at * self.money).sum())
            alerts = float(looked_at.sum())
            for name, value, of in (
                ("precision", caught, alerts),
                ("recall", caught, frauds),
                ("money_caught_ratio", saved, money),
                ("money_caught_per_day", saved, self.days),
            ):
                figures["at_alerts_per_day", str(budget), name] = value / of if of else np.nan
        return figures


class _Kinds:
    """Recall and average precision of each kind of simulated fraud, measured on the truth."""

    def __init__(self, period: MeasuredPeriod, probability: Floats) -> None:
        self.ranking = Ranking(probability, period.campaign > 0)
        self.kinds = {}
        for index, name in enumerate(period.campaigns):
            members = np.flatnonzero(period.campaign == index)
            if index and len(members):
                groups, at = np.unique(self.ranking.group[members], return_inverse=True)
                self.kinds[name] = (members, groups, at)

    def figures(self, weight: Floats) -> dict[FigurePath, float]:
        _, false = self.ranking.sums(weight)
        within = _groups_at(false, FALSE_POSITIVE_RATES[0])
        figures: dict[FigurePath, float] = {}
        for name, (members, groups, at) in self.kinds.items():
            caught = np.bincount(at, weight[members])
            true: Floats = np.cumsum(caught)
            with np.errstate(invalid="ignore", divide="ignore"):
                recall = caught[groups < within].sum() / true[-1]
            figures["by_campaign", name, "recall_at_fpr_0.01"] = float(recall)
            figures["by_campaign", name, "average_precision"] = average_precision_of(
                true, false[groups]
            )
        return figures


class _Reliability:
    """Mean probability and share of fraud in bins of the ranking."""

    def __init__(self, ranking: Ranking) -> None:
        count = len(ranking.order)
        cuts = np.rint(np.cumsum((0, *reversed(_BIN_SHARES))) * count).astype(np.int64)
        # Equal probabilities share a bin: a cut moves to the end of its group.
        ends = ranking.ends + 1
        moved = ends[np.minimum(np.searchsorted(ends, cuts[1:]), len(ends) - 1)]
        self.cuts = np.unique(np.concatenate(([0], moved)))
        self.ranking = ranking
        self.bins = [
            {
                "rows": int(stop - start),
                "from": float(ranking.probability[stop - 1]),
                "to": float(ranking.probability[start]),
            }
            for start, stop in pairwise(self.cuts.tolist())
        ]

    def figures(self, weight: Floats) -> dict[FigurePath, float]:
        ranked = weight[self.ranking.order]
        sums = [
            np.add.reduceat(values, self.cuts[:-1])
            for values in (
                ranked,
                ranked * self.ranking.probability,
                ranked * self.ranking.fraud,
            )
        ]
        figures: dict[FigurePath, float] = {}
        for place, (rows, predicted, observed) in enumerate(zip(*sums, strict=True)):
            figures["reliability", str(place), "predicted"] = predicted / rows if rows else np.nan
            figures["reliability", str(place), "observed"] = observed / rows if rows else np.nan
        return figures


def measure(
    period: MeasuredPeriod,
    probability: Floats,
    scale: ScoreScale,
    *,
    alerts_per_day: int = 50,
    resamples: int = RESAMPLES,
) -> Measured:
    """Measure a model's probabilities against the labels that became known.

    Args:
        period: Transactions; those without a label count only for the kinds of fraud, where the
            truth is known.
        probability: Probabilities of the model, 0-1, shape (n,).
        scale: Score scale of the model.
        alerts_per_day: Transactions that people can review in a day.
        resamples: Number of resamples of the entities.

    Returns:
        The figures. `recall_at_fpr` is the share of fraud caught at each false-positive rate;
        `at_score` shows what the default rules would have done with the model's scale;
        `at_alerts_per_day` what people find who review the most probable transactions of each day
        (UTC). `by_campaign` uses the simulator's truth, all other figures use the labels. Resampling
        is seeded: two models measured on one period share their resamples.

    Raises:
        DatasetError: The period lacks labelled fraud or labelled legitimate transactions.
    """
    known = period.label != UNKNOWN
    labelled = period if known.all() else period.rows(known)
    fraud = labelled.label == 1
    if fraud.all() or not fraud.any():
        raise DatasetError(
            "expected both fraud and legitimate transactions to measure on, got "
            f"{int(fraud.sum())} labelled fraud and {int((~fraud).sum())} labelled legitimate"
        )
    known_probability = probability[known]
    ranking = Ranking(known_probability, fraud)
    alerts = _Alerts(labelled, known_probability)
    reliability = _Reliability(ranking)
    kinds = _Kinds(period, probability) if period.campaigns else None
    budgets = tuple(
        sorted({max(1, round(alerts_per_day * part)) for part in (0.1, 0.2, 0.5, 1, 2)})
    )
    score = scale.score(known_probability)
    error = (known_probability - fraud) ** 2
    asked = {str(least): score >= least for least in SCORES}

    # All entities of the period are drawn, labelled or not: labels and truth share each resample.
    in_period = period.entity[known]

    def figures(drawn: Floats) -> Mapping[FigurePath, float]:
        weight = drawn[in_period]
        # A resample without fraud, or with nothing else, has no figures.
        if not weight[fraud].any() or not weight[~fraud].any():
            return {}
        true, false = ranking.sums(weight)
        result = curve_figures(true, false)
        total = weight.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            result["brier",] = float((weight * error).sum() / total)
            result["brier_of_a_constant",] = float(true[-1] * false[-1] / total**2)
            result["predicted_to_observed_ratio",] = float(
                (weight * known_probability).sum() / true[-1]
            )
            for least, acted in asked.items():
                caught, taken = (weight * (fraud & acted)).sum(), (weight * acted).sum()
                result["at_score", least, "recall"] = float(caught / true[-1])
                result["at_score", least, "false_positive_rate"] = float(
                    (taken - caught) / false[-1]
                )
                result["at_score", least, "precision"] = float(caught / taken)
        result |= alerts.figures(weight, budgets) | reliability.figures(weight)
        return result if kinds is None else result | kinds.figures(drawn[period.entity])

    found = resample(figures, int(period.entity.max()) + 1, resamples)
    facts: dict[str, Any] = {
        "rows": len(labelled),
        "frauds": int(fraud.sum()),
        "frauds_with_amount": int(np.isfinite(labelled.amount[fraud]).sum()),
        "entities": int(labelled.entity.max()) + 1,
        "days": alerts.days,
        "alerts_per_day": alerts_per_day,
        "resamples": resamples,
        "resampled_by": "entity",
    }
    if kinds is not None:
        facts["by_campaign"] = {
            name: {"frauds": len(members)} for name, (members, _, _) in kinds.kinds.items()
        }
    facts["reliability"] = {str(at): one for at, one in enumerate(reliability.bins)}
    curves = _curves(*ranking.sums(np.ones(len(labelled))))
    return Measured(found.figures, found.resampled, facts, curves)


def _curves(true: Floats, false: Floats) -> dict[str, Any]:
    """Return both curves as points, thinned out evenly in recall and in the false-positive rate."""
    recall, rate = true / true[-1], false / false[-1]
    precision = true / (true + false)

    def thinned(along: Floats) -> Ints:
        wanted = np.linspace(0, along[-1], _CURVE_POINTS)
        points: Ints = np.unique(np.minimum(np.searchsorted(along, wanted), len(along) - 1))
        return points

    by_recall, by_rate = thinned(recall), np.union1d(thinned(rate), thinned(recall))
    return {
        "precision_recall": [recall[by_recall].tolist(), precision[by_recall].tolist()],
        "roc": [rate[by_rate].tolist(), recall[by_rate].tolist()],
    }


def importance(
    period: MeasuredPeriod,
    contributions: NDArray[np.float64],
    names: tuple[str, ...],
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """Compute each feature's share in the scores, largest first.

    Args:
        period: Labelled transactions.
        contributions: Contributions to the log odds of each (TreeSHAP), shape (n, features).
        names: Names of the features.
        resamples: Number of resamples of the entities.

    Returns:
        `feature`, `share` (0-1, of the mean absolute contribution; fraud and legitimate count half
        each) and its `interval`.
    """
    size = np.abs(contributions)
    fraud = period.label == 1
    entities = int(period.entity.max()) + 1

    def shares(weight: Floats) -> Floats:
        halves = [
            (weight[side] @ size[side]) / max(weight[side].sum(), 1.0) for side in (fraud, ~fraud)
        ]
        parts: Floats = (halves[0] + halves[1]) / max(float(np.sum(halves)), 1e-12)
        return parts

    found = shares(np.ones(len(period)))
    resampled = np.array([shares(drawn[period.entity]) for drawn in draws(entities, resamples)])
    ends = np.percentile(resampled, INTERVAL, axis=0)
    return [
        {
            "feature": names[at],
            "share": float(found[at]),
            "interval": [float(ends[0, at]), float(ends[1, at])],
        }
        for at in np.argsort(-found, kind="stable").tolist()
    ]
