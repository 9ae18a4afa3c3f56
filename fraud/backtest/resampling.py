"""Confidence intervals by the bootstrap: entities are drawn with replacement, figures recomputed.

An interval holds the middle 95 % of the resampled values. Entities are drawn instead of single
transactions, since the transactions of one fraudster are not independent: they are caught or missed
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FigurePath = tuple[str, ...]
"""Keys that lead to a figure in its report, outermost first."""

RESAMPLES: Final = 200
"""Enough to make the ends of a 95 % interval stable to about a tenth of its width."""

INTERVAL: Final = (2.5, 97.5)
"""Ends of the intervals, as percentiles of the resamples."""

_SEED: Final = 20_221_107


@dataclass(frozen=True, slots=True)
class ResampledFigures:
    """Figures over all entities, and their values in each resample.

    Attributes:
        figures: Value of each figure over all entities.
        resampled: Its values per resample, shape (resamples,), NaN where it cannot be computed.
    """

    figures: dict[FigurePath, float]
    resampled: dict[FigurePath, Floats]

    def interval(self, path: FigurePath) -> tuple[float, float] | None:
        """Return the ends of a figure's interval, None if no resample has a value."""
        values = self.resampled[path]
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        low, high = np.percentile(known, INTERVAL)
        return float(low), float(high)


def draws(entities: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Draw as many entities as there are, with replacement; every call yields the same draws.

    Yields:
        Number of times that each entity was drawn, shape (entities,).
    """
    generator = np.random.default_rng(_SEED)
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, entities, entities), minlength=entities)
        yield drawn.astype(np.float64)


def resample(
    figures: Callable[[Floats], Mapping[FigurePath, float]],
    entities: int,
    resamples: int = RESAMPLES,
) -> ResampledFigures:
    """Compute figures over all entities, and again for each resample.

    Args:
        figures: Computes the figures from the weight of each entity, shape (entities,). Returns an
            empty mapping if no fraud, or nothing legitimate, has any weight.
        entities: Number of entities.
        resamples: Number of resamples.
    """
    found = dict(figures(np.ones(entities)))
    resampled = {path: np.full(resamples, np.nan) for path in found}
    for number, drawn in enumerate(draws(entities, resamples)):
        for path, value in figures(drawn).items():
            resampled[path][number] = value
    return ResampledFigures(found, resampled)


class Ranking:
    """Transactions ranked by probability, for figures under weights; equal ones share a rank."""

    def __init__(self, probability: Floats, fraud: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-probability, kind="stable")
        ranked = probability[self.order]
        # Last index of each group of equal probabilities.
        self.ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self.group = np.empty(len(ranked), np.int64)
        self.group[self.order] = np.searchsorted(self.ends, np.arange(len(ranked)))
        self.fraud = fraud[self.order].astype(np.float64)
        self.probability = ranked

    def sums(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return the weights of fraud and of legitimate transactions, from the top to each rank."""
        ranked = weight[self.order]
        true = np.cumsum(ranked * self.fraud)
        return true[self.ends], (np.cumsum(ranked) - true)[self.ends]


def average_precision_of(true: Floats, false: Floats) -> float:
    """Compute the average precision of a ranking, 0-1, from `Ranking.sums`."""
    caught = np.diff(true, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(caught > 0, true / (true + false), 0.0)
        return float((caught * precision).sum() / true[-1])


def number(value: float) -> float | None:
    """Return a figure for JSON, which has no NaN: None if it is not finite."""
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference of a figure between two sides that were measured on the same transactions.

    Attributes:
        value: The first side's figure minus the second's.
        low: Lower end of the difference's interval.
        high: Upper end of the difference's interval.
        lower_share: Share of the resamples in which the first side's figure is lower.
    """

    value: float
    low: float
    high: float
    lower_share: float


def difference(
    first: ResampledFigures, second: ResampledFigures, path: FigurePath = ("average_precision",)
) -> PairedDifference:
    """Compare a figure of two sides that were measured on the same transactions.

    Both sides use the same draws of entities, so that variation common to both cancels out.
    """
    values = first.resampled[path] - second.resampled[path]
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, INTERVAL) if len(values) else (np.nan, np.nan)
    return PairedDifference(
        first.figures[path] - second.figures[path],
        float(low),
        float(high),
        float((values < 0).mean()) if len(values) else 0.0,
    )
