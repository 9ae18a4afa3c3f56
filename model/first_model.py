"""First start: finds a champion that can be used, or else the simulated history to train one on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fraud.contracts.versions import shown
from model.datasets import DatasetError
from model.registry import ModelMismatch, NoSuchModel, Registry
from model.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console

_HISTORY_FILES: Final = ("*.parquet", "*.jsonl")


def usable_champion(models: Registry, console: Console) -> str | None:
    """Return the champion as name@version, None if a model must be trained.

    A champion with other features than this program's is replaced if it was trained on simulated
    history. A champion trained on a user's own data is for that user to train again.

    Raises:
        ModelMismatch: The features changed, and the model was trained on a user's own data.
    """
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
    return f"{ref.name}@{shown(ref.version)}"


def simulated_history(
    settings: TrainSettings, make_history: Callable[[TrainSettings], None] | None = None
) -> list[Path]:
    """Return the files of the simulated history.

    Args:
        settings: Settings with its folder.
        make_history: Makes a missing history; passed by programs that have the simulator.

    Raises:
        DatasetError: No history exists, and none could be made.
    """
    files = _files(settings)
    if not files and make_history is not None:
        make_history(settings)
        files = _files(settings)
    if not files:
        raise DatasetError(
            f"no simulated history in {settings.history_folder}: name files with --data, or run "
            "fraudstream train, which makes one"
        )
    return files


def _files(settings: TrainSettings) -> list[Path]:
    return sorted(
        path for pattern in _HISTORY_FILES for path in settings.history_folder.glob(pattern)
    )
