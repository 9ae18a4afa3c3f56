"""Routes say who is told what, and what is wrong in them is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraud.contracts.decision import Outcome
from notifier.alerts import Severity
from notifier.routing import RoutesError, Routing, load_routing
from notifier.settings import Settings
from notifier.wording import sample_alert

SECRET = "whsec_" + "QUJD" * 10
FILE = """
[severity]
high_score = 995
high_amount_usd = 500

[channels.oncall]
kind = "email"
to = ["On call <oncall@example.com>", "Boss@example.com"]
digest_s = 60
limit_per_hour = 20
quiet_hours = "22:00-07:00"
time_zone = "Europe/Berlin"
quiet_breakthrough = "high"

[channels.case_system]
kind = "webhook"
url = "https://cases.example.com/hook"
secret_env = "CASES_SECRET"

[channels.chat]
kind = "slack"
url_env = "CHAT_URL"

[[routes]]
outcomes = ["block"]
severities = ["high"]
channels = ["oncall", "chat"]

[[routes]]
outcomes = ["review", "block"]
channels = ["case_system", "chat"]
"""
ENVIRON = {"CASES_SECRET": SECRET, "CHAT_URL": "https://chat.example.com/T/B/secret"}


def routing(text: str | None, tmp_path: Path, environ: Any = None, **settings: Any) -> Routing:
    if text is not None:
        path = tmp_path / "routes.toml"
        path.write_text(text)
        settings["notifier_routes"] = path
    return load_routing(Settings(**settings), ENVIRON if environ is None else environ)


def test_by_default_blocks_go_to_all_channels_of_the_settings(tmp_path: Path) -> None:
    """E-mail alone, unless more is set."""
    found = routing(None, tmp_path, notifier_to="a@example.com, B <b@example.com>")
    assert found.outcomes == {Outcome.BLOCK}
    assert found.recipients(sample_alert()) == ["email:a@example.com", "email:b@example.com"]
    assert found.recipients(sample_alert(outcome=Outcome.REVIEW)) == []
    more = routing(
        None, tmp_path, notifier_to="none", notifier_webhook_url="http://hook.example.com",
        notifier_webhook_secret=SECRET, notifier_slack_url="http://chat.example.com",
    )  # fmt: skip
    assert more.recipients(sample_alert()) == ["webhook:webhook", "slack:slack"]


def test_routes_go_by_outcome_and_severity(tmp_path: Path) -> None:
    """All routes that match apply, and nobody is told twice."""
    found = routing(FILE, tmp_path)
    assert found.outcomes == {Outcome.REVIEW, Outcome.BLOCK}
    assert found.recipients(sample_alert()) == [
        "email:oncall@example.com", "email:boss@example.com", "webhook:case_system", "slack:chat",
    ]  # fmt: skip
    for outcome in (Outcome.REVIEW, Outcome.BLOCK):
        alert = sample_alert(outcome=outcome, severity=Severity.LOW)
        assert found.recipients(alert) == ["webhook:case_system", "slack:chat"]


def test_a_channel_bears_what_it_says_and_else_what_the_settings_say(tmp_path: Path) -> None:
    """Digest, limit, quiet hours."""
    found = routing(FILE, tmp_path, notifier_digest_s=120, notifier_limit_per_hour=7)
    oncall = found.destinations["email:oncall@example.com"].policy
    assert (oncall.digest_ms, oncall.limit_per_hour) == (60_000, 20)
    assert oncall.breakthrough is Severity.HIGH
    assert oncall.quiet is not None
    chat = found.destinations["slack:chat"].policy
    assert (chat.digest_ms, chat.limit_per_hour, chat.quiet) == (120_000, 7, None)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({}, 300), ({"notifier_digest_s": 0}, 0), ({"notifier_digest_s": 0, "notifier_limit_per_hour": 5}, 5)],
)  # fmt: skip
def test_one_message_per_alert_has_no_limit_unless_one_is_set(
    settings: dict[str, Any], limit: int, tmp_path: Path
) -> None:
    """Who asks for every alert by itself gets it."""
    (one,) = routing(None, tmp_path, **settings).destinations.values()
    assert one.policy.limit_per_hour == limit


def test_severities_follow_the_file(tmp_path: Path) -> None:
    """A score or an amount in dollars makes a block high."""
    rule = routing(FILE, tmp_path).severities
    assert rule.severity(Outcome.BLOCK, 994, 499.0) is Severity.MEDIUM
    assert rule.severity(Outcome.BLOCK, 995, None) is Severity.HIGH
    assert rule.severity(Outcome.BLOCK, None, 500.0) is Severity.HIGH
    assert rule.severity(Outcome.REVIEW, 999, 500.0) is Severity.LOW


def test_addresses_and_secrets_are_in_no_representation(tmp_path: Path) -> None:
    """A destination in a log or a traceback gives nothing away."""
    text = repr(routing(FILE, tmp_path))
    assert "T/B/secret" not in text
    assert "Boss@" not in text
    assert "ABCABC" not in text


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('kind = "email"', 'kind = "pager"', "channels.oncall"),
        ('"Boss@example.com"', '"boss"', "channels.oncall.email.to"),
        ('channels = ["oncall", "chat"]', 'channels = ["pager"]', "routes.0.channels: expected one of"),
        ('outcomes = ["block"]', 'outcomes = ["approve"]', "routes.0.outcomes"),
        ('severities = ["high"]', 'severities = ["urgent"]', "routes.0.severities"),
        ('"22:00-07:00"', '"all night"', "channels.oncall.quiet_hours: expected quiet hours as in"),
        ('"Europe/Berlin"', '"Berlin"', "channels.oncall.time_zone: expected a time zone as in"),
        ("digest_s = 60", "digest = 60", "channels.oncall.email.digest"),
        ('url_env = "CHAT_URL"', "", "channels.chat.url: expected url or url_env"),
        ('"CHAT_URL"', '"NOT_THERE"', "environment variable NOT_THERE: expected the URL of chat"),
        ('"CASES_SECRET"', '"CHAT_URL"', "environment variable CHAT_URL: expected whsec_"),
        ("https://cases", "cases", "channels.case_system.url: expected an address"),
        ("[severity]", "[severity", "routes.toml: expected TOML"),
        ("On call <oncall@example.com>", "fraud-team@fraudstream.example", "channels.oncall.to: an address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(before: str, after: str, named: str, tmp_path: Path) -> None:
    """Field and expectation, without the value."""
    assert before in FILE
    with pytest.raises(RoutesError) as error:
        routing(FILE.replace(before, after), tmp_path)
    assert named in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Not taken for the default."""
    with pytest.raises(RoutesError, match=r"nowhere\.toml: No such file"):
        routing(None, tmp_path, notifier_routes=tmp_path / "nowhere.toml")


def test_a_weak_secret_is_refused(tmp_path: Path) -> None:
    """Fewer than 24 bytes can be guessed."""
    with pytest.raises(RoutesError, match="at least 24 bytes"):
        routing(FILE, tmp_path, {**ENVIRON, "CASES_SECRET": "whsec_QUJD"})
