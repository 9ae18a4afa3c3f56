"""`fraudstream bench`: the benchmarks, which come with a checkout and not with the package."""

from __future__ import annotations

import typer

from fraud.runtime.command_line import failing

FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Settings of a command that hands all of its arguments on, `--help` too."""


def bench(context: typer.Context) -> None:
    """Measure latency and rate; `bench --help` lists what. Needs a checkout."""
    try:
        # Imported here: it needs what a service does without.
        from benchmarks.__main__ import app
    except ModuleNotFoundError as missing:
        raise failing(
            f"bench needs a checkout of the project, made ready by `make setup`: {missing}"
        ) from None
    app(args=context.args, prog_name="fraudstream bench")
