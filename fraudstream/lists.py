"""Commands on lists: create them, and add or remove entries, also in bulk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.versions import shown
from fraud.policy.entry_files import EntryFileError, read_entries, write_entries
from fraud.runtime.command_line import JsonOption, print_json
from fraudstream.policy_session import policy_session

app = typer.Typer(
    help="Lists of entities, addresses, networks and the like; changed while everything runs.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the list.")]
Values = Annotated[list[str], typer.Argument(help="Values, such as 203.0.113.0/24.")]


@app.command("create")
def create(
    name: Name,
    kind: Annotated[ListType, typer.Option("--type", help="What it is of.")],
    use: Annotated[
        ListUse,
        typer.Option(help="What being on it means; reference is for rules that ask `in @name`."),
    ] = ListUse.REFERENCE,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Create an empty list."""
    with policy_session() as at:
        at.editor.make_list(name, kind, use, description=description)
    typer.echo(f"list {name} made: {kind}, {use}")


@app.command("list")
def list_lists(
    as_json: JsonOption = False,
) -> None:
    """List all lists with their types, uses and sizes."""
    with policy_session() as at:
        states = sorted(at.policy_state.lists().values(), key=lambda one: one.name)
    rows = [
        {
            "name": one.name,
            "type": one.type.value,
            "use": one.use.value,
            "entries": len(one),
            "version": shown(one.version),
            "description": one.description,
        }
        for one in states
    ]
    if as_json:
        print_json(rows)
        return

    table = Table(box=None, pad_edge=False)
    for title in ("name", "type", "use", "entries", "version", "description"):
        table.add_column(title, justify="right" if title == "entries" else "left")
    for row in rows:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) else value for value in row.values())
        )
    Console().print(table)


@app.command("add")
def add(
    name: Name,
    values: Values,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    source: Annotated[str | None, typer.Option(help="Whence: a case, a vendor.")] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"], help="Until when it counts; a day is UTC."
        ),
    ] = None,
) -> None:
    """Add values to a list, or overwrite their entries."""
    ends = expires and (expires if expires.tzinfo else expires.replace(tzinfo=UTC))
    with policy_session() as at:
        entries = [
            ListEntry(value=value, reason=reason, source=source, expires_at=ends)
            for value in values
        ]
        count = at.editor.change_list(name, add=entries)
    typer.echo(f"{count:,} put on {name}")


@app.command("remove")
def remove(name: Name, values: Values) -> None:
    """Remove values from a list."""
    with policy_session() as at:
        at.editor.change_list(name, remove=values)
    typer.echo(f"{len(values):,} taken off {name}")


@app.command("import")
def import_entries(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a column value (source, reason, expires_at too), or a value a line."
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove all entries of the list first.")
    ] = False,
) -> None:
    """Add the entries of a file to a list: all of them, or none."""
    with policy_session() as at:
        try:
            entries = read_entries(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "expected UTF-8"
            raise EntryFileError(f"{file}: {said}") from None
        count = at.editor.change_list(name, add=entries, replace=replace)
    typer.echo(f"{count:,} put on {name}")


@app.command("export")
def export_entries(
    name: Name,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Write a list's entries as CSV, with who added each and when."""
    with policy_session() as at:
        text = write_entries(at.editor.list_state(name).entries.values())
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


@app.command("use")
def use_as(
    name: Name, use: Annotated[ListUse, typer.Argument(help="What being on it means.")]
) -> None:
    """Change what being on a list means, with immediate effect."""
    with policy_session() as at:
        at.editor.change_list(name, use=use)
    typer.echo(f"list {name}: {use}")


@app.command("drop")
def drop(name: Name) -> None:
    """Delete a list; refused while active or challenger rules use it."""
    with policy_session() as at:
        at.editor.drop_list(name)
    typer.echo(f"list {name} dropped")
