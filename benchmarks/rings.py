"""How long the rings of IP addresses and merchants should be: model quality and cost, offline."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud.features.catalogue import KEYS
from fraud.features.replay import replay
from model.datasets import TARGETS, ColumnMapping, Dataset
from model.examples import History, MappedDataset, read_history
from model.training import FIRST_LEGITIMATE, TrainingConfig, train

LENGTHS: Final = (16, 32, 64)

_AS_FIRST: Final = TrainingConfig(search=0, baseline=False, most_legitimate=FIRST_LEGITIMATE)
"""As the first model is trained."""


def ring_figures(path: Path) -> list[dict[str, Any]]:
    """Train on the same history with rings of different lengths; the entity keeps its own.

    Only one core's time is counted as cost, so that what else runs matters little.
    """
    dataset = Dataset(path)
    there = set(dataset.columns())
    mapping = ColumnMapping({name: name for name in TARGETS if name in there}, name="the history's")
    history = read_history([MappedDataset(dataset, mapping)])
    return [_measured(history, rows) for rows in LENGTHS]


def _measured(history: History, rows: int) -> dict[str, Any]:
    first, *others = KEYS
    keys = (first, *(replace(key, rows=rows) for key in others))
    began_s = time.process_time()
    matrix = np.concatenate(list(replay(history.packed, keys=keys)))
    features_s = time.process_time() - began_s
    made = train(history, matrix, _AS_FIRST)
    low, high = made.metrics["intervals"]["average_precision"]
    ring_bytes = sum(rows * key.dtype.itemsize for key in others)
    return {
        "scenario": f"{rows} rows",
        "average_precision": round(made.metrics["average_precision"], 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "recall_at_1_percent": round(made.metrics["recall_at_fpr"]["0.01"], 4),
        "features_cpu_s": features_s,
        "ring_bytes_a_row": ring_bytes,
    }
