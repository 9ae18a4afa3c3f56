"""Commands on models: those of `python -m model`, with `.env` read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import typer

from model import commands

P = ParamSpec("P")


def _with_environment(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        from fraudstream.environment import complete_environment

        complete_environment()
        command(*args, **options)

    return run


@_with_environment
@wraps(commands.train)
def train(context: typer.Context, **options: Any) -> None:
    """Train with a simulated history at hand; the help text is the wrapped command's."""
    from devstack.train import make_history

    context.obj = make_history
    commands.train(context, **options)


evaluate = _with_environment(commands.evaluate)
list_models = _with_environment(commands.list_models)
score = _with_environment(commands.score)
promote = _with_environment(commands.promote)
rollback = _with_environment(commands.rollback)
