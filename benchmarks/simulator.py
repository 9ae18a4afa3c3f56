"""How fast the simulated world is made, on one core."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

from producer.history import write_history
from producer.simulation import SimulationPlan, World, simulate

_START_MS: Final = 20_700 * 86_400_000
_A_DAY: Final = 2.3
"""Transactions of a customer, about."""
_DAYS: Final = 45


def measure(transactions: int) -> list[dict[str, Any]]:
    """Make about as many transactions as numbers, then as a Parquet file of records with labels.

    CPU time is given beside the time that passed: on a busy machine it says more.
    """
    world = World.load(7)
    plan = SimulationPlan(customers=round(transactions / _A_DAY / _DAYS))
    end_ms = _START_MS + _DAYS * 86_400_000
    figures = []

    def figure(scenario: str, made: int, since_s: float, cpu_s: float) -> None:
        passed_s, worked_s = time.perf_counter() - since_s, time.process_time() - cpu_s
        figures.append(
            {
                "scenario": scenario,
                "transactions": made,
                "s": passed_s,
                "cpu_s": worked_s,
                "per_cpu_s": made / worked_s,
            }
        )

    since_s, cpu_s = time.perf_counter(), time.process_time()
    made = sum(len(part.events) for part in simulate(world, 7, plan, _START_MS, end_ms))
    figure("made", made, since_s, cpu_s)
    with tempfile.TemporaryDirectory() as folder:
        since_s, cpu_s = time.perf_counter(), time.process_time()
        path = Path(folder) / "history.parquet"
        made = write_history(world, 7, plan, _START_MS, end_ms, path).transactions
        figure("made and written to Parquet", made, since_s, cpu_s)
    return figures
