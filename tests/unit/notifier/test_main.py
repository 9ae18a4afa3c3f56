"""The notifier's command line and settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from notifier.__main__ import main
from notifier.alerts import read_alert
from notifier.ledger import Ledger
from notifier.service import Settings
from tests.builders import a_processed


def test_refused_mails_can_be_made_due_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once the cause of the refusals is gone, one command sends what failed."""
    keyed = read_alert(a_processed())
    assert keyed
    with Ledger(tmp_path / "notifier.db") as ledger:
        ledger.record([keyed], now_ms=0)
        ledger.failed(keyed.key, "550", now_ms=0)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["notifier", "--retry-failed"])
    main()
    assert capsys.readouterr().out == "1 alerts are due again\n"
    with Ledger(tmp_path / "notifier.db") as ledger:
        assert ledger.count("pending") == 1


@pytest.mark.parametrize(
    "text", ["nobody", "a@example.com,", "a@example.com\nBcc: b@example.com", "@"]
)
def test_wrong_addresses_fail_at_the_start(text: str) -> None:
    """Not at the first alert."""
    with pytest.raises(ValidationError, match="expected e-mail addresses"):
        Settings(notifier_to=text)


def test_several_recipients_are_told_apart() -> None:
    """By commas, with or without names."""
    settings = Settings(notifier_to="Team <team@example.com>, b@example.com")
    assert settings.recipients == ("Team <team@example.com>", "b@example.com")
