"""Training as a user starts it: a process of its own, from the file to the report."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson


def training_figures(history: Path) -> dict[str, Any]:
    """Train on a file into a registry that is thrown away.

    Returns:
        Rows, seconds and the most memory that the process held.
    """
    with tempfile.TemporaryDirectory() as registry:
        started = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "model", "train", "--data", history, "--name", "bench"),
                *("--registry", registry, "--json"),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
        took_s = time.monotonic() - started
    told = orjson.loads(done.stdout)
    return {
        "scenario": "train, search and report",
        "rows": told["training"]["rows"],
        "took_s": took_s,
        "read_and_features_s": told["vectors_s"],
        "search_trees_report_s": told["took_s"] - told["vectors_s"],
        # Linux counts in KiB; of all children the largest, which is this one.
        "most_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6,
        "trees": told["training"]["trees"],
        "average_precision": round(told["metrics"]["average_precision"], 4),
    }
