"""Champion and challenger on the same traffic: what both decided, and which is better.

The challenger's decision stands beside the champion's in each record (`fd.shadow`). Figures that
hang on labels come with an interval: entities are drawn again, the same for both (see
`fraud.backtest.resampling`).
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.counts import Sums, Tally, sums_by_group
from fraud.backtest.dry_run import read_labels
from fraud.backtest.past_decisions import (
    FRAUD,
    UNKNOWN,
    Labels,
    Once,
    Past,
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
from fraud.contracts.decision import Outcome
from fraud.contracts.times import DAY_MS, utc_text
from fraud.contracts.topics import Topic
from fraud.features.declaration import AMOUNT
from fraud.features.vector import FEATURE_AT
from fraud.kafka.range_reader import TopicSpan
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.settings import KafkaSettings

_OUTCOMES: Final = tuple(Outcome)
_MOST: Final = 1000

FIGURES: Final[tuple[tuple[str, FigurePath, bool], ...]] = (
    ("average precision of the probabilities", ("average_precision",), True),
    ("fraud caught (review or block)", ("acted", "recall"), True),
    ("false positives (review or block)", ("acted", "false_positive_rate"), False),
    ("precision (review or block)", ("acted", "precision"), True),
    ("fraudulent money caught", ("acted", "money_caught_ratio"), True),
    ("fraud blocked", ("blocked", "recall"), True),
    ("false positives blocked", ("blocked", "false_positive_rate"), False),
)
"""Name, where it stands, and whether more is better."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class OutcomeChange(_Part):
    """Transactions by what the champion decided and what the challenger would have."""

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
    """A figure of both. Null where there is none, as precision without alerts."""

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
    """Which is better, on the transactions whose label is known."""

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
    outcomes: list[OutcomeChange]
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


Key = tuple[str, str, str, str]
"""Champion's model and rules, challenger's model and rules."""


@dataclass(slots=True)
class _Combination:
    """What is kept of one combination; of each labelled transaction a row in the arrays."""

    sums: list[Sums] = field(default_factory=lambda: [Sums() for _ in range(9)])
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
    """Compares decisions with those of the challenger beside them. Pure: `compare_shadow` reads them.

    Args:
        labels: What transactions turned out to be.
        resamples: How often entities are drawn again.
    """

    def __init__(self, labels: Labels, *, resamples: int = RESAMPLES) -> None:
        self._labels = labels
        self._resamples = resamples
        self._reader = PastReader(
            Wanted(frozenset({"entity_id"}), frozenset({AMOUNT})),
            ("model", "versions", "rules", "shadow"),
        )
        self._once = Once()
        self._found: dict[Key, _Combination] = {}
        self._read = self._without = self._passed_over = 0

    def take(self, values: Sequence[bytes | None]) -> None:
        """Take values of `processed_transactions`, in their order."""
        self._read += len(values)
        past = self._reader.read(values)
        groups: dict[Key, list[int]] = {}
        for at, one in enumerate(past.decisions):
            if one.duplicate or one.score is None or not self._once.first(one.source):
                self._passed_over += 1
            elif one.shadow is None or one.versions is None:
                self._without += 1
            else:
                key = (
                    f"{one.model.name}@{one.model.version}", one.versions.rules,
                    f"{one.shadow.model.name}@{one.shadow.model.version}", one.shadow.rules_version,
                )  # fmt: skip
                groups.setdefault(key, []).append(at)
        for key, chosen in groups.items():
            self._add(self._found.setdefault(key, _Combination()), past.some(chosen))

    def _add(self, found: _Combination, past: Past) -> None:
        pairs = [(one, one.shadow) for one in past.decisions if one.shadow is not None]
        ours = np.array([one.outcome.severity for one, _ in pairs], np.int64)
        theirs = np.array([shadow.outcome.severity for _, shadow in pairs], np.int64)
        label = self._labels.of([row.event_id for row in past.rows])
        amount = past.matrix[:, FEATURE_AT[AMOUNT]]
        for sums, more in zip(
            found.sums, sums_by_group(ours * 3 + theirs, 9, amount, label), strict=True
        ):
            sums.add(more)
        differences = [(shadow.score or 0) - (one.score or 0) + _MOST for one, shadow in pairs]
        found.score += np.bincount(differences, minlength=2 * _MOST + 1)
        for one, shadow in pairs:
            if one.rules or shadow.rules:
                own = {(rule.id, rule.version) for rule in one.rules}
                other = {(rule.id, rule.version) for rule in shadow.rules}
                found.champion_rules.update(own)
                found.challenger_rules.update(other)
                found.both_rules.update(own & other)
        found.first_ms = min(found.first_ms, int(past.scored_at_ms.min()))
        found.last_ms = max(found.last_ms, int(past.scored_at_ms.max()))
        for at in np.flatnonzero(label != UNKNOWN).tolist():
            one, shadow = pairs[at]
            found.entity.append(hash(past.rows[at].entity_id))
            found.fraud.append(int(label[at] == FRAUD))
            found.amount.append(float(amount[at]))
            for index, decision in enumerate((one, shadow)):
                found.probability[index].append(decision.probability or 0.0)
                found.severity[index].append(decision.outcome.severity)

    def report(self, *, since_ms: int) -> Comparisons:
        """Return what was found so far."""
        latest = sorted(self._found.items(), key=lambda one: -one[1].last_ms)
        return Comparisons(
            since=utc_text(since_ms),
            read=self._read,
            without_challenger=self._without,
            passed_over=self._passed_over,
            unreadable=self._reader.unreadable,
            combinations=[self._compared(key, found) for key, found in latest],
        )

    def _compared(self, key: Key, found: _Combination) -> Compared:
        champion, rules, challenger, challenger_rules = key
        counts = [sums.transactions for sums in found.sums]
        decisions = sum(counts)
        return Compared(
            champion=champion,
            rules=rules,
            challenger=challenger,
            challenger_rules=challenger_rules,
            first_scored_at=utc_text(found.first_ms),
            last_scored_at=utc_text(found.last_ms),
            decisions=decisions,
            agreement=(counts[0] + counts[4] + counts[8]) / decisions,
            outcomes=[
                OutcomeChange(
                    champion=_OUTCOMES[at // 3],
                    challenger=_OUTCOMES[at % 3],
                    transactions=sums.tally(),
                )
                for at, sums in enumerate(found.sums)
            ],
            score=_score(found.score),
            rule_hits=sorted(
                (
                    RuleDifference(
                        id=rule[0],
                        version=rule[1],
                        champion=found.champion_rules[rule],
                        challenger=found.challenger_rules[rule],
                        both=found.both_rules[rule],
                    )
                    for rule in sorted({*found.champion_rules, *found.challenger_rules})
                ),
                key=lambda one: 2 * one.both - one.champion - one.challenger,
            ),
            quality=_quality(found, self._resamples),
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


def _quality(found: _Combination, resamples: int) -> Quality | None:
    fraud = np.array(found.fraud, np.bool_)
    if not len(fraud) or fraud.all() or not fraud.any():
        return None
    entity = np.unique(np.array(found.entity, np.int64), return_inverse=True)[1]
    entities = int(entity.max()) + 1
    money = np.clip(np.nan_to_num(np.array(found.amount)), 0, None)
    sides = [
        _Side(np.array(probability), np.array(severity), fraud, money, entity)
        for probability, severity in zip(found.probability, found.severity, strict=True)
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
    """What one of the two made of labelled transactions, measured under weights."""

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


def compare_shadow(
    settings: KafkaSettings,
    *,
    days: float = 30,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    stop: Event | None = None,
    clock: Clock = system_clock,
) -> Comparisons:
    """Compare champion and challenger on the decisions of the last days.

    Args:
        settings: How to reach Kafka.
        days: How far back, by the time of publication.
        limit: Most decisions, the latest; None is all.
        on_progress: Called with the records read and how many there are.
        stop: Ends it when set.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: `stop` was set.
    """
    since_ms = max(0, clock() - round(days * DAY_MS))
    found = ShadowComparison(read_labels(settings, since_ms, stop))
    with TopicSpan(
        settings, Topic.PROCESSED, since_ms=since_ms, latest=limit, service="fraudstream_compare"
    ) as span:
        for values in span.values(on_progress, stop):
            found.take(values)
    return found.report(since_ms=since_ms)
