"""The command line finds what `make up` started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devstack import stack
from devstack.settings import DevstackSettings
from fraudstream.environment import complete_environment

NAMES = ("KAFKA_BOOTSTRAP_SERVERS", "OPENSEARCH_URL", "SMTP_HOST", "PUBLIC_URL", "MODEL_REGISTRY", "STATE_DIR")  # fmt: skip


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*NAMES, "BIND_HOST", "KAFKA_PORT"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    "env_file",
    [
        "",
        "STATE_DIR=/data\n",
        "ADVERTISED_HOST=broker.example\nKAFKA_PORT=9999\n",
        "BIND_HOST=::\n",
    ],
)
def test_it_reaches_what_devstack_starts(env_file: str) -> None:
    Path(".env").write_text(env_file)
    services = stack.base_environment(DevstackSettings())
    complete_environment()
    assert {name: os.environ[name] for name in NAMES} == {name: services[name] for name in NAMES}


def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("OPENSEARCH_URL=http://search.example:9200\nSMTP_HOST=x\n")
    monkeypatch.setenv("SMTP_HOST", "smtp.example")
    complete_environment()
    assert os.environ["OPENSEARCH_URL"] == "http://search.example:9200"
    assert os.environ["SMTP_HOST"] == "smtp.example"


def test_a_wrong_setting_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PORT", "many")
    with pytest.raises(SystemExit, match="KAFKA_PORT"):
        complete_environment()
