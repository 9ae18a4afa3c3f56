"""`fraudstream import-afd`: import rules, lists and variables of Amazon Fraud Detector."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from afd.declarations import Declarations, DeclarationWriter
from afd.exports import ExportError, Plan, plan, read_export, take_over
from afd.translation import read_outcomes
from fraud.contracts.errors import InvalidMessage
from fraud.decision.rule_files import write_rule_file
from fraud.decision.rule_sets import InvalidRules
from fraud.kafka.control import ControlPublisher
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import PolicyUnread, SeenPublisher, follow_policy
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings
from fraud.security.audit import AuditLog, Author, at_the_command_line
from fraudstream.policy_session import pseudonyms
from model.datasets import ColumnMapping, DatasetError
from scoring_api.settings import Settings


def import_afd(
    path: Annotated[Path, typer.Argument(help="File or folder with what the AWS CLI printed; docs/migrating-from-amazon-fraud-detector.md has the commands.")],
    apply: Annotated[bool, typer.Option("--apply", help="Make it: lists, and a draft of the rule set, which decides nothing yet.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Make it although some of it does not map, without that.")] = False,
    detector: Annotated[str | None, typer.Option(help="Detector whose rules are taken, if there are several.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Mapping file of variables; AFD_MAPPING by default.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help="What an outcome means, as vip=approve; repeatable, besides AFD_OUTCOMES.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Also write the rule set to this file, to be kept in git.")] = None,
) -> None:  # fmt: skip
    """Show what an export of Amazon Fraud Detector becomes here, and make it with --apply."""
    settings = load_settings(Settings)
    mapping = mapping or settings.afd_mapping
    try:
        chosen = read_outcomes(",".join([settings.afd_outcomes, *(outcome or ())]))
        found = plan(
            read_export(path),
            mapping=ColumnMapping.read(mapping) if mapping else None,
            chosen=chosen,
            detector=detector,
        )
    except (ExportError, DatasetError) as problem:
        raise failing(str(problem)) from None
    except ValueError as problem:
        raise failing(f"--outcome: {problem}") from None
    _show(found)
    if rules is not None and found.rules is not None:
        rules.write_text(write_rule_file(found.rules), "utf-8")
        typer.echo(f"the rule set is in {rules}")
    if not apply:
        typer.echo("nothing was changed; --apply makes the lists and a draft of the rule set")
        return
    if found.problems and not partial:
        raise failing(
            f"{len(found.problems)} things do not map, see above; --partial goes on without them"
        )
    version = _make(settings, found)
    typer.echo(
        f"made: {len(found.lists)} lists, {len(found.findings) - len(found.problems)} things in all"
    )
    if version is not None:
        typer.echo(f"the rule set is kept as the draft {version}; it decides once it is activated")


def _show(found: Plan) -> None:
    table = Table("what", "there", "here", "but")
    for one in found.findings:
        table.add_row(one.kind, one.name, one.ours or "[red]-[/red]", one.problem)
    Console().print(table)


def _make(settings: Settings, found: Plan) -> str | None:
    who = at_the_command_line()
    declarations = Declarations()
    publisher = ControlPublisher(settings)
    try:
        publisher.check()
        with follow_policy(
            settings, service="fraudstream", stop=Event(), listeners=[declarations]
        ) as live:
            live.wait_ready()
            documents = SeenPublisher(publisher, live)
            counted = {
                "lists": len(found.lists),
                "rules": len(found.rules.rules) if found.rules else 0,
            }
            with AuditLog(settings.state_dir).change(
                who, "afd.imported", f"detector/{found.detector or 'none'}", after=counted
            ) as change:
                editor = PolicyEditor(documents, live.current, change, Author(who), pseudonyms)
                return take_over(
                    found,
                    DeclarationWriter(declarations, documents),
                    editor,
                    live.current(),
                )
    except InvalidMessage as verdict:
        raise failing(verdict.detail) from None
    except (CannotPublish, PolicyUnread, InvalidRules) as problem:
        raise failing(str(problem)) from None
