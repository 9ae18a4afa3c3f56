"""What is watched is there: metrics, services, ports, and a word on each alert."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
import pytest
import yaml

import fraud.runtime.metrics as declared
from devstack.servers.flink import METRICS_PORT
from fraud.contracts.decision import Mark
from tools.monitoring import (
    ALARMS,
    AS_MANY_AS_THERE_ARE,
    PANELS,
    TARGETS,
    prometheus_config,
)

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
EXPRESSIONS = [one.expr for one in ALARMS] + [
    expr for panel in PANELS for expr in panel.series.values()
]
# Flink's own, and the counters that our functions add to its operators.
OF_FLINK = {
    "flink_jobmanager_job_lastCheckpointDuration",
    "flink_jobmanager_job_numRestarts",
    "flink_jobmanager_job_numberOfFailedCheckpoints",
    "flink_taskmanager_job_task_numRecordsInPerSecond",
    "flink_taskmanager_job_task_operator_pendingRecords",
    "flink_taskmanager_Status_JVM_Memory_Heap_Max",
    "flink_taskmanager_Status_JVM_Memory_Heap_Used",
}
OPERATOR = "flink_taskmanager_job_task_operator_"
FUNCTIONS = "".join(
    (ROOT / "flink_job" / module).read_text("utf-8")
    for module in ("reading.py", "deciding.py", "java/LastN.java")
)


def series() -> set[str]:
    """Return the names of all time series of our services."""
    kinds = (prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)
    names: set[str] = set()
    for metric in vars(declared).values():
        if isinstance(metric, kinds):
            described = next(iter(metric.describe()))
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
            names |= {described.name + end for end in suffixes.get(described.type, [""])}
    return names


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_that_is_asked_for_is_declared(expression: str) -> None:
    counters = set(re.findall(r'counter\("(\w+)"\)', FUNCTIONS)) | {mark.lower() for mark in Mark}
    asked = set(re.findall(r"\b(?:fraudstream|flink)_\w+", expression))
    assert asked or expression.startswith("up ")
    for name in asked:
        assert name in series() | OF_FLINK or (
            name.startswith(OPERATOR) and name.removeprefix(OPERATOR) in counters
        ), name


def test_every_target_is_a_service_with_that_port() -> None:
    services = COMPOSE["services"]
    assert set(TARGETS) <= set(services)
    places = COMPOSE["x-places"]
    for name, port in TARGETS.items():
        setting = {"scoring_api": "API_PORT"}.get(name, f"{name.upper()}_OPS_PORT")
        expected = METRICS_PORT if name in ("jobmanager", "taskmanager") else places[setting]
        assert port == expected, name


def test_a_service_that_is_gone_is_seen() -> None:
    """By its target that is down, or where its name goes with it, by having none."""
    jobs = {one["job_name"]: one for one in yaml.safe_load(prometheus_config())["scrape_configs"]}
    assert jobs.keys() == TARGETS.keys()
    absent = " ".join(EXPRESSIONS)
    for name, port in TARGETS.items():
        if name in AS_MANY_AS_THERE_ARE:
            replicas = COMPOSE["services"][name].get("deploy", {}).get("replicas")
            assert replicas or f'absent(up{{job="{name}"}})' in absent, name
        else:
            assert jobs[name]["static_configs"] == [{"targets": [f"{name}:{port}"]}]


def test_what_the_profile_mounts_is_there() -> None:
    for name in ("prometheus", "grafana"):
        service = COMPOSE["services"][name]
        assert service["profiles"] == ["monitoring"]
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()


def test_every_alert_says_what_to_do() -> None:
    names = [one.name for one in ALARMS]
    assert len(set(names)) == len(names)
    for one in ALARMS:
        assert one.severity in ("page", "ticket")
        assert one.meaning.endswith(".")
        assert one.what_to_do.endswith(".")
