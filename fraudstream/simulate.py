"""Commands on simulated history: write it, and check whether a model can learn from it."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings
from producer.adaptation import LoggedInjections, read_log
from producer.history import write_history_shown
from producer.settings import ProducerSettings
from producer.simulation import prevalence_of
from producer.world_checks import FIRST_SEED, CheckResult, WorldSize
from producer.world_checks import check as check_seeds

app = typer.Typer()


@app.callback(invoke_without_command=True)
def simulate(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, ending in .jsonl or .parquet."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Length of the history.")] = 60,
    customers: Annotated[
        int, typer.Option(min=1, help="Customers, the first of the population.")
    ] = 2_000,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the world (default: PRODUCER_SEED).")
    ] = None,
    prevalence: Annotated[
        str,
        typer.Option(help="Fraudulent share: low, default, high, extreme, or a number below 0.5."),
    ] = "default",
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Transactions a second, as the producer has them; instead of --customers.",
        ),
    ] = None,
    injections: Annotated[
        Path | None, typer.Option(help="A producer's injections.jsonl, to tell its run again.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="End, UTC (default: the last midnight).")
    ] = None,
) -> None:
    """Write simulated history: transactions, their labels as known by its end, and the truth."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(ProducerSettings)
    try:
        if output is None:
            raise ValueError("--output: expected a file to write")
        write_history_shown(
            days=days,
            customers=customers if rate is None else None,
            rate=rate,
            seed=settings.producer_seed if seed is None else seed,
            output=output,
            prevalence=prevalence_of(prevalence),
            log=LoggedInjections() if injections is None else read_log(injections),
            until=None if until is None else until.replace(tzinfo=until.tzinfo or UTC),
            cache=settings.state_dir / "population",
        )
    except (ValueError, OSError) as error:
        raise failing(error) from None


@app.command()
def check(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that the world was not tuned on.")] = 10,
    customers: Annotated[int, typer.Option(min=500, help="Customers of each world.")] = 5_000,
    days: Annotated[int, typer.Option(min=14, help="Length of each history.")] = 45,
    json: Annotated[Path | None, typer.Option(help="File to write the findings to.")] = None,
) -> None:
    """Measure whether the simulated world is fit to learn from; exit code 1 when a check fails.

    The figures describe the simulator only; they do not predict real traffic.
    """
    progress = Console(stderr=True)
    said: Callable[[CheckResult], None] = lambda one: (  # noqa: E731
        progress.print(
            f"seed {one.seed}  {one.check}: {one.value:.3f} {one.detail}", highlight=False
        )
    )
    if importlib.util.find_spec("sklearn") is None:
        raise failing("simulate check needs scikit-learn, which is not installed here")
    findings = check_seeds(range(FIRST_SEED, FIRST_SEED + seeds), WorldSize(customers, days), said)
    table = Table("check", "median", "least", "most", "accepted", "passed")
    for name in dict.fromkeys(one.check for one in findings):
        rows = [one for one in findings if one.check == name]
        values = [one.value for one in rows]
        bounds = {(round(one.low, 3), round(one.high, 3)) for one in rows}
        accepted = "{:g} to {:g}".format(*bounds.pop()) if len(bounds) == 1 else "by its size"
        passed = sum(one.passed for one in rows)
        table.add_row(
            name, f"{statistics.median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}", accepted, f"{passed} of {len(rows)}"
        )  # fmt: skip
    Console().print(table)
    if json is not None:
        rows_ = [vars(one) | {"passed": bool(one.passed)} for one in findings]
        json.write_bytes(
            orjson.dumps(rows_, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )
    if not all(one.passed for one in findings):
        raise typer.Exit(1)
