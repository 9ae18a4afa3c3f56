"""`python -m producer` sends the transactions of the simulated world to Kafka; `python -m producer history` writes its past to a file."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from fraud.runtime.lifecycle import load_settings, run_service
from producer.history import write_history_shown
from producer.service import run
from producer.settings import ProducerSettings
from producer.simulation import DEFAULT_PREVALENCE, prevalence_of


def _arguments(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m producer", description=__doc__)
    parser.add_argument("--rate", type=float, help="transactions a second (default: PRODUCER_RATE)")
    commands = parser.add_subparsers(dest="command")
    past = commands.add_parser("history", help="write simulated history to a file")
    past.add_argument("--days", type=int, default=45)
    past.add_argument("--customers", type=int, default=2000)
    past.add_argument("--seed", type=int, default=None, help="default: PRODUCER_SEED")
    past.add_argument(
        "--prevalence",
        type=prevalence_of,
        default=DEFAULT_PREVALENCE,
        help="low, default, high, extreme, or a number below 0.5",
    )
    past.add_argument(
        "--until",
        type=datetime.fromisoformat,
        help="end, ISO 8601 (default: the last midnight, UTC)",
    )
    past.add_argument("--output", type=Path, required=True, help=".jsonl or .parquet")
    past.add_argument(
        "--if-missing", action="store_true", help="only when the file is not there yet"
    )
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Run the command and return the exit code."""
    asked = _arguments(args)
    rate = {} if asked.rate is None else {"producer_rate": asked.rate}
    if asked.command is None:
        return run_service("producer", lambda: ProducerSettings(**rate), run)
    settings = load_settings(lambda: ProducerSettings(**rate))
    if asked.if_missing and asked.output.exists():
        return 0
    until = asked.until
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    try:
        write_history_shown(
            days=asked.days,
            customers=asked.customers,
            seed=settings.producer_seed if asked.seed is None else asked.seed,
            output=asked.output,
            prevalence=asked.prevalence,
            until=until,
            cache=settings.state_dir / "population",
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
