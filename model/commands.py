"""Commands on models: `train`, `evaluate`, `score`, `models`, `promote`, `rollback`.

`python -m model` runs them as they stand; `fraudstream` has the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fraud.kit.command_line import JsonOption, RegistryOption, failing, print_json

# All else is imported where it is used, so that `fraudstream --help` answers at once.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.progress import Progress

    from fraud.contracts.decision import ModelRef
    from model.evaluation import Period
    from model.examples import History, Source
    from model.registry import Manifest, Registry
    from model.settings import TrainSettings

HISTORY_FILES: Final = ("*.parquet", "*.jsonl")
DEFAULT_NAME: Final = "fraud"

app = typer.Typer(
    help="Train models, list them, and score files with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataOption = Annotated[
    list[Path], typer.Option("--data", "-d", help="CSV, JSON lines or Parquet; once or more.")
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        "-m",
        help="TOML file: which column is which field. Without: columns have our names.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(help="NAME or NAME@VERSION. Without: the champion.")
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="Encoding of CSV files, such as latin-1. Without: UTF-8, or by its mark."),
]
AlertsOption = Annotated[
    int, typer.Option(min=1, help="Alerts that people can review in a day, for the report.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also when it is worse than the champion.")
]
OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Promote in the registry alone. Services that Kafka told of a champion stay with it.",
    ),
]


@app.command()
def train(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            "-d",
            help="CSV, JSON lines or Parquet; several times for several files. Without: simulated "
            "history, which is made if there is none.",
        ),
    ] = None,
    mapping: MappingOption = None,
    name: Annotated[str, typer.Option(help="Name of the model.")] = DEFAULT_NAME,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Same data and seed, same model.")
    ] = 7,
    registry: RegistryOption = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Only when there is no champion to use.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", help="Let it decide at once. Without: only if no model decides yet."
        ),
    ] = False,
    force: ForceOption = False,
    offline: OfflineOption = False,
    search: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Settings to try before the model is trained. Without: 8; none with --if-missing.",
        ),
    ] = None,
    alerts_per_day: AlertsOption = 50,
    report: Annotated[
        Path | None, typer.Option(help="Also write the HTML report to this file.")
    ] = None,
    encoding: EncodingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on labelled transactions, and measure it on the latest of them."""
    import os
    import time

    from rich.console import Console

    from fraud.contracts.decision import ModelRef

    # Read once, when XGBoost loads its threads: waiting by spinning, their default, makes training
    # six times slower beside other work on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from model.registry import NoSuchModel, check_name

    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        if if_missing and (usable := _usable_champion(models, console)):
            console.print(f"champion {usable} is there; nothing to train", highlight=False)
            return
        # The first champion needs no telling: without a document services take the registry's.
        tell = _teller(offline=offline or not promote)
        sources = _sources(settings, data or [], mapping, encoding)
        # Training needs half a second of imports that the lines above need not wait for.
        from model.training import FIRST_LEGITIMATE, SEARCH, TrainingConfig
        from model.training import train as train_model

        check_name(name)
        _check_page(report)
        models.make()
        config = TrainingConfig(
            seed=seed,
            search=(0 if if_missing else SEARCH) if search is None else search,
            # Whoever starts the system for the first time waits for it.
            most_legitimate=FIRST_LEGITIMATE if if_missing else None,
            alerts_per_day=alerts_per_day,
        )
        started = time.monotonic()
        with _bars(console) as bars:
            history, matrix = _vectors(sources, bars)
            vectors_s = time.monotonic() - started
            searching = bars.add_task("search", total=config.search, visible=config.search > 1)
            growing = bars.add_task("trees", total=config.max_rounds)
            trained = train_model(
                history,
                matrix,
                config,
                lambda trees: bars.update(growing, completed=trees),
                lambda tried: bars.update(searching, completed=tried),
            )
            bars.update(growing, completed=config.max_rounds)
        manifest = models.add(
            name,
            trained.booster,
            trained.scale,
            metrics=trained.metrics,
            training={**trained.training, "simulated": not data},
            later=trained.later.to_bytes(),
        )
        page = _write_reports(models, manifest, trained.curves, report)
    refusal = ""
    with _user_errors():
        try:
            decides = models.champion_ref().version == manifest.version
            first = False
        except NoSuchModel:
            decides, first = False, True
        if promote or first or if_missing:
            # What cannot be used is replaced without a comparison, and so is nothing.
            refusal = "" if force else _refusal(models, manifest)
            if not refusal:
                made = ModelRef(name=manifest.name, version=manifest.version)
                with _on_record(settings, models, made):
                    tell(models.promote(manifest.name, manifest.version).ref)
                decides = True
    took_s = time.monotonic() - started
    if as_json:
        told = {
            **manifest.model_dump(),
            "champion": decides,
            "took_s": round(took_s, 3),
            "vectors_s": round(vectors_s, 3),
        }
        print_json({**told, "report": str(page), "refused": refusal or None})
    else:
        _print_report(manifest, decides=decides, took_s=took_s, page=page)
    if refusal:
        raise failing(f"not promoted: {refusal}")


@app.command()
def evaluate(
    data: DataOption,
    mapping: MappingOption = None,
    model: ModelOption = None,
    registry: RegistryOption = None,
    alerts_per_day: AlertsOption = 50,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    encoding: EncodingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on files of labelled transactions. They should be later than what it learnt from."""
    from rich.console import Console

    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        _check_page(report)
        ref = models.champion_ref() if model is None else models.find(model)
        scorer = models.load(ref.name, ref.version)
        from model.evaluation import measure
        from model.promotion import learnt_until_ms
        from model.report import html_page, print_tables, wide_console

        period, read = _period(settings, data, mapping, encoding, console)
        until_ms = learnt_until_ms(models.manifest(ref.name, ref.version), period)
        read["learnt_from"] = int((period.event_time_ms < until_ms).sum())
        measured = measure(
            period,
            scorer.predict(period.matrix),
            scorer.scale,
            alerts_per_day=alerts_per_day,
        )
        figures = measured.report()
        names = ", ".join(path.name for path in data)
        if report is not None:
            title = f"Model {ref.name}@{ref.version}"
            page = html_page(
                title, f"measured on {names}", figures, {"model": measured.curves}, read
            )
            _write_page(report, page)
    if as_json:
        files = [str(path) for path in data]
        print_json({"model": ref.model_dump(), "files": files, "data": read, **figures})
        return
    console = wide_console()
    console.print(f"model [bold]{ref.name}@{ref.version}[/bold] on {names}", highlight=False)
    print_tables(console, figures, read)
    if report is not None:
        console.print(f"report: {report}", highlight=False)


@app.command("models")
def list_models(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """List the models of the registry, oldest first."""
    from rich.table import Table

    from model.registry import NoSuchModel
    from model.report import wide_console

    _, models = _open(registry)
    with _user_errors():
        known = models.models()
        try:
            champion = models.champion_ref()
        except NoSuchModel:
            champion = None
    decides = [
        champion is not None and (one.name, one.version) == (champion.name, champion.version)
        for one in known
    ]
    if as_json:
        print_json(
            [
                {**one.model_dump(exclude={"features", "scale"}), "champion": is_champion}
                for one, is_champion in zip(known, decides, strict=True)
            ]
        )
        return
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
            f"{one.name}@{one.version}",
            one.created_at[:10],
            f"{one.training.get('rows', 0):,}",
            f"{period.get('frauds', 0):,}",
            f"{one.metrics.get('auc', 0):.3f}",
            f"{one.metrics.get('average_precision', 0):.3f}",
            f"{one.metrics.get('recall_at_fpr', {}).get('0.01', 0):.1%}",
            "champion" if is_champion else "",
        )
    console = wide_console()
    if known:
        console.print(table)
    else:
        console.print(f"no models in {models.folder} yet: fraudstream train")


@app.command()
def score(
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .csv, .jsonl or .parquet.")
    ],
    mapping: MappingOption = None,
    model: ModelOption = None,
    registry: RegistryOption = None,
    encoding: EncodingOption = None,
) -> None:
    """Score files offline, in event order, as the stream would have: event_id, probability, score, outcome.

    The outcome is that of the shipped rules, whatever rules are active. Labels are not needed. A row
    that the stream would refuse has no line in the output; how many there are is said.
    """
    from rich.console import Console

    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        ref = models.champion_ref() if model is None else models.find(model)
        scorer = models.load(ref.name, ref.version)
        from model.offline import check_output, decide_rows, write_decisions
        from model.report import data_warnings, print_warnings

        check_output(output, [*data, *([mapping] if mapping else [])])
        sources = _sources(settings, data, mapping, encoding, labels=False)
        with _bars(console) as bars:
            history, matrix = _vectors(sources, bars)
            decisions = decide_rows(history, matrix, scorer)
            write_decisions(decisions, output)
    refused = sum(history.refused.values())
    console.print(
        f"{len(history):,} transactions scored by {ref.name}@{ref.version}, {refused:,} refused: {output}",
        highlight=False,
    )
    for what, count in history.refused_why.items():
        console.print(f"{count:,} refused: {what}", highlight=False)
    print_warnings(console, data_warnings(history.told()))


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            "-d",
            help="Later labelled transactions to compare it with the champion on; of these, what came "
            "after both were trained counts. Without: those it was tested on.",
        ),
    ] = None,
    mapping: MappingOption = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also when it is worse than the champion, or of other features."
        ),
    ] = False,
    registry: RegistryOption = None,
    encoding: EncodingOption = None,
    offline: OfflineOption = False,
) -> None:
    """Let a model decide, unless it is worse than the champion: the running job and API switch at once."""
    from rich.console import Console

    settings, models = _open(registry)
    with _user_errors():
        ref = models.find(model)
        tell = _teller(offline=offline)
        if not force:
            from model.promotion import check

            console = Console(stderr=True, soft_wrap=True)
            period = _period(settings, data, mapping, encoding, console)[0] if data else None
            compared = check(models, ref, period)
            if compared is not None:
                typer.echo(str(compared), err=True)
        with _on_record(settings, models, ref):
            tell(models.promote(ref.name, ref.version, force=force).ref)
    typer.echo(f"champion: {ref.name}@{ref.version}")


@app.command()
def rollback(registry: RegistryOption = None, offline: OfflineOption = False) -> None:
    """Let the champion before this one decide again: the running job and API switch at once."""
    settings, models = _open(registry)
    with _user_errors():
        tell = _teller(offline=offline)
        with _on_record(settings, models, models.earlier_ref()):
            champion = models.rollback()
            tell(champion.ref)
    typer.echo(f"champion: {champion.name}@{champion.version}")


def simulated_history(settings: TrainSettings) -> list[Path]:
    """Give the files of the simulated history, empty when none was written yet."""
    return sorted(
        path for pattern in HISTORY_FILES for path in settings.history_folder.glob(pattern)
    )


def simulate_history(settings: TrainSettings) -> None:
    """Have the producer write a history, as a process of its own: models import no service.

    Raises:
        DatasetError: It could not.
    """
    import subprocess
    import sys

    from model.datasets import DatasetError

    output = settings.history_folder / "history.parquet"
    options = {
        "--days": settings.train_history_days,
        "--customers": settings.train_history_customers,
        "--seed": settings.train_history_seed,
        "--output": output,
    }
    asked = [str(part) for option in options.items() for part in option]
    made = subprocess.run([sys.executable, "-m", "producer", "history", *asked], check=False)
    if made.returncode or not output.exists():
        raise DatasetError(f"no history could be simulated into {output}; see above for why")


def _open(folder: Path | None) -> tuple[TrainSettings, Registry]:
    from fraud.kit.lifecycle import load_settings
    from model.registry import Registry
    from model.settings import TrainSettings

    settings = load_settings(TrainSettings)
    return settings, Registry(folder or settings.model_registry)


def _teller(*, offline: bool) -> Callable[[ModelRef], None]:
    """Give what tells running services of a champion.

    Called before the registry is changed, to see whether they can be told.

    Raises:
        CannotPublish: No broker answers.
    """
    if offline:
        return lambda _: None
    from fraud.governance.book import ControlBook
    from fraud.governance.desk import Desk
    from fraud.kit.control import CannotPublish, ControlPublisher
    from fraud.kit.lifecycle import load_settings, user_name
    from model.settings import PromoteSettings

    publisher = ControlPublisher(load_settings(PromoteSettings))
    publisher.check()
    desk = Desk(publisher, ControlBook)

    def tell(ref: ModelRef) -> None:
        try:
            desk.champion(ref, user_name())
        except CannotPublish as error:
            raise CannotPublish(
                f"{ref.name}@{ref.version} is the registry's champion, but running services were not "
                f"told: {error} Then: fraudstream promote {ref.name}@{ref.version}"
            ) from None

    return tell


@contextmanager
def _on_record(settings: TrainSettings, models: Registry, ref: ModelRef) -> Iterator[None]:
    """Record that a model is to decide, then let the block see to it."""
    from fraud.governance.audited import By, champion_on_record
    from fraud.kit.audit import AuditLog, at_the_command_line
    from fraud.kit.logs import configure_command_logs
    from model.registry import NoSuchModel

    configure_command_logs()

    try:
        before = models.champion_ref()
    except NoSuchModel:
        before = None
    by = By(at_the_command_line())
    with champion_on_record(AuditLog(settings.state_dir), by, before, ref):
        yield


def _usable_champion(models: Registry, console: Console) -> str | None:
    """Name the champion if it can be used; None when one has to be trained.

    A champion that was trained on the simulated history and fits this program no more is replaced.
    Any other one is somebody's own: that it cannot be used is for them to hear.
    """
    from model.registry import ModelMismatch, NoSuchModel

    try:
        ref = models.champion_ref()
    except NoSuchModel:
        return None
    try:
        models.load(ref.name, ref.version)
    except ModelMismatch as error:
        if not models.manifest(ref.name, ref.version).training.get("simulated"):
            raise
        console.print(f"{error}: doing so", highlight=False)
        return None
    return f"{ref.name}@{ref.version}"


def _refusal(models: Registry, manifest: Manifest) -> str:
    """Say why a new model may not decide, empty when it may."""
    from fraud.contracts.decision import ModelRef
    from model.promotion import PromotionRefused, check

    try:
        check(models, ModelRef(name=manifest.name, version=manifest.version))
    except PromotionRefused as refused:
        return str(refused)
    return ""


def _write_reports(
    models: Registry, manifest: Manifest, curves: dict[str, Any], copy: Path | None
) -> Path:
    """Keep the page and the JSON of a report beside the model; give the page's path."""
    import orjson

    from model.report import html_page

    made = manifest.training
    test = made["periods"]["test"]
    subtitle = (
        f"trained on {made['periods']['train']['rows']:,} transactions as of {made['trained_at'][:10]}, measured on "
        f"those from {test['start'][:10]} to {test['end'][:10]}, which it has not seen"
    )
    page = html_page(
        f"Model {manifest.name}@{manifest.version}", subtitle, manifest.metrics, curves, made, made
    )
    ref = (manifest.name, manifest.version)
    told = {**manifest.model_dump(), "curves": curves}
    models.keep(*ref, "report.json", orjson.dumps(told, option=orjson.OPT_INDENT_2))
    if copy is not None:
        _write_page(copy, page)
    return models.keep(*ref, "report.html", page)


def _check_page(path: Path | None) -> None:
    """Check that a report can be written, before anything is computed for it."""
    import os

    from model.datasets import DatasetError

    if path is None:
        return
    if path.is_dir():
        raise DatasetError(f"{path}: is a folder; name a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise DatasetError(f"{path}: no such folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise DatasetError(f"{path}: not to be written to")


def _write_page(path: Path, page: bytes) -> None:
    from model.datasets import DatasetError

    try:
        path.write_bytes(page)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None


def _period(
    settings: TrainSettings,
    files: Sequence[Path],
    mapping: Path | None,
    encoding: str | None,
    console: Console,
) -> tuple[Period, dict[str, Any]]:
    """Read files to measure on; also what there is to know about them."""
    from model.training import measurable, period_of

    with _bars(console) as bars:
        history, matrix = _vectors(_sources(settings, files, mapping, encoding), bars)
    return period_of(history, matrix, measurable(history)), history.told()


def _vectors(sources: Sequence[Source], bars: Progress) -> tuple[History, NDArray[np.float32]]:
    from model.examples import feature_rows

    history = _read(sources, bars)
    computing = bars.add_task("features", total=len(history))
    return history, feature_rows(history, lambda rows: bars.advance(computing, rows))


def _sources(
    settings: TrainSettings,
    files: Sequence[Path],
    mapping: Path | None,
    encoding: str | None,
    *,
    labels: bool = True,
) -> list[Source]:
    from model.datasets import TARGETS, ColumnMapping, Dataset, DatasetError
    from model.examples import Source

    simulated = not files
    if not files:
        if mapping is not None:
            raise DatasetError("--mapping is of use with --data only")
        files = simulated_history(settings)
        if not files:
            simulate_history(settings)
            files = simulated_history(settings)
    sources = []
    for file in files:
        dataset = Dataset(file, encoding=encoding)
        if mapping is not None:
            columns = ColumnMapping.read(mapping)
        else:
            # Rows of JSON lines need not all have the same: any of our names may come late.
            there = TARGETS if dataset.kind == "jsonl" else dataset.columns()
            columns = ColumnMapping(
                {name: name for name in TARGETS if name in there}, name="without a mapping"
            )
        if not labels:
            columns = columns.without_labels()
        dataset.check(columns)
        sources.append(Source(dataset, columns, simulated))
    return sources


def _read(sources: Sequence[Source], bars: Progress) -> History:
    import gc

    from model.examples import read_history

    reading = bars.add_task("reading", total=len(sources))

    def report(_rows: int) -> None:
        shares = [one.dataset.progress.done / one.dataset.progress.total for one in sources]
        bars.update(reading, completed=sum(shares))

    # Millions of rows that form no cycles: looking for some costs a quarter of the time.
    gc.disable()
    try:
        history = read_history(sources, report)
    finally:
        gc.enable()
    bars.update(reading, completed=len(sources))
    return history


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    )


@contextmanager
def _user_errors() -> Iterator[None]:
    """End with one clear line, exit code 2, when files, labels or models are not as needed."""
    from fraud.kit.control import CannotPublish
    from model.datasets import DatasetError
    from model.registry import ModelError

    try:
        yield
    except (CannotPublish, DatasetError, ModelError) as error:
        raise failing(error) from None


def _print_report(manifest: Manifest, *, decides: bool, took_s: float, page: Path) -> None:
    from rich.table import Table

    from model.report import print_tables, wide_console

    made = manifest.training
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    row: Callable[..., None] = table.add_row
    refused = sum(made["refused"].values())
    row("transactions", f"{made['rows']:,}", f"{made['unlabelled']:,} without a label, {made['repeated']:,} repeated, {refused:,} refused")  # fmt: skip
    for name, period in made["periods"].items():
        row(name, f"{period['rows']:,}", f"{period['frauds']:,} fraud, {period['start'][:10]} to {period['end'][:10]}")  # fmt: skip
    for what, count in made["refused_why"].items():
        row("", f"{count:,}", f"refused: {what}")
    row("trees", f"{made['trees']:,}", f"{made['known_later']:,} labels left out: not known at {made['trained_at'][:10]}")  # fmt: skip
    if made["search"]["candidates"]:
        chosen = ", ".join(f"{name} {value:g}" for name, value in made["search"]["chosen"].items())
        row("settings", f"{made['search']['candidates']}", f"tried on {made['search']['folds']} folds; {chosen or 'the shipped ones are best'}")  # fmt: skip
    console = wide_console()
    console.print(f"model [bold]{manifest.name}@{manifest.version}[/bold] trained in {took_s:.1f} s", highlight=False)  # fmt: skip
    console.print(table)
    print_tables(console, manifest.metrics, made)
    console.print(f"report: {page}", highlight=False)
    console.print(
        "it is the champion: services decide with it"
        if decides
        else f"it decides nothing yet: fraudstream promote {manifest.name}@{manifest.version}",
        highlight=False,
    )
