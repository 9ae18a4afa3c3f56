"""What commands share: how they end when something is not as needed, and options that several have."""

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
    """Describe what is wrong, each in a red line on standard error, and give what to raise.

    Args:
        problems: Texts, or errors whose text is meant for people.
        code: 2 when what was asked for cannot be done, 1 when it was tried and failed.
    """
    for problem in problems:
        typer.secho(f"fraudstream: {problem}", fg="red", err=True)
    return typer.Exit(code)


def print_json(value: object) -> None:
    """Print a value as JSON, indented."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
