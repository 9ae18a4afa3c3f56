"""Files that a command was given, read while bars show how far it is."""

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
    """Open files by their mapping; without files, the simulated history.

    Args:
        settings: Where the simulated history is.
        files: CSV, JSON lines or Parquet.
        mapping: Which column is which field; without, columns have our names.
        encoding: Of CSV files; without, UTF-8, or by its mark.
        labels: Whether labels are of use.
        make_history: Makes the simulated history where there is none.

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
            # Rows of JSON lines need not all have the same: any of our names may come late.
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
    """Read files into a history and compute its features, shape (n, features), as bars show.

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
    """Read files to measure on; also what there is to know about them."""
    # Training needs half a second of imports that scoring need not wait for.
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

    # Millions of rows that form no cycles: looking for some costs a quarter of the time.
    gc.disable()
    try:
        history = read_history(sources, report)
    finally:
        gc.enable()
    bars.update(reading, completed=len(sources))
    return history
