"""The command `faults`: the plan, the run, the table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.faults import plan, run
from benchmarks.faults.stack import fake_clock_library, kinds_missing, own_stack
from benchmarks.report import machine, publish
from devstack.errors import DevstackError


def break_things(
    *,
    records: int,
    faults: int,
    seed: int,
    exactly_once: bool,
    parallelism: int,
    rate: float,
    only: Sequence[str],
    victims: Sequence[str],
    deadline_s: float,
    json_file: Path | None,
    command: str,
    console: Console,
) -> bool:
    """Start a stack, break it as the seed says, print the account, and return whether all was kept.

    Raises:
        DevstackError: A kind is unknown.
    """
    if unknown := set(only) - plan.KINDS.keys():
        raise DevstackError(f"unknown kind {', '.join(unknown)}; known: {', '.join(plan.KINDS)}")
    with tempfile.TemporaryDirectory(prefix="fraudstream-faults-") as name:
        folder = Path(name)
        # OpenSearch does not run as root.
        folder.chmod(0o755)
        with own_stack(
            folder, records=records, exactly_once=exactly_once, parallelism=parallelism
        ) as stack:
            missing = kinds_missing(disk=stack.has_disk, library=fake_clock_library())
            for kind, reason in missing.items():
                console.print(f"skipped: {kind}: {reason}", highlight=False)
            steps = plan.draw(
                seed,
                records=records,
                faults=faults,
                choices=run.choices(stack, missing, only, victims),
            )
            console.print(f"{faults} faults of seed {seed}, {rate:g} records a second:")
            run.print_plan(steps, rate, console)
            result = run.run(
                stack, steps, seed=seed, rate=rate, deadline_s=deadline_s, console=console
            )
    figures = run.rows(result)
    beside = "everything on the same machine; see load_before"
    publish("faults", figures, command=command, beside=beside, console=console)
    _print_account(result, exactly_once=exactly_once, console=console)
    broken = result.broken(exactly_once=exactly_once)
    for line in broken:
        console.print(f"[bold red]broken[/]: {line}", highlight=False)
    if json_file:
        document = {
            "command": command,
            "seed": seed,
            "delivery": "exactly-once" if exactly_once else "at-least-once",
            "parallelism": parallelism,
            "plan": [
                {"after_records": step.first + step.begins, "faults": list(map(str, step.faults))}
                for step in steps
            ],
            "skipped": missing,
            "account": asdict(result.account),
            "unacknowledged": result.unacknowledged,
            "kinds": figures,
            "repeated_by_fault": dict(result.repeated),
            "cold_start_s": result.cold_start_s,
            "seconds": round(result.seconds),
            "broken": broken,
            "machine": machine() | {"load_after": os.getloadavg()[0]},
        }
        json_file.write_bytes(
            orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    return not broken


def _print_account(result: run.Result, *, exactly_once: bool, console: Console) -> None:
    table = Table(
        title=f"account ({'exactly' if exactly_once else 'at least'} once)", title_justify="left"
    )
    table.add_column("figure")
    table.add_column("count", justify="right")
    for name, figure in asdict(result.account).items():
        table.add_row(name.replace("_", " "), f"{figure:,}")
    table.add_row("records not acknowledged", f"{result.unacknowledged:,}")
    cold = "-" if result.cold_start_s is None else f"{result.cold_start_s:.1f} s"
    table.add_row("cold start of the job", cold)
    console.print(table)
