"""What keeps the indexer from starting is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud.runtime.lifecycle import run_service
from indexer.service import run
from indexer.settings import IndexerSettings


def test_a_broken_key_ends_it_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By another key nobody would be found any more."""
    (tmp_path / "personal-data-key").write_text("half a key")
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    # It would hold on to this test's standard output.
    monkeypatch.setattr("fraud.runtime.lifecycle.configure_logs", lambda *_: None)
    assert run_service("indexer", IndexerSettings, run) == 1
    said = capsys.readouterr().err
    assert "personal-data-key: expected 64 hexadecimal digits" in said
    assert "half a key" not in said
