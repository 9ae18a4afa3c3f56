"""The commands `import` and `write` of `python -m dashboards` and `fraudstream dashboards`."""

from __future__ import annotations

import logging
import sys

import typer

from dashboards.importer import ImportFailed, import_saved_objects
from dashboards.saved_objects import ndjson
from dashboards.settings import Settings
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_logs

app = typer.Typer(
    help="The dashboards of OpenSearch Dashboards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("import")
def import_() -> None:
    """Wait for OpenSearch Dashboards and import the dashboard; repeating it changes nothing.

    Manual changes to the imported objects are overwritten; all other objects stay.
    """
    settings = load_settings(Settings)
    configure_logs(settings, "dashboards")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        count = import_saved_objects(settings)
    except ImportFailed as problem:
        sys.stderr.write(f"dashboards: {problem}\n")
        raise typer.Exit(1) from None
    typer.echo(f"imported {count} saved objects into {settings.dashboards_url}")


@app.command()
def write() -> None:
    """Write the saved objects to standard output, for an import by hand."""
    sys.stdout.buffer.write(ndjson())
