"""`python -m producer` from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producer import __main__ as program


def test_a_bug_is_logged_and_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As in every other service: Python's own traceback would go past the redaction."""

    def broken(_settings: object, _stop: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(program, "run", broken)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert program.main([]) == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["event"], line["level"]) == ("producer.crashed", "critical")


def test_a_prevalence_has_a_name_or_is_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names are those of `fraudstream simulate` and of PRODUCER_PREVALENCE."""
    output = tmp_path / "past.jsonl"
    common = ["history", "--days", "1", "--customers", "20", "--output", str(output)]
    assert program.main([*common, "--prevalence", "high"]) == 0
    assert output.stat().st_size > 0
    with pytest.raises(SystemExit) as end:
        program.main([*common, "--prevalence", "often"])
    assert end.value.code == 2
    assert "--prevalence" in capsys.readouterr().err
