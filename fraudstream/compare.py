"""Commands that compare or recompute past decisions: `compare` and `recheck`."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from rich.markup import escape
from rich.table import Table

from fraud.backtest.comparison import Compared, FigureDifference, Quality, compare_shadow
from fraud.backtest.recheck import recheck as compute_again
from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import shown
from fraud.decision.scorer import Scorer
from fraud.runtime.command_line import JsonOption, RegistryOption
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.settings import KafkaSettings
from fraudstream.dryrun import DAYS, DaysOption, LimitOption, backtesting, percent, wide_console
from model.registry import ModelError, Registry
from model.settings import PromoteSettings


def compare(
    days: DaysOption = DAYS, limit: LimitOption = None, as_json: JsonOption = False
) -> None:
    """Compare the challenger with what decided: agreement, outcomes, scores, and which is better."""
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
    settings = load_settings(PromoteSettings)
    models = Registry(registry or settings.model_registry)
    problems: dict[str, str] = {}

    def scorer(ref: ModelRef) -> Scorer | None:
        try:
            return models.load(ref.name, ref.version)
        except (ModelError, OSError) as error:
            problems[f"{ref.name}@{shown(ref.version)}"] = str(error)
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
