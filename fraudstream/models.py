"""Commands on models: those of `python -m model`, with `.env` read, and history made when there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from model import commands

P = ParamSpec("P")


def _with_environment(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        from fraudstream.environment import complete_environment

        complete_environment()
        if command is commands.train and not options.get("data"):
            _make_history()
        command(*args, **options)

    return run


def _make_history() -> None:
    """Write simulated history, unless there is some. Training does not know who writes it."""
    from fraud.kit.lifecycle import load_settings
    from model.settings import TrainSettings

    settings = load_settings(TrainSettings)
    if commands.simulated_history(settings):
        return
    output = settings.history_folder / "history.parquet"
    asked = [sys.executable, "-m", "producer", "history", "--output", str(output)]
    made = subprocess.run(asked, check=False)
    if made.returncode:
        raise typer.Exit(made.returncode)


train = _with_environment(commands.train)
list_models = _with_environment(commands.list_models)
score = _with_environment(commands.score)
promote = _with_environment(commands.promote)
rollback = _with_environment(commands.rollback)
