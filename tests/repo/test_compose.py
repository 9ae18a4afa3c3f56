"""The compose file and devstack describe the same system: services, order, ports, settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack import stack
from devstack.servers.kafka import broker_properties
from devstack.settings import ComposeSettings, DevstackSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)["services"]
ONLY_IN_COMPOSE = {"dashboards", "dashboards_import", "prometheus", "grafana"}
# Made of the ports, or names of containers: devstack's environment has the same, see its tests.
OF_THE_ADDRESSES = {
    "PUBLIC_URL", "DASHBOARDS_PUBLIC_URL", "KAFKA_BOOTSTRAP_SERVERS", "OPENSEARCH_URL", "SMTP_HOST",
}  # fmt: skip
# The listeners differ, since containers and this machine reach the broker by different names.
OF_THE_NETWORK = {
    "controller.quorum.voters", "listeners", "advertised.listeners", "inter.broker.listener.name",
    "listener.security.protocol.map", "log.dirs",
}  # fmt: skip


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    settings = DevstackSettings(_env_file=None, state_dir=tmp_path)
    return {service.name: service for service in stack.build(settings, stack.NAMES)}


def test_the_services_are_the_same() -> None:
    assert set(COMPOSE) == set(stack.NAMES) | ONLY_IN_COMPOSE


def test_each_service_waits_for_at_least_what_it_needs(services: dict[str, Any]) -> None:
    """Conditions may ask for more; none may be left out."""
    for name, service in services.items():
        assert set(service.needs) <= set(COMPOSE[name].get("depends_on", {})), name


def test_each_service_runs_the_same_module(services: dict[str, Any]) -> None:
    """Flink's are wrapped: `devstack run` writes their configuration first."""
    for name, service in services.items():
        command = COMPOSE[name].get("command")
        if command is None:
            assert not COMPOSE[name]["image"].startswith("fraudstream")
        elif command[2] == "devstack":
            assert command[3:] == ["run", name]
        else:
            assert command[1:] == list(service.command[1:]), name


def test_the_ports_on_this_machine_are_the_same(services: dict[str, Any]) -> None:
    published = {
        setting: int(default)
        for name, service in COMPOSE.items()
        for port in service.get("ports", ())
        for setting, default in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", port)
        if name not in ONLY_IN_COMPOSE
    }
    assert published == {
        setting: port for service in services.values() for setting, port in service.ports.items()
    }


def test_everything_listens_on_this_machine_only() -> None:
    for service in COMPOSE.values():
        for port in service.get("ports", ()):
            assert port.startswith("${BIND_HOST:-127.0.0.1}:")


def test_settings_have_the_same_names_and_defaults() -> None:
    """What `.env` may say is what .env.example lists."""
    example = dict(
        re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)
    )
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT):
        assert name in example
        if name in OF_THE_ADDRESSES:
            continue
        assert default == (example[name] or ("127.0.0.1" if name == "ADVERTISED_HOST" else "")), (
            name
        )


def test_containers_use_servers_of_the_users_own() -> None:
    """And the local ones can be left out: nothing waits for them then."""
    for name in ("kafka", "opensearch", "mail"):
        assert COMPOSE[name]["deploy"]["replicas"] == f"${{{name.upper()}_REPLICAS:-1}}"
        for service, declared in COMPOSE.items():
            needs = declared.get("depends_on", {})
            assert name not in needs or needs[name]["required"] is False, service
    places = COMPOSE["indexer"]["environment"]
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "OPENSEARCH_URL", "SMTP_HOST"):
        assert places[name].startswith(f"${{{name}:-")


def test_what_only_compose_reads_is_read() -> None:
    """A setting that nothing reads would be a promise."""
    read = {name.lower() for name in re.findall(r"\$\{(\w+):", TEXT)}
    assert set(ComposeSettings.model_fields) <= read


def test_the_broker_has_the_same_properties(tmp_path: Path) -> None:
    environment = COMPOSE["kafka"]["environment"]
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in environment.items()
        if name != "KAFKA_HEAP_OPTS"
    }
    ours = {name: str(value) for name, value in broker_properties(tmp_path, "h", 1, 2, "h").items()}
    assert set(given) == set(ours)
    assert {n: v for n, v in given.items() if n not in OF_THE_NETWORK} == {
        n: v for n, v in ours.items() if n not in OF_THE_NETWORK
    }


def test_each_image_of_ours_is_built_once_and_every_service_is_bounded() -> None:
    for name, service in COMPOSE.items():
        assert "mem_limit" in service, name
        assert re.fullmatch(r"[\w/.-]+:(\$\{FRAUDSTREAM_TAG:-local\}|v?[\d.]+)", service["image"])
    built = {
        service["image"]: service["build"] for service in COMPOSE.values() if "build" in service
    }
    assert len(built) == sum("build" in service for service in COMPOSE.values())
    ours = {
        service["image"] for service in COMPOSE.values() if "FRAUDSTREAM_TAG" in service["image"]
    }
    assert set(built) == ours
    for image, build in built.items():
        assert image == f"fraudstream-{build['target']}:${{FRAUDSTREAM_TAG:-local}}"
