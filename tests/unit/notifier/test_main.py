"""The notifier's commands and settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from fraudstream.cli import app
from notifier.commands import load
from notifier.settings import Settings
from tests.support.alerts import TEAM, AlertPipeline


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertPipeline:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return AlertPipeline(tmp_path)


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["alerts", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_dead_letters_are_listed_and_made_due_again(pipeline: AlertPipeline) -> None:
    """Once the cause of the refusals is gone, one command sends what failed."""
    pipeline.record(1, 2)
    pipeline.compose()
    for message in pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=9):
        pipeline.ledger.failed(message.number, "550", now_ms=0)
    assert "evt-1" in command("failed")
    assert command("retry", "1") == "1 message is due again\n"
    assert "evt-1" not in command("failed")
    assert command("retry") == "1 message is due again\n"
    assert "no message was refused" in command("failed")
    assert len(pipeline.ledger.pending([TEAM], now_ms=2**60, at_most=9)) == 2


def test_the_status_accounts_for_every_alert(pipeline: AlertPipeline) -> None:
    """Told, waiting and for what, in messages, refused."""
    pipeline.record(1, 2, entity="a")
    pipeline.record(3)
    pipeline.compose()
    first = pipeline.ledger.pending([TEAM], now_ms=pipeline.now_ms, at_most=1)[0]
    pipeline.ledger.sent(first.number, now_ms=0)
    row = next(line for line in command("status").splitlines() if TEAM in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["1", "1", "1", "1", "0", "0", "0"]


def test_routes_are_shown(pipeline: AlertPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told of what, and how much each bears."""
    monkeypatch.setenv("NOTIFIER_QUIET_HOURS", "22:00-07:00")
    text = command("routes")
    assert "email:fraud-team@fraudstream.example" in text
    assert "22:00-07:00" in text
    assert "high and above" in text


def test_a_state_of_nobody_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not answered with an empty ledger made for it."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(app, ["alerts", "status"])
    assert result.exit_code == 2
    assert not (tmp_path / "nowhere").exists()


def test_wrong_routes_end_the_start_with_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as for every wrong setting."""
    path = tmp_path / "routes.toml"
    path.write_text("[[routes]]\nchannels = ['nobody']\n")
    monkeypatch.setenv("NOTIFIER_ROUTES", str(path))
    with pytest.raises(SystemExit) as end:
        load()
    assert end.value.code == 2
    assert "routes.0.channels: expected one of email; got 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["nobody", "a@example.com,", "a@example.com\nBcc: b@example.com", "@"]
)
def test_wrong_addresses_fail_at_the_start(text: str) -> None:
    """Not at the first alert."""
    with pytest.raises(ValidationError, match="expected e-mail addresses"):
        Settings(notifier_to=text)


def test_wrong_times_fail_at_the_start() -> None:
    """Quiet hours and time zone."""
    with pytest.raises(ValidationError, match="as in 22:00-07:00"):
        Settings(notifier_quiet_hours="at night")
    with pytest.raises(ValidationError, match="as in Europe/Berlin"):
        Settings(notifier_time_zone="Berlin")


def test_several_recipients_are_told_apart() -> None:
    """By commas, with or without names."""
    settings = Settings(notifier_to="Team <team@example.com>, b@example.com")
    assert settings.recipients == ("Team <team@example.com>", "b@example.com")
