"""Commands that inject campaigns of fraud and drift into the running producer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.times import utc_text
from fraud.kafka.range_reader import CannotRead
from fraud.kafka.sync_producer import CannotPublish
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings, user_name
from fraud.runtime.logs import configure_command_logs
from fraud.runtime.settings import KafkaSettings
from producer.injection_log import injections_on, start_injection, stop_injection
from producer.injections import CAMPAIGN_MEANINGS, DRIFT_MEANINGS, FOREVER_MS, Injection

campaign = typer.Typer(
    help="Inject campaigns of fraud into the running producer.", no_args_is_help=True
)
drift = typer.Typer(
    help="Start and stop drift of the running producer's traffic.", no_args_is_help=True
)

Kind = Annotated[str, typer.Argument(help="See `list`.")]
Intensity = Annotated[float, typer.Option(help="How strong; 1 is noticeable. See `list`.")]
Minutes = Annotated[float, typer.Option(help="Simulated minutes, up to seven days.")]
Name = Annotated[str | None, typer.Option(help="Its own name (default: kind and time).")]


def _settings() -> KafkaSettings:
    configure_command_logs()
    return load_settings(KafkaSettings)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Report invalid input (exit code 2) or an unreachable Kafka (exit code 1) in one line."""
    try:
        yield
    except ValueError as problem:
        raise failing(problem) from None
    except InvalidMessage as verdict:
        raise failing(verdict.detail) from None
    except (CannotPublish, CannotRead) as problem:
        raise failing(problem, code=1) from None


def _start(what: str, kind: str, intensity: float, minutes: float, name: str | None) -> None:
    now = datetime.now(UTC)
    name = name or f"{kind}-{now:%Y%m%dT%H%M%S}"
    with _in_one_line():
        injection = Injection(what, kind, name, intensity, int(now.timestamp() * 1000), minutes)
        start_injection(_settings(), injection, user_name(), now)
    typer.echo(f"{name} started: {kind}, intensity {intensity:g}, {minutes:g} simulated minutes.")


def _stop(what: str, name: str) -> None:
    with _in_one_line():
        stop_injection(_settings(), what, name, user_name(), datetime.now(UTC))
    typer.echo(f"{name} stopped.")


def _show(what: str, meanings: dict[str, str], note: str) -> None:
    console = Console()
    kinds = Table("kind", "meaning")
    for kind, meaning in meanings.items():
        kinds.add_row(kind, meaning)
    console.print(kinds)
    console.print(note)
    try:
        known = [one for one in injections_on(_settings()).values() if one.what == what]
    except CannotRead as problem:
        console.print(f"What was injected is not known: {problem}", soft_wrap=True)
        return
    if known:
        table = Table("name", "kind", "intensity", "start", "minutes", "stopped")
        for one in known:
            stopped = "" if one.stopped_ms == FOREVER_MS else utc_text(one.stopped_ms)
            table.add_row(
                one.name,
                one.kind,
                f"{one.intensity:g}",
                utc_text(one.start_ms),
                f"{one.minutes:g}",
                stopped,
            )
        console.print(table)


@campaign.command("start")
def start_campaign(
    kind: Kind, intensity: Intensity = 1.0, minutes: Minutes = 10.0, name: Name = None
) -> None:
    """Start a campaign of fraud now."""
    _start("campaign", kind, intensity, minutes, name)


@campaign.command("stop")
def stop_campaign(name: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Stop a campaign before its end."""
    _stop("campaign", name)


@campaign.command("list")
def list_campaigns() -> None:
    """List the kinds of fraud, and the injected campaigns."""
    _show(
        "campaign", CAMPAIGN_MEANINGS,
        "Intensity 1 adds fraud of 1 % of the transactions while the campaign lasts, 5 of 5 %.",
    )  # fmt: skip


@drift.command("start")
def start_drift(
    kind: Kind, intensity: Intensity = 1.0, minutes: Minutes = 60.0, name: Name = None
) -> None:
    """Start a drift now: it grows over the minutes and stays until it is stopped."""
    _start("drift", kind, intensity, minutes, name)


@drift.command("stop")
def stop_drift(name: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """End a drift at once."""
    _stop("drift", name)


@drift.command("list")
def list_drifts() -> None:
    """List the kinds of drift, and the injected drifts."""
    _show(
        "drift", {str(kind): text for kind, text in DRIFT_MEANINGS.items()},
        "That is at intensity 1, once it has grown over its minutes.",
    )  # fmt: skip
