"""Commands on the search index: migrate it, delete expired documents, and rebuild it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from fraud.contracts.errors import Backpressure
from fraud.contracts.topics import Topic
from fraud.runtime.clock import system_clock
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings
from fraud.security.pseudonyms import Pseudonyms
from indexer import migration
from indexer.bulk import connect, problem_of
from indexer.migration import MigrationFailed
from indexer.rebuild import delete_all
from indexer.rebuild import rebuild as rebuild_all
from indexer.retention import delete_expired, find_expired
from indexer.service import sink_of
from indexer.settings import IndexerSettings
from indexer.template import VERSION

app = typer.Typer(help="Look after the index of decisions in OpenSearch.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@contextmanager
def _opensearch() -> Iterator[tuple[IndexerSettings, OpenSearch]]:
    """Connect to OpenSearch, and report errors in one line (exit code 1)."""
    settings = load_settings(IndexerSettings)
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    client = connect(settings)
    try:
        yield settings, client
    except TransportError as error:
        raise failing(
            f"OpenSearch at {settings.opensearch_url}: {problem_of(error)}", code=1
        ) from None
    except (Backpressure, MigrationFailed, TimeoutError, ValueError, OSError) as error:
        raise failing(error, code=1) from None
    finally:
        client.close()


@app.command("migrate")
def migrate(
    dry_run: DryRun = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All days, also those that need no migration.")
    ] = False,
) -> None:
    """Migrate the indexes of past days to the fields and form of personal values of this version.

    It may be interrupted and run again; nothing is lost. The indexer waits while the index that it
    writes to is copied.
    """
    with _opensearch() as (settings, client):
        pseudonyms = Pseudonyms.of(settings)
        due = migration.due(client, clear=pseudonyms.clear, everything=everything)
        if not due:
            typer.echo(f"Nothing to do: all indexes are of version {VERSION}.")
            return
        for one in due:
            typer.echo(f"{one.name}: {one.documents:,} documents, {one.why}")
        if dry_run:
            return
        sink = sink_of(settings, client, pseudonyms)
        sink.prepare()
        with Progress(transient=True) as progress:
            for one in due:
                advance = partial(
                    progress.advance, progress.add_task(one.name, total=one.documents)
                )
                copy = sink.migrate(one.name, pseudonyms, advance)
                progress.console.print(f"{one.name} is now {copy}", soft_wrap=True)


@app.command("retention")
def retention(
    dry_run: DryRun = False,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Days to keep (default: INDEXER_RETENTION_DAYS)."),
    ] = None,
) -> None:
    """Delete documents whose retention has expired.

    The running indexer does this every hour, unless documents expired more than a week ago or the
    newest are older than a week: then the clock may be wrong. This command deletes them anyway.
    """
    with _opensearch() as (settings, client):
        keep_days = settings.indexer_retention_days if days is None else days
        act = find_expired if dry_run else delete_expired
        expired = act(client, now_ms=system_clock(), keep_days=keep_days)
        said = "would be deleted" if dry_run else "deleted"
        for one in expired:
            size = "" if one.size_bytes is None else f", {one.size_bytes / 1e6:,.1f} MB"
            typer.echo(f"{one.name}: {one.documents:,} documents{size} {said}")
        if not expired:
            typer.echo(f"Nothing is older than {keep_days} days.")


@app.command("rebuild")
def rebuild(
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Delete all indexes first. What is older than the topics remember is gone then.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Write labels, decisions and dead letters again, from the beginning of their topics.

    The running indexer need not be stopped. Without --delete, documents that are no longer on the
    topics stay as they are.
    """
    with _opensearch() as (settings, client):
        if delete:
            if not yes:
                typer.confirm(
                    "Delete all indexes of decisions, labels and dead letters?", abort=True
                )
            for name in delete_all(client):
                typer.echo(f"{name} deleted")
        pseudonyms = Pseudonyms.of(settings)
        sink = sink_of(settings, client, pseudonyms)
        sink.prepare()
        with Progress(
            SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f}"), transient=True
        ) as progress:
            tasks: dict[Topic, TaskID] = {}

            def advance(topic: Topic, count: int) -> None:
                if topic not in tasks:
                    tasks[topic] = progress.add_task(topic.value, total=None)
                progress.advance(tasks[topic], count)

            done = rebuild_all(settings, sink, pseudonyms, progress=advance)
        for one in done:
            refused = f", {one.refused:,} of them unreadable" if one.refused else ""
            typer.echo(f"{one.topic.value}: {one.records:,} records{refused}")
