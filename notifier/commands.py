"""Commands on alerts: show queues and dead letters, retry, check routes, send a sample."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fraud.contracts.times import utc_text
from fraud.runtime.clock import system_clock
from fraud.runtime.lifecycle import CannotStart, load_settings
from notifier.alerts import Severity
from notifier.channels import MessageRefused, ServerUnavailable, TryLater
from notifier.ledger import Ledger, OutgoingMessage
from notifier.planning import Hold, MessageKind
from notifier.routing import Routing
from notifier.service import LEDGER_FILE, load_configuration, transports
from notifier.settings import Settings
from notifier.wording import Templates, sample_alert

_WIDE = 160

app = typer.Typer(
    help="Who is told of decisions, what waits, and what was refused for good.",
    no_args_is_help=True,
)


def load() -> tuple[Settings, Routing, Templates]:
    """Load settings, routes and templates, or print the error and exit with code 2."""
    settings = load_settings(Settings)
    try:
        routing, wording = load_configuration(settings)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    return settings, routing, wording


def _ledger(settings: Settings) -> Ledger:
    path = settings.state_dir / LEDGER_FILE
    if not path.exists():
        sys.stderr.write(f"{path}: no notifier has run here; is STATE_DIR right?\n")
        raise SystemExit(2)
    return Ledger(path)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


@app.command()
def status() -> None:
    """Show how many alerts were sent, wait, or were refused for good, per recipient."""
    settings = load_settings(Settings)
    with _ledger(settings) as ledger:
        accounts, totals = ledger.accounts(), ledger.totals()
    table = Table("recipient", title="alerts", title_justify="left")
    for column in (
        "told",
        "in messages",
        "to be sent",
        *(f"waiting for {hold}" for hold in Hold),
        "dead letters",
    ):
        table.add_column(column, justify="right")
    for name in sorted({*accounts, *totals}):
        told, messages = totals.get(name, (0, 0))
        account = accounts.get(name)
        open_counts = (
            (
                account.made + account.waiting.get(None, 0),
                *(account.waiting.get(hold, 0) for hold in Hold),
                account.failed,
            )
            if account
            else (0,) * (len(Hold) + 2)
        )
        table.add_row(name, *(f"{count:,}" for count in (told, messages, *open_counts)))
    _console().print(table)


@app.command()
def failed() -> None:
    """List the messages that were refused for good, with their events."""
    settings = load_settings(Settings)
    with _ledger(settings) as ledger:
        letters = ledger.dead_letters()
    table = Table("number", "recipient", "kind", "problem", "refused at", "events")
    for letter in letters:
        table.add_row(
            str(letter.number),
            letter.destination,
            letter.kind,
            letter.problem,
            utc_text(letter.failed_ms),
            ", ".join(letter.event_ids),
        )
    _console().print(table if letters else "no message was refused for good")


@app.command()
def retry(
    number: Annotated[
        int | None, typer.Argument(help="Of one message, as `failed` lists it; all without.")
    ] = None,
) -> None:
    """Queue messages that were refused for good again, once the cause is fixed."""
    settings = load_settings(Settings)
    with _ledger(settings) as ledger:
        count = ledger.retry_failed(number)
    typer.echo(f"{count} {'message is' if count == 1 else 'messages are'} due again")


@app.command()
def routes() -> None:
    """Check settings, routes and templates, and show which alerts go to which recipients."""
    _, routing, _ = load()
    table = Table("outcomes", "severities", "recipients")
    for route in routing.routes:
        recipients = [one for one in routing.destinations.values() if one.channel in route.channels]
        table.add_row(
            ", ".join(sorted(route.outcomes)),
            ", ".join(severity for severity in Severity if severity in route.severities),
            "\n".join(f"{one.channel}: {one.id}" for one in recipients),
        )
    limits = Table(
        "recipient", "digest", "messages an hour", "summary", "quiet hours", "told in quiet hours"
    )
    for one in routing.destinations.values():
        policy = one.policy
        spans = policy.quiet.spans if policy.quiet else ()
        limits.add_row(
            one.id,
            f"{policy.digest_ms / 1000:g} s" if policy.digest_ms else "none",
            str(policy.limit_per_hour or "no limit"),
            f"{policy.summary_ms / 1000:g} s",
            ", ".join(f"{start:%H:%M}-{end:%H:%M}" for start, end in spans) or "none",
            f"{policy.breakthrough} and above" if policy.breakthrough and spans else "",
        )
    console = _console()
    console.print(table if routing.routes else "nobody is told of anything: no channel is declared")
    console.print(limits)


@app.command("test")
def send_sample(
    channel: Annotated[str, typer.Argument(help="Only this channel; all without.")] = "",
) -> None:
    """Send a sample alert to every recipient now, and show each result."""
    settings, routing, wording = load()
    now_ms = system_clock()
    wrong = 0
    for transport, destinations in transports(settings, routing, wording):
        for one in destinations:
            if channel and one.channel != channel:
                continue
            # A new id each time, or recipients would drop a second sample as a copy.
            name = f"{now_ms:040x}"
            message = OutgoingMessage(
                0, name, one.id, MessageKind.ALERT, (sample_alert(),), 0, now_ms, None
            )
            try:
                transport.send(message, one, now_ms=now_ms)
                typer.echo(f"{one.id}: taken")
            except (ServerUnavailable, TryLater, MessageRefused) as verdict:
                wrong += 1
                typer.echo(f"{one.id}: {type(verdict).__name__} ({verdict})", err=True)
        transport.rest()
    if wrong:
        raise typer.Exit(1)
