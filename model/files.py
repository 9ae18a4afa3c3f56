"""Reads the files that a command was given, with progress bars."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.datasets import TARGETS, ColumnMapping, Dataset, DatasetError
from model.examples import History, MappedDataset, feature_rows, read_history
from model.first_model import simulated_history
from model.printing import progress_bars
from model.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from model.evaluation import MeasuredPeriod


def sources_of(
    settings: TrainSettings,
    files: Sequence[Path],
    mapping: Path | None,
    encoding: str | None,
    *,
    labels: bool = True,
    make_history: Callable[[TrainSettings], None] | None = None,
) -> list[MappedDataset]:
    """Open files with their mapping; without files, open the simulated history.

    Args:
        settings: Settings with the folder of the simulated history.
        files: CSV, JSON lines or Parquet files.
        mapping: Mapping file; None means that columns are named like the fields.
        encoding: Encoding of CSV files; None means UTF-8, or UTF-16 if a file begins with its mark.
        labels: Whether to read labels.
        make_history: Makes the simulated history if it does not exist.

    Raises:
        DatasetError: A file or the mapping cannot be used.
    """
    simulated = not files
    if not files:
        if mapping is not None:
            raise DatasetError("--mapping is of use with --data only")
        files = simulated_history(settings, make_history)
    sources = []
    for file in files:
        dataset = Dataset(file, encoding=encoding)
        if mapping is not None:
            columns = ColumnMapping.read(mapping)
        else:
            # Rows of JSON lines may differ: any field may occur late in the file.
            there = TARGETS if dataset.kind == "jsonl" else dataset.columns()
            columns = ColumnMapping(
                {name: name for name in TARGETS if name in there}, name="without a mapping"
            )
        if not labels:
            columns = columns.without_labels()
        dataset.check(columns)
        sources.append(MappedDataset(dataset, columns, simulated))
    return sources


def vectors(
    sources: Sequence[MappedDataset], bars: Progress
) -> tuple[History, NDArray[np.float32]]:
    """Read files into a history and compute its features, shape (n, features), with progress bars.

    Raises:
        DatasetError: A file cannot be read.
    """
    history = _read(sources, bars)
    computing = bars.add_task("features", total=len(history))
    return history, feature_rows(history, lambda rows: bars.advance(computing, rows))


def period_to_measure(
    settings: TrainSettings,
    files: Sequence[Path],
    mapping: Path | None,
    encoding: str | None,
    console: Console,
) -> tuple[MeasuredPeriod, dict[str, Any]]:
    """Read files to measure on; return the period and facts about the data."""
    # Importing training takes half a second, which scoring is spared.
    from model.training import measurable, period_of

    with progress_bars(console) as bars:
        history, matrix = vectors(sources_of(settings, files, mapping, encoding), bars)
    return period_of(history, matrix, measurable(history)), history.told()


def _read(sources: Sequence[MappedDataset], bars: Progress) -> History:
    reading = bars.add_task("reading", total=len(sources))

    def report(_rows: int) -> None:
        shares = [
            source.dataset.progress.done / source.dataset.progress.total for source in sources
        ]
        bars.update(reading, completed=sum(shares))

    # Millions of rows form no cycles; searching them for cycles takes a quarter of the time.
    gc.disable()
    try:
        history = read_history(sources, report)
    finally:
        gc.enable()
    bars.update(reading, completed=len(sources))
    return history
