"""Output of the commands on models: figures, warnings, models and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fraud.contracts.versions import shown
from model.report import tables, warnings

if TYPE_CHECKING:
    from model.registry import Manifest


def wide_console() -> Console:
    """Return a console on standard output, wide enough for the tables if it is not a terminal."""
    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(soft_wrap=True, width=130)


def print_tables(console: Console, figures: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Print the figures of a model as tables, and warnings below them.

    Args:
        console: Console to print on.
        figures: Figures, see `model.report.tables`.
        data: Facts about the data, see `model.report.data_warnings`.
    """
    for table in tables(figures):
        printed = Table(
            box=None, pad_edge=False, title=table.title, title_justify="left", title_style="bold"
        )
        for at, name in enumerate(table.header):
            printed.add_column(name, justify="right" if at else "left", overflow="fold")
        for row in table.rows:
            printed.add_row(
                *(
                    f"{cell.value} [dim]{cell.interval.replace('[', chr(92) + '[')}[/dim]"
                    for cell in row
                )
            )
        console.print()
        console.print(printed)
        if table.note:
            console.print(table.note, style="dim", highlight=False)
    if figures.get("importance"):
        most = ", ".join(
            f"{one['feature']} {one['share']:.0%}" for one in figures["importance"][:5]
        )
        console.print(f"\nmost weight in the scores: {most}", highlight=False)
    print_warnings(console, warnings(figures, data))


def print_warnings(console: Console, lines: Sequence[str]) -> None:
    """Print warnings that readers of any figure must know."""
    for line in lines:
        console.print(line, style="yellow", highlight=False, markup=False)


def print_trained(manifest: Manifest, *, decides: bool, took_s: float, page: Path) -> None:
    """Print how a model was made, its figures, and whether it decides.

    Args:
        manifest: Manifest of the model.
        decides: Whether it is the champion.
        took_s: Duration of the training, seconds.
        page: Path of its report.
    """
    made = manifest.training
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    row: Callable[..., None] = table.add_row
    refused = sum(made["refused"].values())
    row(
        "transactions",
        f"{made['rows']:,}",
        f"{made['unlabelled']:,} without a label, {made['repeated']:,} repeated, {refused:,} refused",
    )
    for name, period in made["periods"].items():
        row(
            name,
            f"{period['rows']:,}",
            f"{period['frauds']:,} fraud, {period['start'][:10]} to {period['end'][:10]}",
        )
    for what, count in made["refused_why"].items():
        row("", f"{count:,}", f"refused: {what}")
    row(
        "trees",
        f"{made['trees']:,}",
        f"{made['known_later']:,} labels left out: not known at {made['trained_at'][:10]}",
    )
    if made["search"]["candidates"]:
        chosen = ", ".join(f"{name} {value:g}" for name, value in made["search"]["chosen"].items())
        row(
            "settings",
            f"{made['search']['candidates']}",
            f"tried on {made['search']['folds']} folds; {chosen or 'the shipped ones are best'}",
        )
    console = wide_console()
    console.print(
        f"model [bold]{manifest.name}@{shown(manifest.version)}[/bold] trained in {took_s:.1f} s",
        highlight=False,
    )
    console.print(table)
    print_tables(console, manifest.metrics, made)
    console.print(f"report: {page}", highlight=False)
    console.print(
        "it is the champion: services decide with it"
        if decides
        else f"it decides nothing yet: fraudstream promote {manifest.name}@{shown(manifest.version)}",
        highlight=False,
    )


def print_models(known: Sequence[Manifest], decides: Sequence[bool]) -> None:
    """Print models, one per line.

    Args:
        known: Manifests of the models.
        decides: Whether each is the champion, in the same order.
    """
    table = Table(
        box=None,
        pad_edge=False,
        caption="on each model's own test period; AP is average precision, recall that at 1 % false positives",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    table.add_column("trained", no_wrap=True)
    for header in ("rows", "frauds", "AUC", "AP", "recall"):
        table.add_column(header, justify="right")
    table.add_column("", no_wrap=True)
    for one, is_champion in zip(known, decides, strict=True):
        period = one.training.get("periods", {}).get("train", {})
        table.add_row(
            f"{one.name}@{shown(one.version)}",
            one.created_at[:10],
            f"{one.training.get('rows', 0):,}",
            f"{period.get('frauds', 0):,}",
            f"{one.metrics.get('auc', 0):.3f}",
            f"{one.metrics.get('average_precision', 0):.3f}",
            f"{one.metrics.get('recall_at_fpr', {}).get('0.01', 0):.1%}",
            "champion" if is_champion else "",
        )
    wide_console().print(table)


def progress_bars(console: Console) -> Progress:
    """Return progress bars on a console."""
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    )
