"""`fraudstream train`: the command of the package `model`, able to simulate a history."""

from __future__ import annotations

from functools import wraps
from typing import Any

import typer

from devstack.train import make_history
from model import commands


@wraps(commands.train)
def train(context: typer.Context, **options: Any) -> None:
    """Train a model; the help text is that of the wrapped command."""
    context.obj = make_history
    commands.train(context, **options)
