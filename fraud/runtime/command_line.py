"""Common parts of commands: exits with an error, options, and JSON output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RegistryOption = Annotated[
    Path | None, typer.Option("--registry", help="Model registry, if not MODEL_REGISTRY.")
]


def failing(*problems: object, code: int = 2) -> typer.Exit:
    """Print each problem as a red line on standard error, and return the exit to raise.

    Args:
        problems: Texts, or exceptions whose text is meant for people.
        code: Exit code: 2 if the request cannot be carried out, 1 if it was tried and failed.
    """
    for problem in problems:
        typer.secho(f"fraudstream: {problem}", fg="red", err=True)
    return typer.Exit(code)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
