"""The list of commands costs no command's imports, and tells of each what it tells itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraudstream import cli
from fraudstream.lazy import Entry

HEAVY = (
    *("aiosmtpd", "apache_beam", "confluent_kafka", "fastapi", "httpx", "jinja2", "matplotlib"),
    *("numpy", "opensearchpy", "pandas", "prometheus_client", "psutil", "pyarrow"),
    *("pyflink", "scipy", "sklearn", "stamina", "structlog", "uvicorn", "xgboost"),
    *("benchmarks", "dashboards", "devstack", "flink_job", "indexer", "model", "notifier"),
    *("producer", "scoring_api", "fraud.contracts", "fraud.kafka", "fraud.policy"),
)
"""Modules that `--help` must not import."""


def imported(*arguments: str) -> set[str]:
    """Return the modules of `HEAVY` that a process imports."""
    code = (
        "import runpy, sys, contextlib\n"
        "with contextlib.suppress(SystemExit):\n"
        "    runpy.run_module(sys.argv[1], run_name='__main__', alter_sys=True)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return {*HEAVY} & {*result.stderr.split()}


def test_the_list_of_commands_imports_none_of_them() -> None:
    assert imported("fraudstream", "--help") == set()


def test_commands_on_models_do_without_scikit_learn() -> None:
    """XGBoost would import it, which takes seconds."""
    assert {"xgboost"} == imported("model", "--help") & {"pandas", "sklearn", "xgboost"}


@pytest.mark.parametrize("entry", cli.COMMANDS, ids=lambda entry: entry.name)
def test_the_list_tells_what_the_command_tells(entry: Entry) -> None:
    """The table has the first line of each command's own help."""
    if entry.needs:
        return  # the benchmarks' own help is of one of them
    assert " ".join(entry.load().help.split("\n\n")[0].split()) == entry.help


def test_a_package_that_is_missing_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image `services` has the commands without devstack's extra."""
    monkeypatch.setitem(sys.modules, "devstack.cli", None)
    answer = CliRunner().invoke(cli.app, ["up"])
    assert answer.exit_code == 1
    assert "devstack.cli" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "index", "offered"),
    [("fraudstream ru", 1, "rules"), ("fraudstream rules ap", 2, "apply")],
)
def test_a_shell_completes_commands(words: str, index: int, offered: str) -> None:
    """Those of a group, too, which is imported for it."""
    answer = CliRunner().invoke(
        cli.app,
        env={
            "_FRAUDSTREAM_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(index),
        },
        prog_name="fraudstream",
    )
    assert answer.stdout.split() == [offered]


def test_help_needs_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a command reads `.env`; what is wrong there must not hide how to use it."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("KAFKA_PORT=many\n")
    assert CliRunner().invoke(cli.app, ["rules", "list", "--help"]).exit_code == 0
    answer = CliRunner().invoke(cli.app, ["rules", "list"])
    assert answer.exit_code == 1
    assert "KAFKA_PORT" in str(answer.exception)
