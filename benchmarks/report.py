"""Figures as a table for people and as JSON for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

PERCENTILES: Final = (50.0, 95.0, 99.0, 99.9)
RESULTS: Final = Path(__file__).parent / "results"


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of `PERCENTILES` and the maximum, nearest rank.

    Args:
        latencies_ms: At least one, in any order.

    Example:
        >>> percentiles(range(1, 1001))
        {'p50_ms': 500, 'p95_ms': 950, 'p99_ms': 990, 'p99.9_ms': 999, 'max_ms': 1000}
    """
    ascending = sorted(latencies_ms)
    ranks = {
        f"p{percent:g}_ms": ascending[max(0, round(len(ascending) * percent / 100 + 0.499999) - 1)]
        for percent in PERCENTILES
    }
    return ranks | {"max_ms": ascending[-1]}


def machine() -> dict[str, Any]:
    """Describe the machine of the measurement."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None else str(value)


def publish(
    name: str, figures: list[dict[str, Any]], *, command: str, beside: str, console: Console
) -> None:
    """Print figures as a table and keep them as JSON under `RESULTS`.

    Args:
        name: Of the benchmark; permanent, so that results of different days compare.
        figures: One row each, with the same keys.
        command: How to measure them again.
        beside: What else ran on the machine.
        console: Where the table goes.
    """
    table = Table(title=f"{name} ({beside})", title_justify="left")
    for column in figures[0]:
        table.add_column(column, justify="left" if column == "scenario" else "right")
    for row in figures:
        table.add_row(*map(_cell, row.values()))
    console.print(table)
    taken_at = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{taken_at:%Y%m%dT%H%M%SZ}.json"
    result = {
        "benchmark": name,
        "taken_at": taken_at.isoformat(),
        "command": command,
        "beside": beside,
        "machine": machine(),
        "figures": figures,
    }
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    console.print(f"kept in {path}")
