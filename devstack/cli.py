"""Command line of devstack."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console

from devstack import artifacts, commands, settings
from devstack.errors import DevstackError

P = ParamSpec("P")
_WIDTH_IN_A_FILE = 160

app = typer.Typer(
    help="Run the whole stack as local processes, without Docker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def console() -> Console:
    """Return a console on standard output, which has a fixed width unless it is a terminal."""
    plain = Console(soft_wrap=True)
    return plain if plain.is_terminal else Console(soft_wrap=True, width=_WIDTH_IN_A_FILE)


def plainly(command: Callable[P, Any]) -> Callable[P, None]:
    """Exit with a command's result as code; print a `DevstackError` as one line and exit with 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except DevstackError as error:
            Console(stderr=True, soft_wrap=True).print(
                f"fraudstream: {error}", style="red", markup=False, highlight=False
            )
            sys.exit(1)
        sys.exit(code or 0)

    return run


@app.command()
@plainly
def up(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Start only this service (may be given several times)."),
    ] = None,
) -> int:
    """Start the stack in the background and wait until it works."""
    return commands.up(settings.load(), only or [], console())


@app.command()
@plainly
def down() -> int:
    """Stop the stack and keep its state."""
    return commands.down(settings.load(), console())


@app.command()
@plainly
def status() -> int:
    """Show the state, start time and address of each service."""
    return commands.status(settings.load(), console())


@app.command()
@plainly
def logs(
    services: Annotated[
        list[str] | None, typer.Argument(help="Services, or flink; all if none is named.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = True,
) -> int:
    """Show the end of the logs and follow them."""
    return commands.logs(settings.load(), services or [], follow=follow)


@app.command()
@plainly
def clean() -> int:
    """Stop the stack and remove its state: data, models, logs."""
    return commands.clean(settings.load(), console())


@app.command(hidden=True)
@plainly
def supervise(services: list[str]) -> int:
    """Run services in the foreground until SIGTERM; `up` starts this in the background."""
    return commands.supervise(settings.load(), services)


@app.command("run")
@plainly
def run(
    service: Annotated[str, typer.Argument(help="jobmanager, taskmanager or flink_job.")],
) -> None:
    """Run one of Flink's processes in the foreground, as in its container."""
    commands.run(settings.load(), service)


@app.command("lock-artifacts")
@plainly
def lock_artifacts() -> None:
    """Resolve the JVM dependencies again and rewrite artifacts.lock."""
    path = Path(artifacts.__file__).with_name(artifacts.LOCK_NAME)
    mirror = settings.load().maven_repository_url
    path.write_text(artifacts.lock(path.read_text("utf-8"), console(), mirror=mirror), "utf-8")


@app.command("fetch")
@plainly
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Parts, as in artifacts.lock; all if none is named.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="Copy the files into this folder, under their names.")
    ] = None,
) -> None:
    """Download and verify the Maven artifacts of Kafka, OpenSearch and the Flink job; start nothing."""
    mirror = settings.load().maven_repository_url
    for name in names or artifacts.read_lock():
        for path in artifacts.ensure(name, console(), mirror=mirror):
            if into is not None:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into / path.name)
