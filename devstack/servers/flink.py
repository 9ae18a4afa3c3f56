"""Service declarations of a Flink cluster from the pip package: a JobManager and a TaskManager."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from devstack.errors import DevstackError
from devstack.java import java_home
from devstack.probes import get_json
from devstack.service import Probe, Service

TASK_MANAGER_ID: Final = "taskmanager-1"
"""Fixed id, so that a restarted TaskManager replaces its predecessor at once."""

METRICS_PORT: Final = 9249
"""Port of Flink's own metrics in containers."""

_SILENCE_MS: Final = 15_000
"""Time without a heartbeat (one every 2 s) after which a TaskManager counts as lost."""

_LOG4J: Final = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n%throwable
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.shadedkafka.name = org.apache.flink.kafka.shaded.org.apache.kafka
logger.shadedkafka.level = WARN
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
"""


def flink_home() -> Path:
    """Return the folder of the Flink distribution inside the pip package.

    Raises:
        DevstackError: The package is not installed.
    """
    found = find_spec("pyflink")
    if found is None or found.origin is None:
        raise DevstackError("no apache-flink in this Python environment; run `make setup`")
    return Path(found.origin).parent


def flink_environment(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the cluster's processes and of clients that submit jobs to it.

    Args:
        folder: Folder of the cluster, with its configuration in `conf`.
        env: Environment to extend.
    """
    home = flink_home()
    return {
        **env,
        "JAVA_HOME": str(java_home()),
        "FLINK_HOME": str(home),
        # Python workers must import installed packages only, nothing from the current folder.
        "PYTHONSAFEPATH": "1",
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LOG_DIR": str(folder / "log"),
        "FLINK_PID_DIR": str(folder / "pid"),
    }


def flink(
    folder: Path,
    checkpoints: Path,
    *,
    host: str,
    port: int,
    rpc_port: int,
    env: Mapping[str, str],
    slots: int = 4,
    jobmanager_memory: str = "1024m",
    taskmanager_memory: str = "1600m",
    jobmanager_host: str = "",
) -> tuple[Service, Service]:
    """Declare the JobManager and the TaskManager as services.

    Args:
        folder: Folder for configuration and temporary files.
        checkpoints: Folder for checkpoints and savepoints, which outlive jobs and the cluster.
        host: Address that the web interface listens on; other ports listen on 127.0.0.1.
        port: Port of the web interface and REST API.
        rpc_port: Port of the JobManager for RPC.
        env: Environment of the processes.
        slots: Number of task slots.
        jobmanager_memory: Total memory of the JobManager process, such as `1024m`.
        taskmanager_memory: Total memory of the TaskManager process, without Python workers.
        jobmanager_host: Host of the JobManager if the processes run on several machines or
            containers, which then use their own host names. Empty means all on 127.0.0.1.

    Returns:
        JobManager and TaskManager, in start order.
    """
    home = flink_home()
    environment = flink_environment(folder, env)
    reach = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
    bind, own_name, own_id = "127.0.0.1", "127.0.0.1", TASK_MANAGER_ID
    if jobmanager_host:
        bind, own_name = "0.0.0.0", socket.gethostname()  # noqa: S104 - a network of containers
        reach, own_id = jobmanager_host, own_name
    api = f"http://{reach}:{port}"
    configuration = {
        "env.java.opts.all": _default_java_options(home),
        # The JobManager only coordinates: without the optimising compiler it starts faster and
        # needs less memory.
        "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1",
        # Threads of G1 and of the optimising compiler would compete with the job for the same cores
        # (docs/decisions/0004).
        "env.java.opts.taskmanager": "-XX:+UseParallelGC -XX:TieredStopAtLevel=1",
        "jobmanager.rpc.address": jobmanager_host or "127.0.0.1",
        "jobmanager.rpc.port": rpc_port,
        "jobmanager.bind-host": bind,
        "jobmanager.memory.process.size": jobmanager_memory,
        "jobmanager.execution.failover-strategy": "region",
        "rest.address": reach,
        "rest.bind-address": host,
        "rest.port": port,
        "taskmanager.host": own_name,
        "taskmanager.bind-host": bind,
        "taskmanager.resource-id": own_id,
        "taskmanager.memory.process.size": taskmanager_memory,
        # State is on the heap and Python workers use no managed memory: only RocksDB would.
        "taskmanager.memory.managed.size": "128m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "96m",
        "taskmanager.numberOfTaskSlots": slots,
        "state.backend.type": "hashmap",
        "execution.checkpointing.dir": checkpoints.as_uri(),
        "execution.checkpointing.savepoint-dir": checkpoints.as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": 3,
        # Short enough to notice a lost TaskManager soon, long enough to survive a long GC pause.
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "20 s",
        "io.tmp.dirs": folder / "tmp",
        "web.upload.dir": folder / "tmp",
        # The web interface is read-only: only the job supervisor submits and cancels jobs.
        "web.submit.enable": "false",
        "web.cancel.enable": "false",
    }

    if jobmanager_host:
        # Flink's reporter listens on all addresses, which is safe only inside a container network.
        configuration |= {
            "metrics.reporters": "prom",
            "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
            "metrics.reporter.prom.port": METRICS_PORT,
        }

    def prepare() -> None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for name in ("conf", "log", "pid", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name}: {value}\n" for name, value in configuration.items())
        (folder / "conf" / "config.yaml").write_text(lines, "utf-8")
        for name in ("log4j-console.properties", "log4j.properties", "log4j-cli.properties"):
            (folder / "conf" / name).write_text(_LOG4J, "utf-8")

    taskmanager_started_ms = 0.0

    def prepare_taskmanager() -> None:
        nonlocal taskmanager_started_ms
        prepare()
        taskmanager_started_ms = time.time() * 1000

    bin_folder = home / "bin"
    jobmanager = Service(
        name="jobmanager",
        command=("bash", str(bin_folder / "jobmanager.sh"), "start-foreground"),
        ready=_jobmanager_ready(api),
        env=environment,
        ports={"FLINK_PORT": port},
        address=api,
        prepare=prepare,
        stage=1,
    )
    taskmanager = Service(
        name="taskmanager",
        command=("bash", str(bin_folder / "taskmanager.sh"), "start-foreground"),
        ready=_taskmanager_ready(api, lambda: taskmanager_started_ms),
        env=environment,
        needs=("jobmanager",),
        prepare=prepare_taskmanager,
        stage=1,
    )
    return jobmanager, taskmanager


def discard_leftovers(folder: Path) -> None:
    """Remove temporary files of an earlier cluster; must not be called while a cluster runs."""
    shutil.rmtree(folder / "tmp", ignore_errors=True)


def _default_java_options(home: Path) -> str:
    """Return Flink's default Java options, without which it fails on Java 17 and later."""
    text = (home / "conf" / "config.yaml").read_text("utf-8")
    found = re.search(r"^ +all: (--add-exports.*)$", text, re.MULTILINE)
    if not found:
        raise DevstackError("apache-flink's own configuration has no env.java.opts.all line")
    return found[1]


def _jobmanager_ready(api: str) -> Probe:
    def probe() -> str | None:
        try:
            get_json(f"{api}/overview")
        except (OSError, ValueError):
            return "not answering yet"
        return None

    return probe


def _taskmanager_ready(api: str, started_ms: Callable[[], float]) -> Probe:
    """Return a probe that succeeds once the TaskManager sent a heartbeat since its start.

    The heartbeat must be recent, too: the JobManager lists a dead TaskManager for a while, under
    the same id as its successor.
    """

    def probe() -> str | None:
        try:
            known = get_json(f"{api}/taskmanagers")["taskmanagers"]
        except (OSError, ValueError):
            return "the JobManager does not answer"
        # Despite its name the field is the time of the last heartbeat, not the time since.
        heard_ms = max((manager["timeSinceLastHeartbeat"] for manager in known), default=0)
        if heard_ms > max(started_ms(), time.time() * 1000 - _SILENCE_MS):
            return None
        return "not registered at the JobManager yet"

    return probe
