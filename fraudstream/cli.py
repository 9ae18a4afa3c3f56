"""`fraudstream`: one command line over all parts."""

from __future__ import annotations

import typer

from fraudstream import transactions

app = typer.Typer(
    help="Real-time fraud prevention on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("replay")(transactions.replay)
app.command("simulate")(transactions.simulate)
