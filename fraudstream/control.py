"""Commands on the control topic: whether it is whole, and how to go on if documents are lost."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud.kafka.control import accept_control, read_control
from fraud.kafka.control_mark import ControlMark
from fraud.kafka.range_reader import CannotRead
from fraud.kafka.sync_producer import CannotPublish
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_command_logs
from fraud.runtime.settings import KafkaSettings
from fraud.security.audit import AuditLog, at_the_command_line

app = typer.Typer(
    help="The control topic: whether it is whole, and how to go on if documents are lost.",
    no_args_is_help=True,
)


@app.command("check")
def check() -> None:
    """Check the signatures and completeness of all documents; exit code 1 if any is missing."""
    configure_command_logs()
    settings = load_settings(KafkaSettings)
    try:
        topic = read_control(settings)
    except (CannotRead, ValueError, OSError) as error:
        raise failing(error) from None
    typer.echo(
        f"{len(topic.records):,} documents, the last is number {topic.index.number:,}; "
        f"{len(topic.unsigned):,} without a valid signature, {topic.passed:,} sent again or overtaken"
    )
    missing = topic.missing or ControlMark(settings).missing(topic.index.number)
    if missing:
        typer.echo(f"not whole: {missing}")
        raise typer.Exit(1)


@app.command("accept")
def accept(
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned", help="Also documents without a valid signature, as after a lost key."
        ),
    ] = False,
) -> None:
    """Declare the topic whole as it is, after a loss: rules, lists and models in it decide again."""
    configure_command_logs()
    settings = load_settings(KafkaSettings)
    who = at_the_command_line()
    try:
        with AuditLog(settings.state_dir).change(
            who, "control.accepted", "control/topic", after={"unsigned": unsigned}
        ) as change:
            adopted = accept_control(settings, who.name, unsigned=unsigned)
            change.done({"unsigned": unsigned, "adopted": adopted})
    except (CannotRead, CannotPublish, ValueError, OSError) as error:
        raise failing(error) from None
    typer.echo(f"the control topic counts as it is; {adopted:,} documents without a signature")
