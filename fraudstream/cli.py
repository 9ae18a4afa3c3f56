"""`fraudstream`: one command line over all parts."""

from __future__ import annotations

import typer

from dashboards.commands import app as dashboards_app
from devstack import cli as devstack_cli
from fraudstream import (
    afd,
    alerts,
    bench,
    challenge,
    dlq,
    dryrun,
    injections,
    lists,
    models,
    replay,
    rules,
)
from fraudstream.environment import complete_environment
from fraudstream.index import index
from fraudstream.keys import keys

app = typer.Typer(
    help="Real-time fraud prevention on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(devstack_cli.up)
app.command()(devstack_cli.down)
app.command()(devstack_cli.status)
app.command()(devstack_cli.logs)
app.command("replay")(replay.replay)
simulated = typer.Typer(invoke_without_command=True)
simulated.callback()(replay.simulate)
simulated.command("check")(injections.check)
app.add_typer(simulated, name="simulate")
app.add_typer(injections.campaign, name="campaign")
app.add_typer(injections.drift, name="drift")
app.add_typer(dashboards_app, name="dashboards", callback=complete_environment)
app.add_typer(index, name="index")
app.add_typer(dlq.app, name="dlq")
app.add_typer(alerts.app, name="alerts", callback=complete_environment)
app.command("train")(models.train)
app.command("evaluate")(models.evaluate)
app.command("models")(models.list_models)
app.command("score")(models.score)
app.command("promote")(models.promote)
app.command("rollback")(models.rollback)
app.add_typer(keys, name="keys")
app.command("import-afd")(afd.import_afd)
rules.rules.command("test")(dryrun.try_rules)
app.add_typer(rules.rules, name="rules")
app.add_typer(lists.lists, name="lists")
app.add_typer(challenge.challenge, name="challenge")
app.command("compare")(challenge.compare)
app.command("recheck")(challenge.recheck)
app.command("bench", context_settings=bench.FORWARDED)(bench.bench)
