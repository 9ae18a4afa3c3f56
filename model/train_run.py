"""Trains a model from files, adds it to the registry, and may make it the champion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import same_version
from fraud.policy.editor import PolicyEditor
from model.champion import promoting
from model.examples import MappedDataset
from model.files import vectors
from model.printing import progress_bars
from model.promotion import refusal_of
from model.registry import Manifest, NoSuchModel, Registry
from model.report import keep_reports
from model.training import TrainingConfig, train


class TrainRun(NamedTuple):
    """Result of one training.

    Attributes:
        manifest: Manifest of the model, which is in the registry.
        page: Path of its report.
        vectors_s: Time for reading and computing the features, seconds.
    """

    manifest: Manifest
    page: Path
    vectors_s: float


def train_and_keep(
    models: Registry,
    name: str,
    sources: Sequence[MappedDataset],
    config: TrainingConfig,
    console: Console,
    *,
    simulated: bool,
    report: Path | None,
) -> TrainRun:
    """Train a model and add it to the registry, with its report.

    Args:
        models: The registry.
        name: Name of the model.
        sources: Files of labelled transactions.
        config: Training settings.
        console: Shows progress.
        simulated: Whether the transactions are simulated; recorded in the manifest.
        report: Where to write a second copy of the report; None writes no copy.
    """
    started = time.monotonic()
    with progress_bars(console) as bars:
        history, matrix = vectors(sources, bars)
        vectors_s = time.monotonic() - started
        searching = bars.add_task("search", total=config.search, visible=config.search > 1)
        growing = bars.add_task("trees", total=config.max_rounds)
        trained = train(
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
        training={**trained.training, "simulated": simulated},
        later=trained.later.to_bytes(),
    )
    return TrainRun(manifest, keep_reports(models, manifest, trained.curves, report), vectors_s)


def promote_trained(
    editor: PolicyEditor, models: Registry, manifest: Manifest, *, wanted: bool, force: bool
) -> tuple[bool, str]:
    """Make a trained model the champion if that is wanted, or if no champion exists.

    Args:
        editor: Records the promotion and tells running services.
        models: The registry.
        manifest: Manifest of the model.
        wanted: Whether it may replace an existing champion.
        force: Whether to promote it even if it is worse.

    Returns:
        Whether it is the champion now, and why it was refused (empty if it was not).
    """
    try:
        decides = same_version(models.champion_ref().version, manifest.version)
        first = False
    except NoSuchModel:
        decides, first = False, True
    if not (wanted or first):
        return decides, ""
    # An unusable or missing champion is replaced without a comparison.
    if not force and (refusal := refusal_of(models, manifest)):
        return decides, refusal
    ref = ModelRef(name=manifest.name, version=manifest.version)
    with promoting(editor, models, ref) as tell:
        models.promote(ref.name, ref.version)
        tell()
    return True, ""
