"""A seeded workload: records of the simulated world, ready to be sent."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

import producer

_NOT_SENT: Final = frozenset({"label", "label_time", "is_fraud", "campaign", "made_by"})


def history_file(folder: Path, *, days: int, customers: int, seed: int) -> Path:
    """Simulate a history, unless this version of the simulator did so already."""
    simulator = Path(producer.__file__).parent
    code = b"".join(path.read_bytes() for path in sorted(simulator.iterdir()) if path.is_file())
    version = hashlib.sha256(code).hexdigest()[:8]
    path = folder / f"history-{days}-{customers}-{seed}-{version}.jsonl"
    if not path.exists():
        command = [sys.executable, "-m", "producer", "history", "--output", str(path)]
        command += ["--days", str(days), "--customers", str(customers), "--seed", str(seed)]
        # A fixed end: the same seed must give the same bytes on any day.
        subprocess.run([*command, "--until", "2026-03-01T00:00:00Z"], check=True)
    return path


def records(path: Path, *, run: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values in event order, without labels.

    Args:
        path: What `history_file` gave.
        run: Goes in front of each event_id, so that a second run brings no duplicates.
    """
    with path.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            record = {
                name: value
                for name, value in row.items()
                if name not in _NOT_SENT and value is not None
            }
            record["event_id"] = f"{run}-{record['event_id']}"
            yield record["entity_id"].encode(), orjson.dumps(record)


def take(source: Iterator[tuple[bytes, bytes]], count: int) -> list[tuple[bytes, bytes]]:
    """Return the next `count` records.

    Raises:
        ValueError: Fewer are left.
    """
    taken = list(islice(source, count))
    if len(taken) < count:
        raise ValueError(f"the workload has {count - len(taken)} records too few")
    return taken
