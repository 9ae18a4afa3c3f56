"""Entry point of `python -m devstack.train`: trains the first model unless one exists."""

from __future__ import annotations

import subprocess

from devstack.settings import PYTHON
from model.commands import app
from model.datasets import DatasetError
from model.settings import TrainSettings


def make_history(settings: TrainSettings) -> None:
    """Run the producer in a process of its own to write the simulated history.

    Raises:
        DatasetError: The history could not be written.
    """
    output = settings.history_folder / "history.parquet"
    options = {
        "--days": settings.train_history_days,
        "--customers": settings.train_history_customers,
        "--seed": settings.train_history_seed,
        "--output": output,
    }
    arguments = [str(part) for option in options.items() for part in option]
    made = subprocess.run([PYTHON, "-m", "producer", "history", *arguments], check=False)
    if made.returncode or not output.exists():
        raise DatasetError(f"no history could be simulated into {output}; see above for why")


if __name__ == "__main__":
    app(["train", "--if-missing"], prog_name="python -m model", obj=make_history)
