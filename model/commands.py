"""Commands on models: `train`, `evaluate`, `score`, `models`, `promote`, `rollback`.

`python -m model` runs them on their own; `fraudstream` includes them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from fraud.kafka.sync_producer import CannotPublish
from fraud.runtime.command_line import JsonOption, RegistryOption, failing, print_json
from fraud.runtime.lifecycle import load_settings

# XGBoost reads it once, on import. By default its threads wait by spinning, which makes training
# six times slower beside other work on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from fraud.contracts.versions import same_version, shown
from model.champion import champion_editor, promoting
from model.datasets import DatasetError
from model.evaluation import measure
from model.files import period_to_measure, sources_of, vectors
from model.first_model import usable_champion
from model.offline import check_output, decide_rows, write_decisions
from model.printing import (
    print_models,
    print_tables,
    print_trained,
    print_warnings,
    progress_bars,
    wide_console,
)
from model.promotion import check, learnt_until_ms
from model.registry import ModelError, NoSuchModel, Registry, check_name
from model.report import check_page, data_warnings, html_page, write_page
from model.settings import TrainSettings
from model.train_run import promote_trained, train_and_keep
from model.training import FIRST_LEGITIMATE, SEARCH, TrainingConfig

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
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            "-d",
            help="CSV, JSON lines or Parquet; several times for several files. Without: simulated "
            "history, which fraudstream train makes if it is missing.",
        ),
    ] = None,
    mapping: MappingOption = None,
    name: Annotated[str, typer.Option(help="Name of the model.")] = DEFAULT_NAME,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Same data and seed, same model.")
    ] = 7,
    registry: RegistryOption = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Only if the registry lacks a usable champion.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", help="Promote it at once. Without: only if no model decides yet."
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
    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        if if_missing and (usable := usable_champion(models, console)):
            console.print(f"champion {usable} is there; nothing to train", highlight=False)
            return
        # The first champion need not be published: without a document services use the registry's.
        editor = champion_editor(settings, offline=offline or not promote)
        # This package may not import the simulator: callers pass a function that runs it.
        sources = sources_of(settings, data or [], mapping, encoding, make_history=context.obj)
        check_name(name)
        check_page(report)
        models.make()
        config = TrainingConfig(
            seed=seed,
            search=(0 if if_missing else SEARCH) if search is None else search,
            # Somebody who starts the system for the first time is waiting.
            most_legitimate=FIRST_LEGITIMATE if if_missing else None,
            alerts_per_day=alerts_per_day,
        )
        started = time.monotonic()
        run = train_and_keep(
            models, name, sources, config, console, simulated=not data, report=report
        )
        decides, refusal = promote_trained(
            editor, models, run.manifest, wanted=promote or if_missing, force=force
        )
    took_s = time.monotonic() - started
    if as_json:
        print_json(
            {
                **run.manifest.model_dump(),
                "champion": decides,
                "took_s": round(took_s, 3),
                "vectors_s": round(run.vectors_s, 3),
                "report": str(run.page),
                "refused": refusal or None,
            }
        )
    else:
        print_trained(run.manifest, decides=decides, took_s=took_s, page=run.page)
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
    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        check_page(report)
        ref = models.champion_ref() if model is None else models.find(model)
        scorer = models.load(ref.name, ref.version)

        period, read = period_to_measure(settings, data, mapping, encoding, console)
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
            title = f"Model {ref.name}@{shown(ref.version)}"
            page = html_page(
                title, f"measured on {names}", figures, {"model": measured.curves}, read
            )
            write_page(report, page)
    if as_json:
        files = [str(path) for path in data]
        print_json({"model": ref.model_dump(), "files": files, "data": read, **figures})
        return
    console = wide_console()
    console.print(f"model [bold]{ref.name}@{shown(ref.version)}[/bold] on {names}", highlight=False)
    print_tables(console, figures, read)
    if report is not None:
        console.print(f"report: {report}", highlight=False)


@app.command("models")
def list_models(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """List the models of the registry, oldest first."""
    _, models = _open(registry)
    with _user_errors():
        known = models.models()
        try:
            champion = models.champion_ref()
        except NoSuchModel:
            champion = None
    decides = [
        champion is not None
        and one.name == champion.name
        and same_version(one.version, champion.version)
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
    if known:
        print_models(known, decides)
    else:
        wide_console().print(f"no models in {models.folder} yet: fraudstream train")


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

    The outcome is that of the shipped rules, whatever rules are active. Labels are not needed. Rows
    that the stream would refuse are left out of the output and counted.
    """
    settings, models = _open(registry)
    console = Console(stderr=True, soft_wrap=True)
    with _user_errors():
        ref = models.champion_ref() if model is None else models.find(model)
        scorer = models.load(ref.name, ref.version)

        check_output(output, [*data, *([mapping] if mapping else [])])
        sources = sources_of(settings, data, mapping, encoding, labels=False)
        with progress_bars(console) as bars:
            history, matrix = vectors(sources, bars)
            decisions = decide_rows(history, matrix, scorer)
            write_decisions(decisions, output)
    refused = sum(history.refused.values())
    console.print(
        f"{len(history):,} transactions scored by {ref.name}@{shown(ref.version)}, {refused:,} refused: {output}",
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
    """Promote a model, unless it is worse than the champion: the running job and API switch at once."""
    settings, models = _open(registry)
    with _user_errors():
        ref = models.find(model)
        editor = champion_editor(settings, offline=offline)
        if not force:
            console = Console(stderr=True, soft_wrap=True)
            period = (
                period_to_measure(settings, data, mapping, encoding, console)[0] if data else None
            )
            compared = check(models, ref, period)
            if compared is not None:
                typer.echo(str(compared), err=True)
        with promoting(editor, models, ref) as tell:
            models.promote(ref.name, ref.version, force=force)
            tell()
    typer.echo(f"champion: {ref.name}@{shown(ref.version)}")


@app.command()
def rollback(registry: RegistryOption = None, offline: OfflineOption = False) -> None:
    """Make the previous champion decide again: the running job and API switch at once."""
    settings, models = _open(registry)
    with _user_errors():
        editor = champion_editor(settings, offline=offline)
        ref = models.earlier_ref()
        with promoting(editor, models, ref) as tell:
            models.rollback()
            tell()
    typer.echo(f"champion: {ref.name}@{shown(ref.version)}")


def _open(folder: Path | None) -> tuple[TrainSettings, Registry]:

    settings = load_settings(TrainSettings)
    return settings, Registry(folder or settings.model_registry)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn errors of files, labels, models or Kafka into a plain message and exit code 2."""
    try:
        yield
    except (CannotPublish, DatasetError, ModelError) as error:
        raise failing(error) from None
