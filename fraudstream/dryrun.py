"""The command that tries rules on past decisions, and parts shared with related commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fraud.backtest.counts import Tally
from fraud.backtest.dry_run import OutcomeChange, Report, RuleReport, dry_run
from fraud.backtest.runner import BacktestRunner
from fraud.decision.lists import Lookup, lookups
from fraud.kafka.range_reader import CannotRead, Stopped
from fraud.policy.editor import NoSuch
from fraud.policy.entry_files import EntryFileError, read_entries
from fraud.policy.state import PolicyState
from fraud.runtime.command_line import JsonOption
from fraud.runtime.lifecycle import load_settings, stop_event
from fraud.runtime.settings import KafkaSettings
from fraudstream.policy_session import policy_session, read_file

DAYS: Final = 30
"""Days of past decisions that are read by default: as long as Kafka keeps them by default."""

DaysOption = Annotated[
    float, typer.Option(min=0.001, help="How far back; Kafka keeps 30 days by default.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Transactions at most, the latest ones.")
]


def try_rules(
    file: Annotated[str, typer.Argument(help="Rule set in TOML, or a version that `list` shows.")],
    days: DaysOption = DAYS,
    limit: LimitOption = None,
    entries: Annotated[
        list[str] | None,
        typer.Option(
            "--entries",
            metavar="LIST=FILE",
            help="Try it with more entries on a list; several times for several lists.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what rules would have done with the transactions of the last days. Nothing changes.

    Rules are evaluated as in the stream, on the features, scores and fields of past decisions.
    """
    with policy_session() as at:
        path = Path(file)
        known = at.policy_state.rule_version(file) if not path.exists() else None
        draft = known.rules if known is not None else read_file(path)
        tried = _tried_lists(at.policy_state, entries or [])
        with backtesting(load_settings(KafkaSettings), days, limit) as runner:
            report = dry_run(runner, at.policy_state, draft, lists=tried)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _print_report(report)


def _tried_lists(policy_state: PolicyState, options: Sequence[str]) -> dict[str, Lookup] | None:
    """Return the lists with the entries of `--entries` added, None without this option."""
    if not options:
        return None
    lists = policy_state.lists()
    tried = lookups(lists)
    for option in options:
        name, equals, path = option.partition("=")
        if not equals:
            raise EntryFileError(f"--entries: expected LIST=FILE, got {option}")
        if name not in lists:
            raise NoSuch(f"--entries: unknown list: {name}")
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EntryFileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        tried |= lookups({name: lists[name].with_entries(read_entries(text))})
    return tried


@contextmanager
def backtesting(
    settings: KafkaSettings, days: float, limit: int | None
) -> Iterator[BacktestRunner]:
    """Show the progress of reading, end it on Ctrl-C, and print one line if it fails."""
    console = Console(stderr=True, soft_wrap=True)
    # Ctrl-C ends the reading; afterwards, the handlers from before are restored.
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    bars = Progress(
        TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip
    try:
        with bars:
            task = bars.add_task("reading", total=None)

            def progress(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total)

            yield BacktestRunner(settings, days, limit, progress, stop_event())
    except Stopped:
        raise typer.Exit(130) from None
    except CannotRead as error:
        console.print(f"fraudstream: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def wide_console() -> Console:
    """Return a console on standard output, wide enough for tables if it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=160, highlight=False)


def percent(part: float | None) -> str:
    """Return a share as a percentage, or a dash if it is unknown."""
    return "-" if part is None else f"{part:.1%}"


def _print_report(report: Report) -> None:
    console = wide_console()
    period, total = report.period, report.total
    console.print(
        f"rules {report.draft} on {total.transactions:,} transactions from {period.first_scored_at or period.since} "
        f"to {period.last_scored_at or 'now'}, against the active {report.active}; {report.took_s:.1f} s"
    )
    passed_over = [
        f"{count:,} {what}"
        for count, what in (
            (period.duplicates, "duplicates"),
            (period.repeated, "published again"),
            (period.unscored, "whose scoring had failed"),
            (period.unreadable, "that are no decisions"),
        )
        if count
    ]
    if passed_over:
        console.print(f"passed over: {', '.join(passed_over)}")
    if total.fraud + total.legitimate:
        console.print(f"known by labels: {total.fraud:,} fraud, {total.legitimate:,} legitimate")
    else:
        console.print(
            "no labels are known of them: fraud caught and false positives cannot be said"
        )

    table = Table(title="outcomes", title_justify="left", box=None, pad_edge=False)
    for title in (
        "",
        "decided",
        "active rules",
        "draft",
        "draft: amount",
        "fraud",
        "false positives",
    ):
        table.add_column(title, justify="right" if title else "left")
    for outcome in report.by_draft:
        draft = report.by_draft[outcome]
        table.add_row(
            outcome,
            f"{report.decided[outcome].transactions:,}",
            f"{report.by_active[outcome].transactions:,}",
            *_row(draft, acted=outcome != "approve"),
        )
    console.print(table)
    for title, changes in (
        ("changes against what was decided", report.against_decided),
        ("changes against the active rules", report.against_active),
    ):
        _print_changes(console, title, changes)
    _print_rules(console, "rules of the draft", report.rules, "in common with active rules")
    if report.lists:
        table = Table(title="lists", title_justify="left", box=None, pad_edge=False)
        for title in ("list", "use", "hits", "amount", "fraud", "false positives"):
            table.add_column(title, justify="left" if title in ("list", "use") else "right")
        for one in report.lists:
            table.add_row(escape(one.name), one.use, *_row(one.hits, acted=one.use != "allow"))
        console.print(table)


def _row(tally: Tally, *, acted: bool) -> tuple[str, ...]:
    return (
        f"{tally.transactions:,}",
        f"{tally.amount:,.2f}",
        f"{tally.fraud:,}",
        f"{tally.legitimate:,}" if acted else "",
    )


def _print_changes(console: Console, title: str, changes: Sequence[OutcomeChange]) -> None:
    changed = [one for one in changes if one.before != one.after and one.transactions.transactions]
    if not changed:
        console.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("from", "to", "transactions", "amount", "fraud", "legitimate", "examples"):
        table.add_column(name, justify="left" if name in ("from", "to", "examples") else "right")
    for one in changed:
        tally = one.transactions
        table.add_row(
            one.before, one.after, *_row(tally, acted=True),
            escape(", ".join(example.event_id for example in one.examples[:2])),
        )  # fmt: skip
    console.print(table)


def _print_rules(console: Console, title: str, rules: Sequence[RuleReport], overlap: str) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (
        "rule",
        "outcome",
        "hits",
        "amount",
        "fraud",
        "false positives",
        "precision",
        "recall",
        "alone",
        "changed",
        overlap,
    ):
        table.add_column(name, justify="left" if name in ("rule", "outcome", overlap) else "right")
    for rule in rules:
        common = ", ".join(
            f"{escape(one.id)} {percent(one.transactions / rule.hits.transactions)}"
            for one in rule.overlap[:2]
        )
        table.add_row(
            escape(f"{rule.id}@{rule.version}"),
            rule.outcome,
            *_row(rule.hits, acted=rule.outcome != "approve"),
            percent(rule.precision),
            percent(rule.recall),
            f"{rule.alone:,}",
            f"{rule.changed:,}",
            common,
        )
    console.print(table)
    for rule in rules:
        if rule.examples:
            ids = ", ".join(escape(one.event_id) for one in rule.examples)
            console.print(f"  {escape(rule.id)}: {ids}", style="dim")
