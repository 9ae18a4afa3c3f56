"""`fraudstream train`: that of the package `model`, with a simulated history at hand."""

from __future__ import annotations

from functools import wraps
from typing import Any

import typer

from devstack.train import make_history
from model import commands


@wraps(commands.train)
def train(context: typer.Context, **options: Any) -> None:
    """Train; the help text is the wrapped command's."""
    context.obj = make_history
    commands.train(context, **options)
