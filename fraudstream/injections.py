"""Commands on the simulated world: inject campaigns of fraud and drift, and check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fraud.runtime.command_line import failing

if TYPE_CHECKING:
    from fraud.runtime.settings import KafkaSettings

# Everything else is imported where it is used, so that `fraudstream --help` answers at once.

campaign = typer.Typer(
    help="Inject campaigns of fraud into the running producer.", no_args_is_help=True
)
drift = typer.Typer(help="Let the running producer's traffic drift.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(help="See `list`.")]
Intensity = Annotated[float, typer.Option(help="How strong; 1 is noticeable. See `list`.")]
Minutes = Annotated[float, typer.Option(help="Simulated minutes, up to seven days.")]
Name = Annotated[str | None, typer.Option(help="Its own name (default: kind and time).")]


def _settings() -> KafkaSettings:
    from fraud.runtime.lifecycle import load_settings
    from fraud.runtime.logs import configure_command_logs
    from fraud.runtime.settings import KafkaSettings
    from fraudstream.environment import complete_environment

    complete_environment()
    configure_command_logs()
    return load_settings(KafkaSettings)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Say in one line what is not as needed (exit code 2), or that Kafka does not answer (1)."""
    from fraud.contracts.errors import InvalidMessage
    from fraud.kafka.range_reader import CannotRead
    from fraud.kafka.sync_producer import CannotPublish

    try:
        yield
    except ValueError as problem:
        raise failing(problem) from None
    except InvalidMessage as verdict:
        raise failing(verdict.detail) from None
    except (CannotPublish, CannotRead) as problem:
        raise failing(problem, code=1) from None


def _start(what: str, kind: str, intensity: float, minutes: float, name: str | None) -> None:
    from fraud.kafka.control import ControlPublisher
    from fraud.runtime.lifecycle import user_name
    from producer.injection_log import control_document, injections_on
    from producer.injections import Injection

    now = datetime.now(UTC)
    name = name or f"{kind}-{now:%Y%m%dT%H%M%S}"
    with _in_one_line():
        one = Injection(what, kind, name, intensity, int(now.timestamp() * 1000), minutes)
        settings = _settings()
        if one.key in injections_on(settings):
            raise ValueError(f"name: {name} was used before, expected a new one")
        ControlPublisher(settings).publish(control_document(one, user_name(), now))
    typer.echo(f"{name} started: {kind}, intensity {intensity:g}, {minutes:g} simulated minutes.")


def _stop(what: str, name: str) -> None:
    from dataclasses import replace

    from fraud.kafka.control import ControlPublisher
    from fraud.runtime.lifecycle import user_name
    from producer.injection_log import control_document, injections_on

    now = datetime.now(UTC)
    with _in_one_line():
        settings = _settings()
        known = injections_on(settings).get((what, name))
        if known is None:
            raise ValueError(f"name: expected a {what} that was started, got {name}")
        stopped = replace(known, stopped_ms=int(now.timestamp() * 1000))
        ControlPublisher(settings).publish(control_document(stopped, user_name(), now))
    typer.echo(f"{name} stopped.")


def _show(what: str, meanings: dict[str, str], note: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fraud.contracts.times import utc_text
    from fraud.kafka.range_reader import CannotRead
    from producer.injection_log import injections_on
    from producer.injections import FOREVER_MS

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
    """List the kinds of fraud, and what was injected."""
    from producer.injections import CAMPAIGN_MEANINGS

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
    """List the kinds of drift, and what was injected."""
    from producer.injections import DRIFT_MEANINGS

    _show(
        "drift", {str(kind): text for kind, text in DRIFT_MEANINGS.items()},
        "That is at intensity 1, once it has grown over its minutes.",
    )  # fmt: skip


def check(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that the world was not tuned on.")] = 10,
    customers: Annotated[int, typer.Option(min=500, help="Customers of each world.")] = 5_000,
    days: Annotated[int, typer.Option(min=14, help="Length of each history.")] = 45,
    json: Annotated[Path | None, typer.Option(help="File to write the findings to.")] = None,
) -> None:
    """Measure whether the simulated world is fit to learn from; exit code 1 when a check fails.

    The figures say something about the simulator, and predict nobody's traffic.
    """
    import importlib.util
    import statistics

    import orjson
    from rich.console import Console
    from rich.table import Table

    from producer.world_checks import FIRST_SEED, CheckResult, WorldSize
    from producer.world_checks import check as check_seeds

    progress = Console(stderr=True)
    said: Callable[[CheckResult], None] = lambda one: (  # noqa: E731
        progress.print(
            f"seed {one.seed}  {one.check}: {one.value:.3f} {one.detail}", highlight=False
        )
    )
    if importlib.util.find_spec("sklearn") is None:
        raise failing("simulate check needs scikit-learn, which is not installed here")
    findings = check_seeds(range(FIRST_SEED, FIRST_SEED + seeds), WorldSize(customers, days), said)
    table = Table("check", "median", "least", "most", "accepted", "passed")
    for name in dict.fromkeys(one.check for one in findings):
        rows = [one for one in findings if one.check == name]
        values = [one.value for one in rows]
        bounds = {(round(one.low, 3), round(one.high, 3)) for one in rows}
        accepted = "{:g} to {:g}".format(*bounds.pop()) if len(bounds) == 1 else "by its size"
        passed = sum(one.passed for one in rows)
        table.add_row(
            name, f"{statistics.median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}", accepted, f"{passed} of {len(rows)}"
        )  # fmt: skip
    Console().print(table)
    if json is not None:
        rows_ = [vars(one) | {"passed": bool(one.passed)} for one in findings]
        json.write_bytes(
            orjson.dumps(rows_, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )
    if not all(one.passed for one in findings):
        raise typer.Exit(1)
