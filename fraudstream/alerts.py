"""Commands on alerts: those of `notifier.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

# The commands are imported where they are used, so that `fraudstream --help` answers at once.

app = typer.Typer(
    help="Who is told of decisions, what waits, and what was refused for good.",
    no_args_is_help=True,
)


@app.command()
def status() -> None:
    """Show per recipient how many alerts were told, wait, or were refused for good."""
    from notifier.commands import status

    status()


@app.command()
def failed() -> None:
    """List the messages that were refused for good, with the events they tell of."""
    from notifier.commands import failed

    failed()


@app.command()
def retry(
    number: Annotated[
        int | None, typer.Argument(help="Of one message, as `failed` lists it; all without.")
    ] = None,
) -> None:
    """Make messages that were refused for good due again, once the cause is gone."""
    from notifier.commands import retry

    retry(number)


@app.command()
def routes() -> None:
    """Check settings, routes and templates, and show who is told what."""
    from notifier.commands import routes

    routes()


@app.command("test")
def send_sample(
    channel: Annotated[str, typer.Argument(help="Only this channel; all without.")] = "",
) -> None:
    """Send a sample alert to every recipient now, and say what came of it."""
    from notifier.commands import send_sample

    if send_sample(channel):
        raise typer.Exit(1)
