"""Commands that set the challenger: a model or rules that decide in shadow."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud.contracts.versions import shown
from fraud.runtime.command_line import RegistryOption, failing
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.settings import ModelSettings
from fraudstream.policy_session import policy_session
from model.registry import ModelError, Registry

app = typer.Typer(
    help="The challenger: a model or rules that decide in shadow, beside what decides.",
    no_args_is_help=True,
)

NOBODY = "none"


@app.command("model")
def challenge_model(
    model: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or none.")],
    registry: RegistryOption = None,
) -> None:
    """Set the model that scores in shadow on the same traffic; running services switch at once."""
    with policy_session() as at:
        ref = None
        if model != NOBODY:
            models = Registry(registry or load_settings(ModelSettings).model_registry)
            try:
                ref = models.find(model)
                # A model that cannot be loaded is refused here, rather than by every worker.
                models.load(ref.name, ref.version)
            except ModelError as error:
                raise failing(error) from None
        at.editor.challenge_model(ref)
    typer.echo(
        "no model challenges" if ref is None else f"challenger: {ref.name}@{shown(ref.version)}"
    )


@app.command("rules")
def challenge_rules(
    version: Annotated[str, typer.Argument(help="Version that `rules list` shows, or none.")],
) -> None:
    """Set the version of the rules that decides in shadow on the same traffic."""
    with policy_session() as at:
        at.editor.challenge_rules(None if version == NOBODY else version)
    typer.echo("no rules challenge" if version == NOBODY else f"challenger: rules {version}")
