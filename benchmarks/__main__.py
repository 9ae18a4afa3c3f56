"""`python -m benchmarks`: measure the stream and REST. Nothing here asserts; people read it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.own_stack import own_stack
from benchmarks.report import publish
from benchmarks.stream import measure
from benchmarks.workload import history_file, records

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
_DATA: Final = Path(__file__).parent / "results" / "data"

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the load: does it run at all?")]


def _command() -> str:
    return " ".join(["python -m benchmarks", *sys.argv[1:]])


@app.command()
def stream(
    quick: Quick = False,
    against: Annotated[
        str, typer.Option(help="Bootstrap servers of a running stack instead of one of our own.")
    ] = "",
) -> None:
    """Kafka to Kafka: 500/s for a minute, 2,000/s for two, a backlog of 200,000."""
    console = Console()
    _DATA.mkdir(parents=True, exist_ok=True)
    scale = 0.1 if quick else 1.0
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    source = records(workload, run=f"bench-{time.time():.0f}")
    rates = [(500.0, 60 * scale), (2000.0, 120 * scale)]
    backlog = int(200_000 * scale)
    if against:
        figures = measure(against, source, rates=rates, backlog=backlog, console=console)
        beside = "the whole stack, on the same machine"
    else:
        with own_stack(workload, console) as own:
            figures = measure(
                own.bootstrap_servers, source, rates=rates, backlog=backlog, console=console
            )
        beside = "broker, Flink and load generator on the same machine, nothing else"
    publish("stream", figures, command=_command(), beside=beside, console=console)


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Run all benchmarks, one after the other."""
    if context.invoked_subcommand is None:
        stream()


if __name__ == "__main__":
    app()
