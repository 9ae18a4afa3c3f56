"""The first start: whether a model is there that can decide, and a history to train one on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from model.datasets import DatasetError
from model.registry import ModelMismatch, NoSuchModel, Registry
from model.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console

HISTORY_FILES: Final = ("*.parquet", "*.jsonl")


def usable_champion(models: Registry, console: Console) -> str | None:
    """Name the champion if it can be used; None when one has to be trained.

    A champion that was trained on the simulated history and fits this program no more is replaced.
    Any other one is somebody's own: that it cannot be used is for them to hear.

    Raises:
        ModelMismatch: It is somebody's own, and fits this program no more.
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
    return f"{ref.name}@{ref.version}"


def first_history(settings: TrainSettings) -> list[Path]:
    """Return the files of the simulated history, which is made if there is none.

    Raises:
        DatasetError: None could be simulated.
    """
    files = simulated_history(settings)
    if not files:
        simulate_history(settings)
        files = simulated_history(settings)
    return files


def simulated_history(settings: TrainSettings) -> list[Path]:
    """Return the files of the simulated history, empty when none was written yet."""
    return sorted(
        path for pattern in HISTORY_FILES for path in settings.history_folder.glob(pattern)
    )


def simulate_history(settings: TrainSettings) -> None:
    """Have the producer write a history, as a process of its own: models import no service.

    Raises:
        DatasetError: It could not.
    """
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
