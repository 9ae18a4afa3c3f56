"""`python -m fraud.backtest`: one line on standard error when something is not as needed."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from fraud.backtest.__main__ import main
from fraud.decision.rule_files import write_rule_file
from fraud.decision.rule_sets import default_rules


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fraud.backtest.__main__.stop_event", Event)
    assert main([str(tmp_path / "rules.toml")]) == 2
    assert "rules.toml" in capsys.readouterr().err


def test_without_a_broker_there_is_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is for the report alone: the API reads it."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("fraud.backtest.__main__.stop_event", Event)
    monkeypatch.setattr("fraud.kafka.range_reader._CALL_S", 0.2)
    file = tmp_path / "rules.toml"
    file.write_text(write_rule_file(default_rules()))
    assert main([str(file), "--days", "7", "--limit", "5"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "127.0.0.1:1" in output.err.splitlines()[-1]
