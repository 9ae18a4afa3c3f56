"""Compare champion and challenger on the same traffic: their decisions, and which is better.

Each record has the challenger's decision (`fd.shadow`) beside the champion's. Figures that depend
on labels come with a confidence interval, for which both sides are resampled with the same entities
(see `fraud.backtest.resampling`).
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.counts import Tally, no_sums, sums_by_group, tally
from fraud.backtest.past_decisions import (
    FRAUD,
    UNKNOWN,
    KnownLabels,
    PastDecisions,
    PastReader,
    Wanted,
)
from fraud.backtest.resampling import (
    RESAMPLES,
    FigurePath,
    Floats,
    Ranking,
    ResampledFigures,
    average_precision_of,
    difference,
    number,
    resample,
)
from fraud.backtest.runner import BacktestRunner
from fraud.contracts.decision import Outcome
from fraud.contracts.times import utc_text
from fraud.contracts.versions import shown
from fraud.features.declaration import AMOUNT

_PAIRS: Final = tuple(product(Outcome, repeat=2))
"""All pairs of the champion's and the challenger's outcome."""
_PAIRS_SHAPE: Final = (len(Outcome), len(Outcome))
_MOST: Final = 1000
"""Highest score. Differences of scores are counted in an array that starts at its negative."""

FIGURES: Final[tuple[tuple[str, FigurePath, bool], ...]] = (
    ("average precision of the probabilities", ("average_precision",), True),
    ("fraud caught (review or block)", ("acted", "recall"), True),
    ("false positives (review or block)", ("acted", "false_positive_rate"), False),
    ("precision (review or block)", ("acted", "precision"), True),
    ("fraudulent money caught", ("acted", "money_caught_ratio"), True),
    ("fraud blocked", ("blocked", "recall"), True),
    ("false positives blocked", ("blocked", "false_positive_rate"), False),
)
"""Name of each figure, its path in the results, and whether more is better."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class OutcomePair(_Part):
    """Transactions by what the champion decided and what the challenger would have decided."""

    champion: Outcome
    challenger: Outcome
    transactions: Tally


class ScoreDifference(_Part):
    """The challenger's score minus the champion's."""

    mean: float
    mean_absolute: float
    p5: int
    p50: int
    p95: int
    lower: Annotated[int, Field(description="Transactions that the challenger scores lower.")]
    higher: int


class RuleDifference(_Part):
    """How often a rule counted with the champion and with the challenger."""

    id: str
    version: int
    champion: int
    challenger: int
    both: int


class FigureDifference(_Part):
    """A figure of both sides; null if it cannot be computed, as precision without alerts."""

    name: str
    champion: float | None
    champion_interval: tuple[float, float] | None
    challenger: float | None
    challenger_interval: tuple[float, float] | None
    difference: Annotated[float | None, Field(description="The challenger's minus the champion's.")]
    interval: Annotated[tuple[float, float] | None, Field(description="Of the difference, 95 %.")]
    better: Annotated[
        Literal["champion", "challenger"] | None,
        Field(description="Which one, if the interval leaves no doubt; null if it holds 0."),
    ]


class Quality(_Part):
    """Figures of champion and challenger on the transactions with a known label."""

    labelled: int
    fraud: int
    entities: int
    resamples: int
    figures: list[FigureDifference]


class Compared(_Part):
    """Decisions of one combination of champion, challenger and rules."""

    champion: Annotated[str, Field(description="The champion's model, name@version.")]
    rules: Annotated[str, Field(description="Version of the active rules.")]
    challenger: Annotated[str, Field(description="The challenger's model, name@version.")]
    challenger_rules: Annotated[str, Field(description="Version of the challenger's rules.")]
    first_scored_at: str
    last_scored_at: str
    decisions: int
    agreement: Annotated[float, Field(description="Share of the same outcome, 0-1.")]
    outcomes: list[OutcomePair]
    score: ScoreDifference
    rule_hits: Annotated[list[RuleDifference], Field(description="Rules that differ most first.")]
    quality: Annotated[
        Quality | None, Field(description="Null unless both fraud and legitimate ones are known.")
    ]


class Comparisons(_Part):
    """All combinations that decided, the latest first."""

    since: str
    read: int
    without_challenger: Annotated[
        int, Field(description="Decisions beside which no challenger decided.")
    ]
    passed_over: Annotated[
        int,
        Field(description="Duplicates, records published again, and those whose scoring failed."),
    ]
    unreadable: int
    combinations: list[Compared]


class Rivals(NamedTuple):
    """A champion and a challenger: models as name@version, and versions of their rules."""

    champion: str
    challenger: str
    rules: str
    challenger_rules: str


@dataclass(slots=True)
class _Counted:
    """Counts of one combination; each labelled transaction has an item in each array."""

    sums: Floats = field(default_factory=lambda: np.stack([no_sums() for _ in _PAIRS]))
    score: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * _MOST + 1, np.int64))
    champion_rules: Counter[tuple[str, int]] = field(default_factory=Counter)
    challenger_rules: Counter[tuple[str, int]] = field(default_factory=Counter)
    both_rules: Counter[tuple[str, int]] = field(default_factory=Counter)
    first_ms: int = 1 << 62
    last_ms: int = 0
    entity: array[int] = field(default_factory=lambda: array("q"))
    fraud: array[int] = field(default_factory=lambda: array("b"))
    amount: array[float] = field(default_factory=lambda: array("d"))
    probability: tuple[array[float], array[float]] = field(
        default_factory=lambda: (array("d"), array("d"))
    )
    severity: tuple[array[int], array[int]] = field(
        default_factory=lambda: (array("b"), array("b"))
    )


class ShadowComparison:
    """Compare decisions with the challenger's beside them; `compare_shadow` reads them from Kafka.

    Args:
        labels: Labels of the transactions.
        resamples: Number of resamples for the intervals.
    """

    def __init__(self, labels: KnownLabels, *, resamples: int = RESAMPLES) -> None:
        self._labels = labels
        self._resamples = resamples
        self._reader = PastReader(
            Wanted(frozenset({"entity_id"}), frozenset({AMOUNT})),
            ("model", "versions", "rules", "shadow"),
        )
        self._counted: defaultdict[Rivals, _Counted] = defaultdict(_Counted)
        self._without = 0

    def add(self, values: Sequence[bytes | None]) -> None:
        """Process the values of the next records of `processed_transactions`, in reading order."""
        past = self._reader.read_once(values)
        groups: defaultdict[Rivals, list[int]] = defaultdict(list)
        for place, decision in enumerate(past.decisions):
            shadow, versions = decision.shadow, decision.versions
            if shadow is None or versions is None:
                self._without += 1
            else:
                own, other = decision.model, shadow.model
                rivals = Rivals(
                    champion=f"{own.name}@{shown(own.version)}",
                    rules=versions.rules,
                    challenger=f"{other.name}@{shown(other.version)}",
                    challenger_rules=shadow.rules_version,
                )
                groups[rivals].append(place)
        for rivals, places in groups.items():
            self._count(self._counted[rivals], past.select(places))

    def _count(self, counted: _Counted, past: PastDecisions) -> None:
        pairs = [(own, own.shadow) for own in past.decisions if own.shadow is not None]
        champion = np.array([own.outcome.severity for own, _ in pairs], np.int64)
        challenger = np.array([shadow.outcome.severity for _, shadow in pairs], np.int64)
        label = self._labels.of(past.event_ids)
        pair = np.ravel_multi_index((champion, challenger), _PAIRS_SHAPE)
        counted.sums += sums_by_group(pair, len(_PAIRS), past.amounts, label)
        differences = [(shadow.score or 0) - (own.score or 0) + _MOST for own, shadow in pairs]
        counted.score += np.bincount(differences, minlength=2 * _MOST + 1)
        for own, shadow in pairs:
            if own.rules or shadow.rules:
                rules, shadow_rules = (
                    {(rule.id, rule.version) for rule in side.rules} for side in (own, shadow)
                )
                counted.champion_rules.update(rules)
                counted.challenger_rules.update(shadow_rules)
                counted.both_rules.update(rules & shadow_rules)
        counted.first_ms = min(counted.first_ms, int(past.scored_at_ms.min()))
        counted.last_ms = max(counted.last_ms, int(past.scored_at_ms.max()))
        # Figures need each labelled transaction on its own, to draw its entity again.
        for place in np.flatnonzero(label != UNKNOWN).tolist():
            counted.entity.append(hash(past.rows[place].entity_id))
            counted.fraud.append(int(label[place] == FRAUD))
            counted.amount.append(float(past.amounts[place]))
            for side, decision in enumerate(pairs[place]):
                counted.probability[side].append(decision.probability or 0.0)
                counted.severity[side].append(decision.outcome.severity)

    def report(self, *, since_ms: int) -> Comparisons:
        """Return the comparisons of all decisions processed so far."""
        reader = self._reader
        latest = sorted(self._counted.items(), key=lambda item: -item[1].last_ms)
        return Comparisons(
            since=utc_text(since_ms),
            read=reader.total,
            without_challenger=self._without,
            passed_over=reader.duplicates + reader.repeated + reader.unscored,
            unreadable=reader.unreadable,
            combinations=[self._compared(rivals, counted) for rivals, counted in latest],
        )

    def _compared(self, rivals: Rivals, counted: _Counted) -> Compared:
        outcomes = [
            OutcomePair(champion=champion, challenger=challenger, transactions=tally(sums))
            for (champion, challenger), sums in zip(_PAIRS, counted.sums, strict=True)
        ]
        decisions = sum(pair.transactions.transactions for pair in outcomes)
        same = sum(
            pair.transactions.transactions for pair in outcomes if pair.champion is pair.challenger
        )
        return Compared(
            **rivals._asdict(),
            first_scored_at=utc_text(counted.first_ms),
            last_scored_at=utc_text(counted.last_ms),
            decisions=decisions,
            agreement=same / decisions,
            outcomes=outcomes,
            score=_score(counted.score),
            rule_hits=sorted(
                (
                    RuleDifference(
                        id=rule[0],
                        version=rule[1],
                        champion=counted.champion_rules[rule],
                        challenger=counted.challenger_rules[rule],
                        both=counted.both_rules[rule],
                    )
                    for rule in sorted({*counted.champion_rules, *counted.challenger_rules})
                ),
                # Negative number of transactions on which the rule counted with one side only.
                key=lambda hits: 2 * hits.both - hits.champion - hits.challenger,
            ),
            quality=_quality(counted, self._resamples),
        )


def _score(counts: NDArray[np.int64]) -> ScoreDifference:
    values = np.arange(-_MOST, _MOST + 1)
    total = int(counts.sum())
    reached = np.cumsum(counts)

    def percentile(share: float) -> int:
        return int(values[np.searchsorted(reached, share * total)])

    return ScoreDifference(
        mean=float((values * counts).sum() / total),
        mean_absolute=float((np.abs(values) * counts).sum() / total),
        p5=percentile(0.05),
        p50=percentile(0.5),
        p95=percentile(0.95),
        lower=int(counts[:_MOST].sum()),
        higher=int(counts[_MOST + 1 :].sum()),
    )


def _quality(counted: _Counted, resamples: int) -> Quality | None:
    fraud = np.array(counted.fraud, np.bool_)
    if not len(fraud) or fraud.all() or not fraud.any():
        return None
    # Entities are numbered from 0, so that numbers index the weights of a resample.
    entity = np.unique(np.array(counted.entity, np.int64), return_inverse=True)[1]
    entities = int(entity.max()) + 1
    money = np.clip(np.nan_to_num(np.array(counted.amount)), 0, None)
    sides = [
        _Side(np.array(probability), np.array(severity), fraud, money, entity)
        for probability, severity in zip(counted.probability, counted.severity, strict=True)
    ]
    champion, challenger = (resample(side.figures, entities, resamples) for side in sides)
    return Quality(
        labelled=len(fraud),
        fraud=int(fraud.sum()),
        entities=entities,
        resamples=resamples,
        figures=[_figure(champion, challenger, *figure) for figure in FIGURES],
    )


class _Side:
    """One side's decisions on labelled transactions, for figures under weights of entities."""

    def __init__(
        self,
        probability: Floats,
        severity: NDArray[Any],
        fraud: NDArray[np.bool_],
        money: Floats,
        entity: NDArray[np.int64],
    ) -> None:
        self._ranking = Ranking(probability, fraud)
        self._fraud = fraud
        self._money = money * fraud
        self._entity = entity
        self._asked = {
            "acted": severity >= Outcome.REVIEW.severity,
            "blocked": severity >= Outcome.BLOCK.severity,
        }

    def figures(self, drawn: Floats) -> dict[FigurePath, float]:
        weight = drawn[self._entity]
        frauds, money = float(weight[self._fraud].sum()), float(weight @ self._money)
        legitimate = float(weight.sum()) - frauds
        if not frauds or not legitimate:
            return {}
        precision = average_precision_of(*self._ranking.sums(weight))
        figures: dict[FigurePath, float] = {("average_precision",): precision}
        for name, asked in self._asked.items():
            taken, caught = float(weight[asked].sum()), float(weight[asked & self._fraud].sum())
            for what, part, whole in (
                ("recall", caught, frauds),
                ("false_positive_rate", taken - caught, legitimate),
                ("precision", caught, taken),
                ("money_caught_ratio", float(weight[asked] @ self._money[asked]), money),
            ):
                figures[name, what] = part / whole if whole else np.nan
        return figures


def _figure(
    champion: ResampledFigures,
    challenger: ResampledFigures,
    name: str,
    path: FigurePath,
    more_is_better: bool,
) -> FigureDifference:
    found = difference(challenger, champion, path)
    low, high = found.low, found.high
    better: Literal["champion", "challenger"] | None = None
    if low > 0 or high < 0:
        better = "challenger" if (low > 0) == more_is_better else "champion"
    return FigureDifference(
        name=name,
        champion=number(champion.figures[path]),
        champion_interval=champion.interval(path),
        challenger=number(challenger.figures[path]),
        challenger_interval=challenger.interval(path),
        difference=number(found.value),
        interval=(low, high) if np.isfinite((low, high)).all() else None,
        better=better,
    )


def compare_shadow(runner: BacktestRunner) -> Comparisons:
    """Compare champion and challenger on the decisions of the last days.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: The runner was stopped.
    """
    comparison = runner.run(
        lambda: ShadowComparison(runner.labels()), service="fraudstream_compare"
    )
    return comparison.report(since_ms=runner.since_ms)
