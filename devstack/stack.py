"""Declares the services of the stack, in start order, with their environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from devstack import artifacts
from devstack.errors import DevstackError
from devstack.java import java_home
from devstack.ports import free_ports
from devstack.probes import http_ready
from devstack.process import STACK_MARK
from devstack.servers.flink import flink, flink_environment
from devstack.servers.kafka import kafka
from devstack.servers.mail import mail
from devstack.servers.opensearch import opensearch, unprivileged_user
from devstack.service import Service, not_asked
from devstack.settings import PYTHON, DevstackSettings, env_file_values

# Names of the services, in start order. The user may bring `kafka`, `opensearch` and `mail`.
NAMES: Final = (
    "kafka",
    "opensearch",
    "mail",
    "jobmanager",
    "taskmanager",
    "topics",
    "train",
    "flink_job",
    "indexer",
    "notifier",
    "scoring_api",
    "producer",
)
GROUPS: Final = {"flink": ("jobmanager", "taskmanager", "flink_job")}
"""Names that stand for several services in `logs` and `up --only`."""

_SERVICE_START_S: Final = 600.0
_RPC_PORT_IN_CONTAINERS: Final = 6123
"""RPC port between Flink's containers; on one machine it is any free port."""

_FLINK_IN_CONTAINERS: Final = Path("/tmp/flink")  # noqa: S108 - of a container alone
"""Folder of Flink inside each container. It is not in the state folder, which containers share,
because the configuration contains the container's host name."""


def expand(names: Iterable[str]) -> list[str]:
    """Replace groups by their services and return all names in start order.

    Raises:
        DevstackError: A name is unknown.

    Example:
        >>> expand(["flink", "mail"])
        ['mail', 'jobmanager', 'taskmanager', 'flink_job']
    """
    chosen: set[str] = set()
    for name in names:
        if name not in GROUPS and name not in NAMES:
            known = ", ".join((*GROUPS, *NAMES))
            raise DevstackError(f"unknown service {name!r}; expected one of: {known}")
        chosen.update(GROUPS.get(name, (name,)))
    return [name for name in NAMES if name in chosen]


def log_folder(settings: DevstackSettings) -> Path:
    """Return the folder of the log files, one per service."""
    return settings.state_dir / "logs"


def fetch(settings: DevstackSettings, only: Iterable[str], console: Console) -> None:
    """Download the JVM files that the chosen services need, and show progress."""
    chosen = set(only)
    sets = [
        ("kafka", "kafka" in chosen and not settings.without("kafka")),
        ("opensearch", "opensearch" in chosen and not settings.without("opensearch")),
        ("flink-connector", "flink_job" in chosen),
        ("zstd", "flink_job" in chosen),
        ("ecj", "flink_job" in chosen),
    ]
    for name, is_needed in sets:
        if is_needed:
            artifacts.ensure(name, console, mirror=settings.maven_repository_url)


def base_environment(settings: DevstackSettings) -> dict[str, str]:
    """Return the environment of every process: `.env`, the user's, and our folders and addresses.

    Addresses of local servers always follow from their ports; other values are ignored.
    """
    state = settings.state_dir
    reach = settings.reach_host
    user = {**env_file_values(), **os.environ}
    defaults = {
        **settings.places(),
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        # malloc's default of several arenas per core would cost the services some 100 MB.
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if float(user.get("PRODUCER_SPEED") or 1) > 1:
        # The simulated clock runs ahead of the broker's, and its labels with it.
        defaults |= {"EVENT_TIME_AHEAD_S": "0", "LABEL_AHEAD_S": "0"}
    ours = {
        STACK_MARK: str(state),
        "STATE_DIR": str(state),
        "BIND_HOST": settings.bind_host,
        "API_PORT": str(settings.api_port),
        "PRODUCER_OPS_PORT": str(settings.producer_ops_port),
        "FLINK_JOB_OPS_PORT": str(settings.flink_job_ops_port),
        "NOTIFIER_OPS_PORT": str(settings.notifier_ops_port),
        "INDEXER_OPS_PORT": str(settings.indexer_ops_port),
        "FLINK_URL": f"http://{reach}:{settings.flink_port}",
        "FLINK_CHECKPOINT_DIR": str(state / "checkpoints"),
        "JAVA_HOME": str(java_home()),
    }
    ours |= settings.addresses()
    if not settings.without("kafka"):
        ours["KAFKA_SECURITY_PROTOCOL"] = "PLAINTEXT"
    if not settings.without("opensearch"):
        ours["OPENSEARCH_USERNAME"] = ours["OPENSEARCH_PASSWORD"] = ""
    if not settings.without("mail"):
        ours["SMTP_SECURITY"] = "none"
        ours["SMTP_USERNAME"] = ours["SMTP_PASSWORD"] = ""
    # An empty variable counts as not set, as in all our settings.
    user = {name: value for name, value in user.items() if value or name not in defaults}
    return {**defaults, **user, **ours}


def build(settings: DevstackSettings, only: Iterable[str]) -> list[Service]:
    """Declare the chosen services, in start order; nothing is downloaded or started.

    Args:
        settings: Settings of devstack.
        only: Names of services; those in `DEVSTACK_WITHOUT` are skipped.

    Raises:
        DevstackError: A Python package or the user to run OpenSearch as is missing.
    """
    state = settings.state_dir
    env = base_environment(settings)
    chosen = [name for name in only if name not in settings.devstack_without]
    controller_port, rpc_port = free_ports(2, taken=settings.ports())
    declared: dict[str, Service] = {}

    if "kafka" in chosen:
        declared["kafka"] = kafka(
            artifacts.paths("kafka"),
            state / "kafka",
            host=settings.bind_host,
            port=settings.kafka_port,
            controller_port=controller_port,
            advertised_host=settings.kafka_host,
            env=env,
            heap=settings.kafka_heap,
        )
    if "opensearch" in chosen:
        declared["opensearch"] = opensearch(
            artifacts.paths("opensearch")[0],
            state / "opensearch",
            host=settings.bind_host,
            port=settings.opensearch_port,
            env=env,
            heap=settings.opensearch_heap,
            run_as=unprivileged_user(settings.opensearch_run_as),
        )
    if "mail" in chosen:
        declared["mail"] = mail(
            state,
            host=settings.bind_host,
            smtp_port=settings.smtp_port,
            ui_port=settings.mail_ui_port,
            env=env,
        )
    jobmanager, taskmanager = _flink(settings, state / "flink", env, rpc_port)
    declared |= {"jobmanager": jobmanager, "taskmanager": taskmanager}
    job_env = flink_environment(state / "flink", env)
    if "flink_job" in chosen:
        job_env["FLINK_KAFKA_CONNECTOR_JAR"] = str(artifacts.paths("flink-connector")[0])
        job_env["FLINK_ZSTD_JAR"] = str(artifacts.paths("zstd")[0])
        job_env["FLINK_JAVA_COMPILER_JAR"] = str(artifacts.paths("ecj")[0])
    declared["topics"] = _once("topics", "fraud.kafka.topics", env, needs=("kafka",))
    declared["train"] = _once("train", "devstack.train", env)
    for service in (
        _ours(settings, "flink_job", "FLINK_JOB_OPS_PORT", settings.flink_job_ops_port, job_env, needs=("topics", "train", "taskmanager")),
        _ours(settings, "indexer", "INDEXER_OPS_PORT", settings.indexer_ops_port, env, needs=("topics", "opensearch")),
        _ours(settings, "notifier", "NOTIFIER_OPS_PORT", settings.notifier_ops_port, env, needs=("topics", "mail")),
        _ours(settings, "scoring_api", "API_PORT", settings.api_port, env, needs=("topics", "train")),
        _ours(settings, "producer", "PRODUCER_OPS_PORT", settings.producer_ops_port, env, needs=("topics", "train")),
    ):  # fmt: skip
        declared[service.name] = service
    return [declared[name] for name in NAMES if name in chosen]


def in_foreground(settings: DevstackSettings, name: str) -> Service:
    """Declare one of Flink's processes, or the supervisor of its job, for a container of its own.

    Raises:
        DevstackError: The name is unknown.
    """
    env = flink_environment(_FLINK_IN_CONTAINERS, os.environ)
    jobmanager, taskmanager = _flink(settings, _FLINK_IN_CONTAINERS, env, _RPC_PORT_IN_CONTAINERS)
    supervisor = replace(
        _ours(settings, "flink_job", "FLINK_JOB_OPS_PORT", settings.flink_job_ops_port, env, needs=()),
        prepare=jobmanager.prepare,
    )  # fmt: skip
    declared = {service.name: service for service in (jobmanager, taskmanager, supervisor)}
    if name not in declared:
        raise DevstackError(f"run: expected one of {', '.join(declared)}, got {name!r}")
    return declared[name]


def _flink(
    settings: DevstackSettings, folder: Path, env: dict[str, str], rpc_port: int
) -> tuple[Service, Service]:
    return flink(
        folder,
        settings.state_dir / "checkpoints",
        host=settings.bind_host,
        port=settings.flink_port,
        rpc_port=rpc_port,
        env=env,
        slots=settings.flink_task_slots,
        jobmanager_memory=settings.flink_jobmanager_memory,
        taskmanager_memory=settings.flink_taskmanager_memory,
        jobmanager_host=settings.flink_jobmanager_host,
    )


def _once(name: str, module: str, env: dict[str, str], needs: tuple[str, ...] = ()) -> Service:
    return Service(
        name=name,
        command=(PYTHON, "-m", module),
        ready=not_asked,
        env=env,
        needs=needs,
        one_shot=True,
        start_timeout_s=1800.0,
    )


def _ours(
    settings: DevstackSettings,
    name: str,
    setting: str,
    port: int,
    env: dict[str, str],
    *,
    needs: tuple[str, ...],
) -> Service:
    address = f"http://{settings.reach_host}:{port}"
    return Service(
        name=name,
        command=(PYTHON, "-m", name),
        ready=http_ready(f"{address}/health/ready"),
        env=env,
        needs=needs,
        ports={setting: port},
        address=address,
        start_timeout_s=_SERVICE_START_S,
    )
