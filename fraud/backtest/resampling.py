"""Figures with intervals: each is computed again while entities are drawn again with replacement.

The interval is the middle 95 % of what a figure is then. One thief makes many transactions that are
caught or missed together; drawing transactions would count that evidence many times over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FigurePath = tuple[str, ...]
"""Where a figure stands in its report, from the outside in."""

RESAMPLES: Final = 200
"""Enough for the ends of a 95 % interval to hold still to about a tenth of its width."""

INTERVAL: Final = (2.5, 97.5)
"""Ends of the intervals, per cent of the resamples."""

_SEED: Final = 20_221_107


@dataclass(frozen=True, slots=True)
class ResampledFigures:
    """Figures, and what they are in each resample.

    Attributes:
        figures: By where they stand in the report.
        resampled: The same per resample, shape (resamples,), NaN in those without such a figure.
    """

    figures: dict[FigurePath, float]
    resampled: dict[FigurePath, Floats]

    def interval(self, path: FigurePath) -> tuple[float, float] | None:
        """Return the ends of a figure's interval, None where no resample has the figure."""
        values = self.resampled[path]
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        low, high = np.percentile(known, INTERVAL)
        return float(low), float(high)


def draws(entities: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Draw entities with replacement, each time as many as there are; the same every time.

    Yields:
        How often each was drawn, shape (entities,).
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
    """Compute figures of all entities, and again for each resample.

    Args:
        figures: Computes them, given how often each entity counts, shape (entities,); returns
            nothing where that leaves no fraud, or nothing legitimate.
        entities: How many entities there are.
        resamples: How often they are drawn.
    """
    found = dict(figures(np.ones(entities)))
    resampled = {path: np.full(resamples, np.nan) for path in found}
    for number, drawn in enumerate(draws(entities, resamples)):
        for path, value in figures(drawn).items():
            resampled[path][number] = value
    return ResampledFigures(found, resampled)


class Ranking:
    """Transactions ranked by probability, measured under weights; equal probabilities share a rank."""

    def __init__(self, probability: Floats, fraud: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-probability, kind="stable")
        ranked = probability[self.order]
        # Last place of each group of equal probabilities.
        self.ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self.group = np.empty(len(ranked), np.int64)
        self.group[self.order] = np.searchsorted(self.ends, np.arange(len(ranked)))
        self.fraud = fraud[self.order].astype(np.float64)
        self.probability = ranked

    def sums(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return the weight of fraud, and of the legitimate, ranked as high or higher than each group."""
        ranked = weight[self.order]
        true = np.cumsum(ranked * self.fraud)
        return true[self.ends], (np.cumsum(ranked) - true)[self.ends]


def average_precision_of(true: Floats, false: Floats) -> float:
    """Return the average precision of a ranking, 0-1, given the sums of `Ranking`."""
    caught = np.diff(true, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(caught > 0, true / (true + false), 0.0)
        return float((caught * precision).sum() / true[-1])


def number(value: float) -> float | None:
    """Return a figure as JSON has it: null when it is not known."""
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How a figure differs between two sides, measured on the same transactions.

    Attributes:
        value: The first side's minus the second one's.
        low: Lower end of its interval.
        high: Upper end.
        lower_share: Share of the resamples in which the first side's is lower.
    """

    value: float
    low: float
    high: float
    lower_share: float


def difference(
    first: ResampledFigures, second: ResampledFigures, path: FigurePath = ("average_precision",)
) -> PairedDifference:
    """Compare a figure of two sides that were measured on the same transactions.

    Each resample draws the same entities for both, so that what they have in common cancels out.
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
