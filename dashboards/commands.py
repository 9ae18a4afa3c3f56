"""Commands on dashboards: `import`, `write`.

`python -m dashboards` runs them as they stand; `fraudstream dashboards` has the same ones.
"""

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
    """Import the dashboard into OpenSearch Dashboards, once it is ready; again changes nothing.

    What was changed by hand in objects of ours is overwritten; all others stay.
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
    """Write the saved objects to standard output, to be imported by hand."""
    sys.stdout.buffer.write(ndjson())
