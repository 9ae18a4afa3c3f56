"""Commands on rules: apply a file, show what it changes, and switch versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fraud.contracts.rules import RuleSet
from fraud.contracts.times import utc_text
from fraud.contracts.versions import shown
from fraud.decision.rule_files import rule_differences, write_rule_file
from fraud.runtime.command_line import JsonOption, print_json
from fraudstream.dryrun import try_rules
from fraudstream.policy_session import PolicySession, policy_session, read_file

app = typer.Typer(
    help="Rules: read them, try them, switch them while everything runs.", no_args_is_help=True
)

RuleFile = Annotated[Path, typer.Argument(help="Rule set in TOML; `export` writes one.")]
Version = Annotated[str, typer.Argument(help="Version of the rule set, as `list` shows it.")]


@app.command("apply")
def apply(
    file: RuleFile,
    draft: Annotated[
        bool, typer.Option("--draft", help="Keep it as a draft; nothing decides by it yet.")
    ] = False,
    expect: Annotated[
        str | None,
        typer.Option(help="Version that must be active now; refused if another one is."),
    ] = None,
) -> None:
    """Check a rule set and activate it: the running job and API switch at once."""
    wanted = read_file(file)
    with policy_session() as at:
        before = at.policy_state.active_rules
        kept = at.editor.draft(wanted)
        if not draft:
            at.editor.activate(kept.version, expected=expect)
    for line in rule_differences(before, kept):
        typer.echo(line)
    state = "kept as a draft" if draft else "active"
    typer.echo(f"rules {shown(kept.version)}: {len(kept.rules)} rules, {state}")


@app.command("activate")
def activate(
    version: Version,
    expect: Annotated[
        str | None,
        typer.Option(help="Version that must be active now; refused if another one is."),
    ] = None,
) -> None:
    """Activate a stored version of the rules: a draft, or one that was active before."""
    with policy_session() as at:
        before = at.policy_state.active_rules
        kept = at.editor.activate(version, expected=expect)
    for line in rule_differences(before, kept):
        typer.echo(line)
    typer.echo(f"rules {shown(kept.version)}: {len(kept.rules)} rules, active")


@app.command("list")
def list_versions(json: JsonOption = False) -> None:
    """List the versions of the rule set, and who made them."""
    with policy_session() as at:
        versions = at.policy_state.rule_versions()
        shadow = at.policy_state.challenger_rules
    rows = [
        {
            "version": shown(one.rules.version),
            "status": one.status.value,
            "challenger": shadow is not None and shadow.version == one.rules.version,
            "rules": len(one.rules.rules),
            "author": one.author,
            "created_at": utc_text(one.created_ms) if one.created_ms else None,
            "activated_at": utc_text(one.activated_ms) if one.activated_ms else None,
            "description": one.rules.description,
        }
        for one in versions
    ]
    if json:
        print_json(rows)
        return

    table = Table(box=None, pad_edge=False)
    for title in ("version", "status", "rules", "author", "created", "activated", "description"):
        table.add_column(title)
    for row in rows:
        status = str(row["status"]) + (" challenger" if row["challenger"] else "")
        table.add_row(
            str(row["version"]),
            status,
            str(row["rules"]),
            str(row["author"]),
            str(row["created_at"] or "shipped"),
            str(row["activated_at"] or ""),
            str(row["description"]),
        )
    Console().print(table)


@app.command("export")
def export(
    version: Annotated[str | None, typer.Argument(help="Version; without, the active one.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Write a version of the rules as a file that `apply` reads."""
    with policy_session() as at:
        text = write_rule_file(_kept(at, version))
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


@app.command("diff")
def diff(
    file: RuleFile,
    against: Annotated[str | None, typer.Option(help="Version; without, the active one.")] = None,
) -> None:
    """Show what a file would change; exit code 1 if it would change anything."""
    wanted = read_file(file)
    with policy_session() as at:
        checked = at.policy_state.checked(wanted)
        before = _kept(at, against)
    lines = rule_differences(before, checked)
    for line in lines:
        typer.echo(line)
    if not lines:
        typer.echo(f"the same as {shown(before.version)}")
        return
    raise typer.Exit(1)


def _kept(at: PolicySession, version: str | None) -> RuleSet:
    return (
        at.policy_state.active_rules if version is None else at.editor.rule_version(version).rules
    )


app.command("test")(try_rules)
