"""devstack's commands."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import typer
from rich.console import Console

from devstack.errors import DevstackError

P = ParamSpec("P")

app = typer.Typer(
    help="Run the whole stack as local processes, without Docker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def plainly(command: Callable[P, Any]) -> Callable[P, None]:
    """Turn a command's result into the exit code, and a `DevstackError` into one line and exit 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except DevstackError as error:
            Console(stderr=True, soft_wrap=True).print(f"fraudstream: {error}", style="red", markup=False, highlight=False)  # fmt: skip
            sys.exit(1)
        sys.exit(code or 0)

    return run


@app.command("lock-artifacts")
@plainly
def lock_artifacts() -> None:
    """Resolve the JVM parts anew into artifacts.lock."""
    from devstack import artifacts, settings

    path = Path(artifacts.__file__).with_name(artifacts.LOCK_NAME)
    mirror = settings.load().maven_repository_url
    path.write_text(artifacts.lock(path.read_text("utf-8"), Console(), mirror=mirror), "utf-8")


@app.command("fetch")
@plainly
def fetch() -> None:
    """Fetch and verify the JVM parts, without starting anything."""
    from devstack import artifacts, settings

    mirror = settings.load().maven_repository_url
    for name in artifacts.read_lock():
        artifacts.ensure(name, Console(), mirror=mirror)
