"""`python -m producer` tells the simulated world to Kafka; `python -m producer history` writes its past to a file."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fraud.kit.lifecycle import load_settings
from fraud.kit.logs import configure_logs
from producer.history import HistorySummary, write_history
from producer.service import serve
from producer.settings import ProducerSettings
from producer.simulation import DEFAULT_FRAUD_RATE, Plan, World


def history(
    *, days: int, customers: int, seed: int, output: Path, fraud_rate: float, until: datetime | None, cache: Path
) -> HistorySummary:  # fmt: skip
    """Write history, with a progress bar, and say what was written.

    Args:
        days: Length.
        customers: The first ones of the population.
        seed: Seed of the world.
        output: `.jsonl` or `.parquet` file.
        fraud_rate: Fraudulent share of the transactions.
        until: End; None is the last midnight, UTC.
        cache: Folder of the population's cache.
    """
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=days)
    t0_ms, t1_ms = (int(moment.timestamp() * 1000) for moment in (start, end))
    console = Console(stderr=True)
    with Progress(
        TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), console=console
    ) as bar:  # fmt: skip
        task = bar.add_task("simulating", total=t1_ms - t0_ms)
        summary = write_history(
            World.load(seed, cache),
            seed,
            Plan(customers=customers, fraud_rate=fraud_rate),
            t0_ms,
            t1_ms,
            output,
            lambda reached_ms: bar.update(task, completed=reached_ms - t0_ms),
        )
        bar.update(task, completed=t1_ms - t0_ms)
    share = summary.frauds / max(summary.transactions, 1)
    console.print(
        f"{summary.transactions:,} transactions of {customers:,} customers from {start:%Y-%m-%d} to "
        f"{end:%Y-%m-%d}: {summary.frauds:,} are fraud ({share:.2%}), {summary.labelled:,} have a label by then. "
        f"Written to {output}",
        highlight=False,
    )  # fmt: skip
    return summary


def _arguments(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m producer", description=__doc__)
    parser.add_argument("--rate", type=float, help="transactions a second (default: PRODUCER_RATE)")
    commands = parser.add_subparsers(dest="command")
    past = commands.add_parser("history", help="write simulated history to a file")
    past.add_argument("--days", type=int, default=45)
    past.add_argument("--customers", type=int, default=2000)
    past.add_argument("--seed", type=int, default=None, help="default: PRODUCER_SEED")
    past.add_argument("--fraud-rate", type=float, default=DEFAULT_FRAUD_RATE)
    past.add_argument("--until", type=datetime.fromisoformat, help="end, ISO 8601 (default: the last midnight, UTC)")  # fmt: skip
    past.add_argument("--output", type=Path, required=True, help=".jsonl or .parquet")
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Run the command and give the exit code."""
    asked = _arguments(args)
    rate = {} if asked.rate is None else {"producer_rate": asked.rate}
    settings = load_settings(lambda: ProducerSettings(**rate))
    if asked.command is None:
        configure_logs(settings, "producer")
        return serve(settings)
    until = asked.until
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    try:
        history(
            days=asked.days,
            customers=asked.customers,
            seed=settings.producer_seed if asked.seed is None else asked.seed,
            output=asked.output,
            fraud_rate=asked.fraud_rate,
            until=until,
            cache=settings.state_dir / "population",
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
