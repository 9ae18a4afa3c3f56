"""What the command line changes is on record, as what comes by REST is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from fraud.contracts.control import ControlDocument, decode_control
from fraud.kafka.control_index import ControlIndex
from fraud.kafka.group_consumer import Message
from fraud.policy.state import PolicyState
from fraud.security.audit import AuditLog, AuditRecord
from fraud.security.pseudonyms import KEY_FILE, Pseudonyms, kept_key
from fraudstream import policy_session
from fraudstream.cli import app

RULES = """
[[rules]]
id = "R1"
when = '$email_address == "ada@example.com"'
outcome = "review"
"""


class Topic:
    """`fraud_control` in memory: publisher and policy state of the commands at once."""

    def __init__(self) -> None:
        self.policy_state = PolicyState()
        self.index = ControlIndex(b"k" * 32)

    def send_signed(self, key: bytes, value: bytes, index: ControlIndex) -> int:
        number, headers = index.sign(key, value)
        index.read(Message("control", 0, 0, 0, key, value, tuple(headers)))
        self.policy_state.apply(decode_control(key, value))
        return number

    def removable(self, _now_ms: int) -> list[bytes]:
        return []

    def due_snapshot(self, _name: str) -> None:
        return None

    def wait_passed(self, _number: int) -> None:
        """Have it already."""

    def check(self) -> None:
        """Find it there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep it."""

    def wait_ready(self) -> PolicyState:
        return self.policy_state

    def wait_for(self, _document: ControlDocument) -> None:
        """Have it already."""

    def current(self) -> PolicyState:
        return self.policy_state


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    topic = Topic()
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(policy_session, "ControlPublisher", lambda _settings: topic)
    monkeypatch.setattr(policy_session, "follow_policy", lambda *_, **__: topic)

    def run(*arguments: str, code: int = 0) -> str:
        made = CliRunner().invoke(app, arguments)
        assert made.exit_code == code, made.output
        return made.output

    return run


def records(folder: Path) -> list[AuditRecord]:
    found, _ = AuditLog(folder).page(100)
    return found[::-1]


def test_rules_are_drafted_and_activated_on_record(command: Any, tmp_path: Path) -> None:
    """With their version, hashes of their conditions, and the actor; reading is not recorded."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    command("rules", "apply", str(file))
    command("rules", "list")
    command("challenge", "rules", "none")
    drafted, activated, challenged = records(tmp_path)
    assert (drafted.action, drafted.who.via) == ("rules.drafted", "cli")
    assert drafted.after is not None
    pseudonyms = Pseudonyms(kept_key(tmp_path / KEY_FILE))
    (rule,) = drafted.after["changed"]
    assert rule["when"] == pseudonyms.hash("text", '$email_address == "ada@example.com"')
    assert activated.after == {"version": drafted.after["version"]}
    assert drafted.before is not None
    assert activated.before == {"version": drafted.before["active"]}
    assert (challenged.action, challenged.after) == ("rules.challenged", {"version": None})
    assert "ada@" not in (tmp_path / "audit.jsonl").read_text()


def test_lists_are_changed_on_record(command: Any, tmp_path: Path) -> None:
    """With what they were and became, and the values as hashes."""
    command("lists", "create", "people", "--type", "email", "--description", "Of Ada Example.")
    command("lists", "add", "people", "ada@example.com", "bo@example.com")
    command("lists", "remove", "people", "bo@example.com")
    command("lists", "use", "people", "block")
    command("lists", "add", "people", "@@", code=2)
    command("lists", "create", "Bo Example", "--type", "email", code=2)
    command("lists", "drop", "people")
    found = records(tmp_path)
    assert [(one.action, one.result.value) for one in found] == [
        ("list.made", "recorded"),
        ("list.entries_changed", "recorded"),
        ("list.entries_changed", "done"),
        ("list.entries_changed", "recorded"),
        ("list.entries_changed", "done"),
        ("list.changed", "recorded"),
        ("list.changed", "done"),
        ("list.entries_changed", "recorded"),
        ("list.entries_changed", "failed"),
        ("list.dropped", "recorded"),
    ]
    before, after = found[4].before, found[4].after
    assert before is not None
    assert after is not None
    assert (before["entries"], after["became"]["entries"]) == (2, 1)
    assert before["version"] != after["became"]["version"]
    pseudonyms = Pseudonyms(kept_key(tmp_path / KEY_FILE))
    bo = pseudonyms.hash("email_address", "bo@example.com")
    assert after["remove"] == {"values": 1, "hashes": [bo]}
    log = (tmp_path / "audit.jsonl").read_text()
    assert "example.com" not in log
    assert "Ada Example" not in log
    assert "Bo Example" not in log


def test_nothing_is_changed_without_a_log(command: Any, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    assert "audit.jsonl" in command("lists", "create", "people", "--type", "email", code=2)
    assert "people" not in command("lists", "list", "--json")
