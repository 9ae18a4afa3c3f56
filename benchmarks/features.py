"""Features of a whole history, as training computes them: pack, find the rings, compute."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fraud.contracts.transaction import Transaction, decode
from fraud.features.catalogue import FEATURES, KEYS
from fraud.features.packing import Packed, pack
from fraud.features.replay import replay, rings_of

_PACK_ROWS = 4000


def offline_figures(history: Path, rows: int) -> list[dict[str, Any]]:
    """Measure the parts of the offline path on the first rows of a history.

    Reading the file into transactions is measured beside it: training reads files in columns.
    """
    started = time.monotonic()
    with history.open("rb") as lines:
        transactions = [decode(line) for line in islice(lines, rows)]
    read_s = time.monotonic() - started
    started, started_cpu = time.monotonic(), time.process_time()
    packed = _packed(transactions)
    pack_s = time.monotonic() - started
    del transactions
    started, rings_cpu = time.monotonic(), time.process_time()
    rings_of(packed)
    rings_s = time.monotonic() - started
    started_cpu += time.process_time() - rings_cpu  # measured once more, as a part of the whole
    started = time.monotonic()
    count = sum(len(matrix) for matrix in replay(packed))
    vectors_s = time.monotonic() - started
    cpu_s = time.process_time() - started_cpu
    return [
        {
            "scenario": f"{len(FEATURES)} features, {len(KEYS)} keys",
            "rows": count,
            "pack_and_features_s": pack_s + vectors_s,
            "cpu_s": cpu_s,
            "pack_s": pack_s,
            "features_s": vectors_s,
            "of_it_rings_s": rings_s,
            "read_json_s": read_s,
            # Linux counts in KiB.
            "most_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }
    ]


def _packed(transactions: Sequence[Transaction]) -> Packed:
    parts = [
        pack(transactions[at : at + _PACK_ROWS]) for at in range(0, len(transactions), _PACK_ROWS)
    ]
    return Packed(
        {key.name: [value for part in parts for value in part.keys[key.name]] for key in KEYS},
        {key.name: np.concatenate([part.records[key.name] for part in parts]) for key in KEYS},
        np.concatenate([part.own for part in parts]),
    )
