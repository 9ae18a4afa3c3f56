"""Commands on the challenger: switch it, compare it, and compute decisions again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fraud.runtime.command_line import JsonOption, RegistryOption, failing
from fraudstream.dryrun import DAYS, DaysOption, LimitOption, percent

# Everything else is imported where it is used, so that `fraudstream --help` answers at once.
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fraud.backtest.comparison import Compared, FigureDifference, Quality

challenge = typer.Typer(
    help="The challenger: a model or rules that decide in shadow, beside what decides.",
    no_args_is_help=True,
)

NOBODY = "none"


@challenge.command("model")
def challenge_model(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or none.")],
    registry: RegistryOption = None,
) -> None:
    """Let a model score in shadow, on the same traffic: the running job and API switch at once."""
    from fraud.runtime.lifecycle import load_settings
    from fraud.runtime.settings import ModelSettings
    from fraudstream.policy_session import policy_session
    from model.registry import ModelError, Registry

    with policy_session() as at:
        ref = None
        if model != NOBODY:
            models = Registry(registry or load_settings(ModelSettings).model_registry)
            try:
                ref = models.find(model)
                # One that cannot be used is refused here, and not by every worker.
                models.load(ref.name, ref.version)
            except ModelError as error:
                raise failing(error) from None
        at.editor.challenge_model(ref)
    typer.echo("no model challenges" if ref is None else f"challenger: {ref.name}@{ref.version}")


@challenge.command("rules")
def challenge_rules(
    version: Annotated[str, typer.Argument(help="Version that `rules list` shows, or none.")],
) -> None:
    """Let a version of the rules decide in shadow, on the same traffic."""
    from fraudstream.policy_session import policy_session

    with policy_session() as at:
        at.editor.challenge_rules(None if version == NOBODY else version)
    typer.echo("no rules challenge" if version == NOBODY else f"challenger: rules {version}")


def compare(
    days: DaysOption = DAYS, limit: LimitOption = None, as_json: JsonOption = False
) -> None:
    """Compare the challenger with what decided: agreement, outcomes, scores, and which is better."""
    from fraud.backtest.comparison import compare_shadow
    from fraud.runtime.lifecycle import load_settings
    from fraud.runtime.settings import KafkaSettings
    from fraudstream.dryrun import backtesting, wide_console
    from fraudstream.environment import complete_environment

    complete_environment()
    with backtesting(load_settings(KafkaSettings), days, limit) as runner:
        found = compare_shadow(runner)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    console = wide_console()
    if not found.combinations:
        console.print(
            f"no challenger decided since {found.since}, in {found.read:,} records: "
            "fraudstream challenge model NAME, or fraudstream challenge rules VERSION"
        )
    elif found.without_challenger:
        console.print(f"{found.without_challenger:,} decisions had no challenger beside them")
    for one in found.combinations:
        _print_compared(one)


def _print_compared(one: Compared) -> None:
    from rich.markup import escape
    from rich.table import Table

    from fraudstream.dryrun import wide_console

    console = wide_console()
    console.print()
    console.print(
        f"[bold]champion[/bold] {escape(one.champion)} by rules {one.rules}, "
        f"[bold]challenger[/bold] {escape(one.challenger)} by rules {one.challenger_rules}"
    )
    console.print(
        f"{one.decisions:,} decisions from {one.first_scored_at} to {one.last_scored_at}; "
        f"{one.agreement:.2%} end the same"
    )
    score = one.score
    console.print(
        f"challenger's score minus champion's: mean {score.mean:+.1f}, mean size {score.mean_absolute:.1f}, "
        f"5 % below {score.p5:+d}, half below {score.p50:+d}, 95 % below {score.p95:+d}; "
        f"{score.lower:,} lower, {score.higher:,} higher"
    )
    table = Table(title="outcomes", title_justify="left", box=None, pad_edge=False)
    for name in ("champion", "challenger", "transactions", "amount", "fraud", "legitimate"):
        table.add_column(name, justify="left" if name.startswith("ch") else "right")
    for change in one.outcomes:
        tally = change.transactions
        if tally.transactions:
            table.add_row(
                change.champion, change.challenger, f"{tally.transactions:,}",
                f"{tally.amount:,.2f}", f"{tally.fraud:,}", f"{tally.legitimate:,}",
            )  # fmt: skip
    console.print(table)
    if one.rule_hits:
        table = Table(title="rules", title_justify="left", box=None, pad_edge=False)
        for name in ("rule", "champion", "challenger", "both"):
            table.add_column(name, justify="left" if name == "rule" else "right")
        for rule in one.rule_hits:
            counts = (rule.champion, rule.challenger, rule.both)
            table.add_row(f"{escape(rule.id)}@{rule.version}", *(f"{count:,}" for count in counts))
        console.print(table)
    if one.quality is None:
        console.print(
            "which is better cannot be said: no fraud, or nothing legitimate, is known yet"
        )
    else:
        console.print(_quality_table(one.quality))


def _quality_table(quality: Quality) -> object:
    from rich.table import Table

    table = Table(
        title=f"where labels are known: {quality.labelled:,} transactions of {quality.entities:,} "
        f"entities, {quality.fraud:,} of them fraud",
        title_justify="left",
        box=None,
        pad_edge=False,
        caption="95 % intervals, entities drawn again; better where that of the difference does not hold 0",
        caption_justify="left",
    )
    for name in ("", "champion", "challenger", "difference", "better"):
        table.add_column(
            name, justify="right" if name in ("champion", "challenger", "difference") else "left"
        )
    for figure in quality.figures:
        table.add_row(figure.name, *_figure_cells(figure), figure.better or "")
    return table


def _figure_cells(figure: FigureDifference) -> Iterator[str]:
    for value, interval in (
        (figure.champion, figure.champion_interval),
        (figure.challenger, figure.challenger_interval),
    ):
        ends = "" if interval is None else f" ({interval[0]:.1%} to {interval[1]:.1%})"
        yield percent(value) + ends
    if figure.difference is None:
        yield "-"
    else:
        low, high = figure.interval or (float("nan"), float("nan"))
        yield f"{figure.difference:+.1%} ({low:+.1%} to {high:+.1%})"


def recheck(
    days: DaysOption = DAYS,
    limit: LimitOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute past decisions again from the versions they name; exit code 1 when any differs."""
    from fraud.backtest.recheck import recheck as compute_again
    from fraud.contracts.decision import ModelRef
    from fraud.decision.scorer import Scorer
    from fraud.runtime.lifecycle import load_settings
    from fraudstream.dryrun import backtesting, wide_console
    from fraudstream.environment import complete_environment
    from model.registry import ModelError, Registry
    from model.settings import PromoteSettings

    complete_environment()
    settings = load_settings(PromoteSettings)
    models = Registry(registry or settings.model_registry)
    problems: dict[str, str] = {}

    def scorer(ref: ModelRef) -> Scorer | None:
        try:
            return models.load(ref.name, ref.version)
        except (ModelError, OSError) as error:
            problems[f"{ref.name}@{ref.version}"] = str(error)
            return None

    with backtesting(settings, days, limit) as runner:
        found = compute_again(runner, scorer)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        console = wide_console()
        console.print(
            f"{found.decisions:,} decisions by {len(found.policies):,} policies: {found.computed:,} computed "
            f"again, {found.differing:,} differ"
        )
        for what, count in found.by_field.items():
            console.print(f"  {count:,} differ in {what}", markup=False)
        for what, count in found.not_computed.items():
            console.print(f"  {count:,} could not be computed: no {what}", markup=False)
        if found.unreadable:
            console.print(f"  {found.unreadable:,} records are no decisions")
        for problem in problems.values():
            console.print(f"  {problem}", markup=False)
        for one in found.examples:
            console.print(
                f"  {one.source} {one.event_id}: {one.field} is {one.says}, computed {one.computed}",
                markup=False,
            )
    if not found.holds:
        raise typer.Exit(1)
