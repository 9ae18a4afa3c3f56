"""The declared stack: its services, their order, and the environment they get."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from devstack import stack
from devstack.errors import DevstackError
from devstack.servers.opensearch import can_reach
from devstack.service import RunAs
from devstack.settings import DevstackSettings


def settings(tmp_path: Path, **changed: Any) -> DevstackSettings:
    return DevstackSettings(_env_file=None, state_dir=tmp_path / "state", **changed)


def test_every_service_is_declared_and_comes_after_what_it_needs(tmp_path: Path) -> None:
    """An order in which a need comes later would still work, but would not be read."""
    services = stack.build(settings(tmp_path), stack.NAMES)
    assert tuple(service.name for service in services) == stack.NAMES
    seen: set[str] = set()
    for service in services:
        assert set(service.needs) <= seen
        seen.add(service.name)


def test_services_stop_before_flink_and_flink_before_the_servers(tmp_path: Path) -> None:
    stages = {
        service.name: service.stage for service in stack.build(settings(tmp_path), stack.NAMES)
    }
    assert stages["producer"] > stages["taskmanager"] > stages["kafka"]


def test_each_port_setting_belongs_to_one_service(tmp_path: Path) -> None:
    """Preflight checks what services declare, so every port setting must be declared once."""
    chosen = settings(tmp_path)
    declared = [
        port for service in stack.build(chosen, stack.NAMES) for port in service.ports.values()
    ]
    assert sorted(declared) == sorted(chosen.ports())


def test_services_get_the_addresses_of_the_local_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed port must reach every client, whatever address the environment still holds."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    env = stack.base_environment(settings(tmp_path, kafka_port=20990, opensearch_port=20991))
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:20990"
    assert env["OPENSEARCH_URL"] == "http://127.0.0.1:20991"
    assert env["STATE_DIR"] == str(tmp_path / "state")
    assert env["MODEL_REGISTRY"] == str(tmp_path / "state" / "models")


def test_a_fast_simulated_clock_is_no_wrong_event_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "EVENT_TIME_AHEAD_S" not in stack.base_environment(settings(tmp_path))
    monkeypatch.setenv("PRODUCER_SPEED", "60")
    assert stack.base_environment(settings(tmp_path))["EVENT_TIME_AHEAD_S"] == "0"


def test_a_server_left_out_is_not_started_and_its_address_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVSTACK_WITHOUT", "kafka, mail")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker.example:9094")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    chosen = settings(tmp_path)
    names = [service.name for service in stack.build(chosen, stack.NAMES)]
    assert "kafka" not in names
    assert "mail" not in names
    assert "opensearch" in names
    env = stack.base_environment(chosen)
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == "broker.example:9094"
    assert env["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"


def test_the_producer_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own traffic only, whatever else runs."""
    monkeypatch.setenv("DEVSTACK_WITHOUT", "producer")
    names = [service.name for service in stack.build(settings(tmp_path), stack.NAMES)]
    assert names == [name for name in stack.NAMES if name != "producer"]


def test_a_container_of_flink_shares_only_checkpoints(tmp_path: Path) -> None:
    """Its configuration names its own host: in a shared folder, others would start by it."""
    for name in ("jobmanager", "taskmanager", "flink_job"):
        service = stack.in_foreground(settings(tmp_path), name)
        assert not Path(service.env["FLINK_CONF_DIR"]).is_relative_to(tmp_path), name


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(DevstackError, match="kafkaesque"):
        stack.expand(["kafkaesque"])


def test_a_user_reaches_a_folder_only_through_open_ones() -> None:
    """One closed folder on the way is enough to keep somebody out."""
    stranger = RunAs("stranger", 64_001, 64_001)
    with tempfile.TemporaryDirectory() as place:
        inner = Path(place) / "inner"
        inner.mkdir(mode=0o755)
        Path(place).chmod(0o755)
        assert can_reach(inner, stranger)
        Path(place).chmod(0o700)
        assert not can_reach(inner, stranger)
