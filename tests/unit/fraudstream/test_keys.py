"""`fraudstream keys`: the same file as the API's, whether that runs or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fraud.security.api_keys import KeyStore, Role
from fraud.security.audit import AuditLog
from fraudstream.cli import app


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    run("create", "boss", "--role", "admin")
    secret = run("create", "checkout").stdout.splitlines()[-1]
    store = KeyStore(tmp_path)
    key = store.find(secret)
    assert key is not None
    assert (key.name, key.role) == ("checkout", Role.SCORE)
    listed = run("list").output
    assert key.id in listed
    assert secret not in listed
    assert run("revoke", key.id).exit_code == 0
    assert store.find(secret) is None
    page, _ = AuditLog(tmp_path).page(10)
    assert [(one.action, one.target, one.who.via) for one in page] == [
        ("key.revoked", "key/checkout", "cli"),
        ("key.created", "key/checkout", "cli"),
        ("key.created", "key/boss", "cli"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--role", "god"], "--role: expected one of score, analyst, admin"),
        (["create", "-x"], ""),
        (["create", "a/b"], "name: expected"),
        (["create", "boss"], "boss is taken"),
        (["revoke", "key_1"], "unknown key: key_1"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments: list[str], said: str) -> None:
    run("create", "boss", "--role", "admin")
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_the_last_admin_key_stays(tmp_path: Path) -> None:
    run("create", "boss", "--role", "admin")
    (key,) = KeyStore(tmp_path).all_keys()
    result = run("revoke", key.id)
    assert result.exit_code == 2
    assert "last key of role admin" in result.output
