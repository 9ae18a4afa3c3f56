"""The report on a model: tables, and an HTML page that adds plots."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from fraud.contracts.versions import shown
from model.datasets import DatasetError

if TYPE_CHECKING:
    from model.registry import Manifest, Registry

SIMULATED: Final = (
    "Measured on simulated transactions: the figures say that the parts work together, and predict "
    "nothing about anyone's traffic."
)
FEW_FRAUDS: Final = 100
"""Number of frauds below which the report warns that the figures are uncertain."""
MANY_REFUSED: Final = 0.05
"""Share of refused rows above which the report warns that a file may have been misread."""
_LABEL_LENGTH: Final = 40

_MODEL_COLOUR: Final = "#1f5fa8"
_RAW_COLOUR: Final = "#b8860b"


class Cell(NamedTuple):
    """A figure and its interval, as text."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the report.

    Attributes:
        title: Subject of the table.
        header: Names of the columns.
        rows: Cells, row by row.
        note: Explanation below the table.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    note: str = ""


def _at(report: Mapping[str, Any], *path: str) -> Any:
    found: Any = report
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _cell(report: Mapping[str, Any], *path: str, form: str = ".1%") -> Cell:
    value, ends = _at(report, *path), _at(report, "intervals", *path)
    if value is None:
        return Cell("-")
    interval = f"[{format(ends[0], form)}, {format(ends[1], form)}]" if ends else ""
    return Cell(format(value, form), interval)


def number_hint(refused_why: Mapping[str, int]) -> str:
    """Return a hint on how to write numbers if rows were refused for one, else an empty text."""
    if not any(one.endswith("numeric text") for one in refused_why):
        return ""
    return " Leave a cell empty where nothing is known, not N/A, and write 1.50, not 1,50 or $1.50."


def data_warnings(data: Mapping[str, Any]) -> list[str]:
    """Return warnings about data that do not count as a reader might think.

    Args:
        data: Result of `model.examples.History.told`.
    """
    said = []
    refused = sum(data["refused"].values())
    rows = data["rows"] + refused
    if refused > MANY_REFUSED * rows:
        said.append(
            f"{refused:,} of {rows:,} rows ({refused / rows:.0%}) were refused and are in no figure."
            f"{number_hint(data['refused_why'])}"
        )
    if others := data.get("other_labels"):
        named = ", ".join(
            f"{text[:_LABEL_LENGTH]!r} ({count:,})" for text, count in [*others.items()][:5]
        )
        said.append(
            f"Labels that mean neither fraud nor legitimate count as not known: {named}. Name them under [labels] if they mean one."
        )
    for file, count in data.get("bad_label_times", {}).items():
        said.append(
            f"{file}: {count:,} labels count as not known: their label_time is no ISO 8601 date, or date and time."
        )
    if unknown := data.get("amounts_without_rate"):
        codes = ", ".join([*data["currencies_without_rate"]][:5])
        more = ", ..." if len(data["currencies_without_rate"]) > 5 else ""
        said.append(
            f"{unknown:,} of {data['rows']:,} amounts have no exchange rate ({codes}{more}): to the features they are not known."
        )
    if early := data.get("learnt_from"):
        said.append(
            f"{early:,} of {data['rows']:,} transactions are from before the model was trained, and may be what it learnt from: the figures flatter it."
        )
    return said


def warnings(figures: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> list[str]:
    """Return what a reader must know before any figure.

    Args:
        figures: See `tables`.
        data: Facts about the data, see `data_warnings`.
    """
    said = [SIMULATED] if "by_campaign" in figures else []
    said += [] if data is None else data_warnings(data)
    if figures["frauds"] < FEW_FRAUDS:
        said.append(
            f"Only {figures['frauds']} frauds to measure on: the intervals are wide, and mean more than the figures."
        )
    return said


def _money_note(figures: Mapping[str, Any]) -> str:
    known = figures.get("frauds_with_amount")
    if known is None or known == figures["frauds"]:
        return ""
    return f", of the {known:,} of {figures['frauds']:,} frauds whose amount has an exchange rate"


def tables(figures: Mapping[str, Any]) -> list[Table]:
    """Arrange the figures of a model in tables.

    Args:
        figures: The `metrics` of a manifest, or a report of `model.evaluation.Measured`.
    """
    raw = figures.get("raw_fields")
    sides = (figures,) if raw is None else (figures, raw)
    beside = ("",) if raw is None else ("model", "own fields only")

    def row(name: str, *path: str, form: str = ".1%") -> tuple[Cell, ...]:
        return (Cell(name), *(_cell(side, *path, form=form) for side in sides))

    made = [
        Table(
            "Ranking",
            ("", *beside),
            [
                row("AUC", "auc", form=".3f"),
                row("average precision", "average_precision", form=".3f"),
                *(
                    row(f"recall at {float(rate):.0%} false positives", "recall_at_fpr", rate)
                    for rate in figures["recall_at_fpr"]
                ),
            ],
            f"{figures['rows']:,} transactions of {figures['entities']:,} entities, {figures['frauds']:,} of them fraud: "
            f"average precision {figures['frauds'] / figures['rows']:.4f} by chance."
            + ("" if raw is None else " Beside it the same trees on the transaction's own fields, without any history."),
        ),
        Table(
            "What people find who review so many alerts a day",
            ("alerts a day", "precision", "fraud caught", "money caught", "a day"),
            [
                (
                    Cell(budget),
                    _cell(figures, "at_alerts_per_day", budget, "precision"),
                    _cell(figures, "at_alerts_per_day", budget, "recall"),
                    _cell(figures, "at_alerts_per_day", budget, "money_caught_ratio"),
                    _cell(figures, "at_alerts_per_day", budget, "money_caught_per_day", form=",.0f"),
                )
                for budget in figures["at_alerts_per_day"]
            ],
            f"The most probable of each of {figures['days']:,} days (UTC); money in USD{_money_note(figures)}. Only labelled transactions can be counted.",
        ),
        Table(
            "What the default rules would have done",
            ("score", "fraud caught", "false positives", "precision"),
            [
                (
                    Cell(f"{least} and up"),
                    _cell(figures, "at_score", least, "recall"),
                    _cell(figures, "at_score", least, "false_positive_rate", form=".2%"),
                    _cell(figures, "at_score", least, "precision"),
                )
                for least in figures["at_score"]
            ],
        ),
        Table(
            "Calibration",
            ("", *beside),
            [
                row("Brier score", "brier", form=".5f"),
                row("that of always saying the share of fraud", "brier_of_a_constant", form=".5f"),
                row("fraud expected / observed", "predicted_to_observed_ratio", form=".2f"),
            ],
        ),
    ]  # fmt: skip
    if "by_campaign" in figures:
        rows = []
        for kind in figures["by_campaign"]:
            cells = [Cell(kind), Cell(f"{figures['by_campaign'][kind]['frauds']:,}")]
            for name, form in (("average_precision", ".3f"), ("recall_at_fpr_0.01", ".0%")):
                cells += [_cell(side, "by_campaign", kind, name, form=form) for side in sides]
            rows.append(tuple(cells))
        extra = ("",) if raw is None else (" (model)", " (own fields)")
        names = (f"{name}{one}" for name in ("AP", "recall at 1 %") for one in extra)
        made.append(
            Table(
                "By kind of fraud, in truth",
                ("", "frauds", *names),
                rows,
                "Each kind against all that is legitimate; reported or not.",
            )
        )
    return made


def html_page(
    title: str,
    subtitle: str,
    figures: Mapping[str, Any],
    curves: Mapping[str, Any],
    data: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a self-contained page: opening it loads nothing else.

    Args:
        title: Title of the page.
        subtitle: Line below the title.
        figures: See `tables`.
        curves: Points by side (`model`, `raw_fields`), from `model.evaluation.Measured.curves`.
        data: Facts about the data, see `data_warnings`.
        training: How the model was made, JSON values.
    """
    from jinja2 import Environment, PackageLoader

    template = Environment(
        loader=PackageLoader("model"), autoescape=True, trim_blocks=True
    ).get_template("report.html.j2")
    made = None if training is None else orjson.dumps(training, option=orjson.OPT_INDENT_2).decode()
    return template.render(
        title=title,
        subtitle=subtitle,
        warnings=warnings(figures, data),
        figures=figures,
        tables=tables(figures),
        plots=_plots(figures, curves),
        training=made,
    ).encode()


def keep_reports(
    models: Registry, manifest: Manifest, curves: dict[str, Any], copy: Path | None
) -> Path:
    """Store a report beside the model as HTML and as JSON; return the path of the HTML page."""
    made = manifest.training
    test = made["periods"]["test"]
    subtitle = (
        f"trained on {made['periods']['train']['rows']:,} transactions as of {made['trained_at'][:10]}, measured on "
        f"those from {test['start'][:10]} to {test['end'][:10]}, which it has not seen"
    )
    page = html_page(
        f"Model {manifest.name}@{shown(manifest.version)}",
        subtitle,
        manifest.metrics,
        curves,
        made,
        made,
    )
    ref = (manifest.name, manifest.version)
    told = {**manifest.model_dump(), "curves": curves}
    models.keep(*ref, "report.json", orjson.dumps(told, option=orjson.OPT_INDENT_2))
    if copy is not None:
        write_page(copy, page)
    return models.keep(*ref, "report.html", page)


def check_page(path: Path | None) -> None:
    """Check that a report can be written, before it is computed.

    Raises:
        DatasetError: The file cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise DatasetError(f"{path}: is a folder; name a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise DatasetError(f"{path}: no such folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise DatasetError(f"{path}: not writable")


def write_page(path: Path, page: bytes) -> None:
    """Write a report to a file.

    Raises:
        DatasetError: The file cannot be written.
    """
    try:
        path.write_bytes(page)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None


def _plots(figures: Mapping[str, Any], curves: Mapping[str, Any]) -> list[str]:
    """Draw the plots as SVG; return none if matplotlib (the extra `plots`) is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure  # opens no window, keeps no global state
    except ModuleNotFoundError:
        return []

    raw = figures.get("raw_fields")
    sides: list[tuple[str, Mapping[str, Any], str]] = [("model", figures, _MODEL_COLOUR)]
    if raw is not None:
        sides.append(("own fields only", raw, _RAW_COLOUR))
    drawn: list[str] = []

    def canvas(title: str, across: str, up: str, height: float = 3.4) -> tuple[Figure, Any]:
        figure = Figure(figsize=(5.6, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.25)
        return figure, axes

    def keep(figure: Figure) -> None:
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        drawn.append(file.getvalue()[file.getvalue().index("<svg") :])

    # A fixed salt makes pages reproducible; fonttype none keeps text as text.
    with mpl.rc_context({"svg.hashsalt": "fraudstream", "svg.fonttype": "none", "font.size": 9}):
        for name, title, across, up in (
            ("precision_recall", "Precision and recall", "recall", "precision"),
            ("roc", "Fraud caught at few false positives", "false-positive rate", "recall"),
        ):
            figure, axes = canvas(title, across, up)
            for (label, _, colour), points in zip(sides, curves.values(), strict=False):
                axes.plot(*points[name], color=colour, label=label)
            axes.set_xlim(0, 0.1 if name == "roc" else 1)
            axes.set_ylim(0, 1)
            axes.legend()
            keep(figure)
        figure, axes = canvas("Reliability", "predicted probability", "share of fraud")
        bins = [str(at) for at in range(len(figures["reliability"]))]
        points = [
            one
            for at in bins
            if (
                one := _point(
                    figures,
                    "reliability",
                    at,
                    "observed",
                    across=_at(figures, "reliability", at, "predicted"),
                )
            )
        ]
        least = min(
            [one[0] for one in points] + [one[1] for one in points if one[1] > 0], default=1e-4
        )
        axes.plot([least / 2, 1], [least / 2, 1], color="#99a", linewidth=1, linestyle="--")
        _error_bars(axes, points, _MODEL_COLOUR, "model")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=least)
        keep(figure)
        figure, axes = canvas("Reviewing the most probable of each day", "alerts a day", "share")
        for name, label, colour in (
            ("precision", "precision", _MODEL_COLOUR),
            ("recall", "fraud caught", "#2e8b57"),
            ("money_caught_ratio", "money caught", _RAW_COLOUR),
        ):
            path = ("at_alerts_per_day",)
            points = [
                one
                for budget in figures["at_alerts_per_day"]
                if (one := _point(figures, *path, budget, name, across=float(budget)))
            ]
            _error_bars(axes, points, colour, label, line=True)
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.legend()
        keep(figure)
        if kinds := list(figures.get("by_campaign", {})):
            figure, axes = canvas("Recall at 1 % false positives by kind", "recall", "")
            for offset, (label, side, colour) in zip((0.16, -0.16), sides, strict=False):
                path = ("by_campaign",)
                points = [
                    one
                    for at, kind in enumerate(reversed(kinds))
                    if (one := _point(side, *path, kind, "recall_at_fpr_0.01", across=at + offset))
                ]
                _error_bars(axes, points, colour, label, lying=True)
            axes.set_yticks(range(len(kinds)), list(reversed(kinds)))
            axes.set_xlim(0, 1)
            axes.legend()
            keep(figure)
        if weights := list(reversed(figures.get("importance", [])[:15])):
            figure, axes = canvas(
                "Share in how scores come about", "share of mean |TreeSHAP|", "", 4.2
            )
            points = [(at, one["share"], *one["interval"]) for at, one in enumerate(weights)]
            _error_bars(axes, points, _MODEL_COLOUR, "", lying=True)
            axes.set_yticks(range(len(weights)), [one["feature"] for one in weights])
            keep(figure)
    return drawn


_Point = tuple[float, float, float, float]


def _point(report: Mapping[str, Any], *path: str, across: float | None) -> _Point | None:
    value, ends = _at(report, *path), _at(report, "intervals", *path)
    return None if value is None or across is None or not ends else (across, value, *ends)


def _error_bars(
    axes: Any,
    points: Sequence[_Point],
    colour: str,
    label: str,
    *,
    line: bool = False,
    lying: bool = False,
) -> None:
    if not points:
        return
    across, value, low, high = (list(one) for one in zip(*points, strict=True))
    # A figure may lie outside its interval; error bars cannot be negative.
    below = [max(v - one, 0.0) for v, one in zip(value, low, strict=True)]
    above = [max(one - v, 0.0) for v, one in zip(value, high, strict=True)]
    form: dict[str, Any] = {
        "fmt": "o-" if line else "o",
        "color": colour,
        "capsize": 2,
        "markersize": 4,
        "linewidth": 1,
        "label": label or None,
    }
    if lying:
        axes.errorbar(value, across, xerr=[below, above], **form)
    else:
        axes.errorbar(across, value, yerr=[below, above], **form)
