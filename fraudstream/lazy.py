"""A group of commands that imports the module of a command only when the command is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from fraud.runtime.command_line import failing

READ_THEIR_OWN: Final = ("devstack.", "benchmarks.")
"""Packages whose commands read `.env` themselves."""


class Entry(NamedTuple):
    """A command, or a group of commands, before its module is imported.

    Attributes:
        name: Name of the command.
        target: "module:attribute" of a Typer app or of a command's function.
        help: Line in the list of commands; a test compares it with the command's own help.
        needs: What must be installed if a module is missing, for the error text; if empty, the text
            names the module.
    """

    name: str
    target: str
    help: str
    needs: str = ""

    def load(self) -> Any:
        """Import the module of the command, and return the command.

        Raises:
            typer.Exit: A package that the command needs is not installed.
        """
        try:
            target = _imported(self.target)
        except ModuleNotFoundError as missing:
            if self.needs:
                raise failing(f"{self.name} needs {self.needs}: {missing}") from None
            raise failing(missing, code=1) from None
        parent = typer.Typer()
        if isinstance(target, typer.Typer):
            parent.add_typer(target, name=self.name)
        else:
            parent.command(self.name)(target)
        command = get_group(parent).commands[self.name]
        if not self.target.startswith(READ_THEIR_OWN):
            _complete_environment_before(command)
        return command


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _complete_environment_before(command: Any) -> None:
    """Make a command and its subcommands complete the environment when run, not for their help."""
    if command.callback:
        command.callback = _after_completion(command.callback)
    for inner in getattr(command, "commands", {}).values():
        _complete_environment_before(inner)


def _after_completion(callback: Callable[..., Any]) -> Callable[..., Any]:
    def run(**options: Any) -> Any:
        _imported("fraudstream.environment:complete_environment")()
        return callback(**options)

    return run


def lazy_group(entries: Sequence[Entry]) -> type[TyperGroup]:
    """Return the class of a group that lists and completes commands without importing them."""

    class LazyGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._entries = {entry.name: entry for entry in entries}
            self.commands = {
                name: TyperCommand(name, help=entry.help) for name, entry in self._entries.items()
            }

        def load(self, name: str) -> Any:
            """Import a command, which until then is its name and help line alone."""
            return self._entries[name].load()

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            return name, self.load(name) if name else command, rest

    return LazyGroup
