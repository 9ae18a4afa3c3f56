"""The training step of the stack, and `fraudstream train`: both make the history that there is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from devstack.train import make_history
from fraudstream.cli import app as fraudstream
from model.commands import app as model
from model.registry import Registry

Train = Callable[..., Result]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_the_stack(*options: str) -> Result:
    """Train as `python -m devstack.train` does."""
    return CliRunner().invoke(model, ["train", *options], catch_exceptions=False, obj=make_history)


def of_the_command_line(*options: str) -> Result:
    return CliRunner().invoke(fraudstream, ["train", *options], catch_exceptions=False)


@pytest.mark.slow
def test_without_history_some_is_simulated(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to a model that decides, by the one command that `make up` runs."""
    monkeypatch.setenv("TRAIN_HISTORY_DAYS", "40")
    monkeypatch.setenv("TRAIN_HISTORY_CUSTOMERS", "600")
    result = of_the_stack("--if-missing", "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["champion"] is True
    assert told["training"]["simulated"] is True
    # The history ends today, so that its figures move from day to day.
    assert told["metrics"]["auc"] > 0.6
    assert Registry(state / "models").champion().ref.version == told["version"]
    again = subprocess.run(
        [sys.executable, "-m", "devstack.train"], capture_output=True, text=True, check=True
    )
    assert "nothing to train" in again.stderr


@pytest.mark.parametrize("train", [of_the_stack, of_the_command_line])
def test_a_history_that_cannot_be_simulated_is_said(state: Path, train: Train) -> None:
    (state / "history").write_text("a file where the folder should be")
    result = train()
    assert result.exit_code == 2
    assert "no history could be simulated" in result.stderr
