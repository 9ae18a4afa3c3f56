"""Writes the simulated past to a file, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fraud.contracts.times import DAY_MS
from fraud.contracts.transaction import EVENT_TIME_END_MS, EVENT_TIME_FIRST_MS
from model.datasets import MADE_BY, SIMULATOR
from producer.adaptation import LoggedInjections
from producer.events import Campaign
from producer.labels import SimulatedLabels
from producer.population import Population
from producer.randomness import Draws
from producer.records import COLUMNS, campaign_texts, columns, rows, time_texts
from producer.simulation import SimulationPlan, Slice, World, simulate

LABEL_COLUMNS: Final = ("label", "label_time", "is_fraud", "campaign")
"""Columns after those of the record.

- `label`: 1 or 0 as known at the end of the history, null if unknown by then; it may be wrong.
- `label_time`: when the label became known, null if it is unknown.
- `is_fraud`: 1 or 0, the truth. Never for training.
- `campaign`: the kind of fraud, empty if legitimate. Never for training.
"""
_NUMBERS: Final = {"transaction_amt": "f8", "billing_latitude": "f8", "billing_longitude": "f8"}
_FLAGS: Final = ("label", "is_fraud")


class _Sink(Protocol):
    def write(self, table: dict[str, list[Any]]) -> None: ...
    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._mark = {MADE_BY: SIMULATOR}

    def write(self, table: dict[str, list[Any]]) -> None:
        for row in rows(table):
            self._file.write(orjson.dumps(row | self._mark, option=orjson.OPT_APPEND_NEWLINE))
            self._mark = {}  # only the first line carries the mark

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._pa = pa
        self._schema = pa.schema(
            [
                (name, pa.float64() if name in _NUMBERS else pa.int8() if name in _FLAGS else pa.string())
                for name in (*COLUMNS, *LABEL_COLUMNS)
            ],
            {MADE_BY: SIMULATOR},
        )  # fmt: skip
        self._writer = parquet.ParquetWriter(str(path), self._schema, compression="zstd")

    def write(self, table: dict[str, list[Any]]) -> None:
        self._writer.write_table(self._pa.table(table, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True)
class HistorySummary:
    """Counts of a history file.

    Attributes:
        transactions: Rows.
        frauds: Rows that are truly fraud.
        labelled: Rows whose label is known at the end of the history.
    """

    transactions: int
    frauds: int
    labelled: int


def table(population: Population, part: Slice, known_until_ms: int) -> dict[str, list[Any]]:
    """Convert a slice to the columns of a history.

    Args:
        population: Population of the slice.
        part: Transactions and their labels.
        known_until_ms: Labels that become known at this time or later are null.
    """
    labels = part.labels
    known = labels.time_ms < known_until_ms
    fraud = part.events["campaign"] != Campaign.LEGITIMATE
    said, known_list = labels.fraud.tolist(), known.tolist()
    times = time_texts(labels.time_ms)
    return columns(population, part.events) | {
        "label": [int(f) if k else None for f, k in zip(said, known_list, strict=True)],
        "label_time": [t if k else None for t, k in zip(times, known_list, strict=True)],
        "is_fraud": fraud.astype(np.int64).tolist(),
        "campaign": campaign_texts(part.events),
    }


def write_history(
    world: World,
    seed: int,
    plan: SimulationPlan,
    t0_ms: int,
    t1_ms: int,
    path: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> HistorySummary:
    """Write the transactions from `t0_ms` to `t1_ms` (exclusive) to a file, in order.

    Args:
        world: Ingredients of the world.
        seed: Seed of all random draws.
        plan: Plan of the simulation.
        t0_ms: Start, UTC epoch milliseconds.
        t1_ms: End; labels that become known later are null.
        path: `.jsonl` or `.parquet` file; it appears once it is complete.
        progress: Called with the time reached, UTC epoch milliseconds.

    Raises:
        ValueError: The file name has another suffix.
    """
    if path.suffix not in {".jsonl", ".parquet"}:
        raise ValueError(f"{path.name}: expected a file name ending in .jsonl or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_name(path.name + ".part")
    population = Population(Draws(seed), world.pools, world.places)
    sink: _Sink = (_Parquet if path.suffix == ".parquet" else _JsonLines)(part_path)
    count = frauds = labelled = 0
    try:
        for part in _gather(simulate(world, seed, plan, t0_ms, t1_ms)):
            made = table(population, part, t1_ms)
            sink.write(made)
            count += len(part.events)
            frauds += sum(made["is_fraud"])
            labelled += sum(label is not None for label in made["label"])
            progress(int(part.events["time_ms"][-1]))
    finally:
        sink.close()
    part_path.replace(path)
    return HistorySummary(count, frauds, labelled)


def write_history_shown(
    *, days: int, customers: int | None, seed: int, output: Path, prevalence: float, until: datetime | None, cache: Path,
    log: LoggedInjections = LoggedInjections(), rate: float | None = None,  # noqa: B008 - frozen
) -> HistorySummary:  # fmt: skip
    """Write a history with a progress bar, and print a summary.

    Args:
        days: Length of the history in days.
        customers: Number of customers; None means as many as `rate` needs.
        seed: Seed of the world.
        output: `.jsonl` or `.parquet` file.
        prevalence: Fraudulent share of the transactions.
        until: End; None means the last midnight, UTC.
        cache: Cache folder of the population.
        log: Injections and observed decisions.
        rate: Transactions a second; None means the customers' natural pace.

    Raises:
        ValueError: An argument is out of range; the message names it.
    """
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    t1_ms = int(end.timestamp() * 1000)
    t0_ms = t1_ms - days * DAY_MS
    if days < 1 or t0_ms < EVENT_TIME_FIRST_MS or t1_ms > EVENT_TIME_END_MS:
        raise ValueError(
            f"expected a history of at least a day between 1970 and 2099, got {days} days until {end:%Y-%m-%d}"
        )
    start = end - timedelta(days=days)
    console = Console(stderr=True)
    with Progress(
        TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), console=console
    ) as bar:  # fmt: skip
        task = bar.add_task("simulating", total=t1_ms - t0_ms)
        summary = write_history(
            World.load(seed, cache),
            seed,
            SimulationPlan(
                customers=customers,
                rate=rate,
                prevalence=prevalence,
                injections=log.injections,
                observed=log.observed,
            ),
            t0_ms,
            t1_ms,
            output,
            lambda reached_ms: bar.update(task, completed=reached_ms - t0_ms),
        )
        bar.update(task, completed=t1_ms - t0_ms)
    share = summary.frauds / max(summary.transactions, 1)
    console.print(
        f"{summary.transactions:,} transactions from {start:%Y-%m-%d} to "
        f"{end:%Y-%m-%d}: {summary.frauds:,} are fraud ({share:.2%}), {summary.labelled:,} have a label by then. "
        f"Written to {output}",
        highlight=False,
    )  # fmt: skip
    return summary


def _gather(slices: Iterable[Slice], at_least: int = 20_000) -> Iterable[Slice]:
    """Merge small slices: a row group of a few thousand rows compresses badly."""
    waiting: list[Slice] = []
    size = 0
    for part in slices:
        waiting.append(part)
        size += len(part.events)
        if size >= at_least:
            yield _joined(waiting)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Slice]) -> Slice:
    labels = SimulatedLabels.joined([part.labels for part in parts])
    return Slice(np.concatenate([part.events for part in parts]), labels)
