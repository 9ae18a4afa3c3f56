"""`fraudstream bench`: the benchmarks of a checkout."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app as benchmarks
from fraudstream.cli import app


def test_it_is_the_benchmarks_with_their_options() -> None:
    """What follows `bench` is theirs, `--help` too."""
    ours = CliRunner().invoke(app, ["bench", "--help"])
    assert ours.exit_code == 0
    assert "fraudstream bench" in ours.output
    for one in benchmarks.registered_commands:
        assert one.callback is not None
        assert one.callback.__name__ in ours.output
    assert "--against" in CliRunner().invoke(app, ["bench", "stream", "--help"]).output
    assert CliRunner().invoke(app, ["bench", "no-such-one"]).exit_code == 2


def test_an_installed_package_says_that_it_needs_a_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line, and not with a traceback."""
    monkeypatch.setitem(sys.modules, "benchmarks.__main__", None)
    answer = CliRunner().invoke(app, ["bench"])
    assert answer.exit_code == 2
    assert "needs a checkout" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
