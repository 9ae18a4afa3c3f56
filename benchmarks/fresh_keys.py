"""Memory and rate of the history when every record brings a key that was never seen."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pyflink.table import EnvironmentSettings, TableEnvironment
from rich.console import Console
from rich.progress import Progress

from devstack import artifacts
from devstack.ports import free_ports
from devstack.probes import get_json
from devstack.process import running
from devstack.servers.flink import flink
from flink_job.cluster import Cluster
from flink_job.java_functions import build_jar
from flink_job.job import configuration
from flink_job.pipeline import register_java_functions
from flink_job.settings import JobSettings
from fraud.features.catalogue import KEYS

_HOST: Final = "127.0.0.1"
_POLL_S: Final = 2.0
_STUCK_S: Final = 300.0
_PER_SECOND: Final = 1_000_000


def fresh_key_figures(count: int, backend: str, console: Console) -> dict[str, Any]:
    """Measure the job's own step that keeps the entity's history, with `count` keys of one record.

    The cluster has devstack's memory, the job its own options. Python is left out: the history is
    kept before it.

    Args:
        count: Number of keys.
        backend: `hashmap` or `rocksdb`.
        console: Output of progress.

    Raises:
        TimeoutError: Nothing was read for five minutes.
    """
    with TemporaryDirectory(prefix="fraudstream-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        ports = free_ports(2, _HOST)
        services = flink(
            folder / "flink",
            folder / "checkpoints",
            host=_HOST,
            port=ports[0],
            rpc_port=ports[1],
            env=os.environ,
        )
        for service in services:
            stack.enter_context(running(service, folder / "logs"))
        settings = JobSettings(
            state_dir=folder,
            flink_url=services[0].address,
            flink_checkpoint_dir=str(folder / "checkpoints"),
            flink_state_backend=backend,
        )
        (compiler,) = artifacts.ensure("ecj", console)
        (connector,) = artifacts.ensure("flink-connector", console)
        began = time.monotonic()
        _submit(settings, build_jar(compiler, connector, folder / "jars"), connector)
        figures = _watch(Cluster(settings.flink_url), settings, count, console)
        return {"scenario": f"{backend}, {count:,} keys", **figures, "s": time.monotonic() - began}


def _submit(settings: JobSettings, jar: Path, connector: Path) -> None:
    table_env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    options: Mapping[str, str] = configuration(settings) | {
        "execution.target": "remote",
        "execution.attached": "false",
        "rest.address": _HOST,
        "rest.port": settings.flink_url.rpartition(":")[2],
        "pipeline.jars": f"{jar.as_uri()};{connector.as_uri()}",
    }
    for option, value in options.items():
        table_env.get_config().set(option, value)
    register_java_functions(table_env, jar)
    entity = KEYS[0]
    # An id of some 19 characters, and a record as long as the entity's.
    # Of all 64-bit numbers one hardly comes twice. (Flink keeps all of a sequence in memory.)
    table_env.execute_sql(
        "CREATE TEMPORARY TABLE fresh (number BIGINT, arrival AS PROCTIME()) WITH ("
        f"'connector' = 'datagen', 'rows-per-second' = '{_PER_SECOND}')"
    )
    table_env.execute_sql(
        "CREATE TEMPORARY TABLE nowhere (ring BYTES) WITH ('connector' = 'blackhole')"
    )
    table_env.execute_sql(
        f"INSERT INTO nowhere SELECT last_n({entity.rows}, record) OVER "
        "(PARTITION BY entity_key ORDER BY arrival) FROM ("
        "SELECT CAST(number AS STRING) AS entity_key, "
        f"CAST(LPAD(CAST(number AS STRING), {entity.dtype.itemsize}, '0') AS BYTES) AS record, "
        "arrival FROM fresh)"
    )


def _watch(cluster: Cluster, settings: JobSettings, count: int, console: Console) -> dict[str, Any]:
    """Wait until all keys are in a checkpoint, or the job or its TaskManager failed."""
    most_heap, failed, url = 0.0, "", settings.flink_url
    deadline = time.monotonic() + _STUCK_S
    read = 0
    with Progress(console=console) as progress:
        task = progress.add_task("keys", total=count)
        while read < count and not failed:
            time.sleep(_POLL_S)
            job = cluster.active_job(settings.flink_job_name)
            if job is None:
                failed = "the job ended"
                break
            detail = get_json(f"{url}/jobs/{job.id}")
            now_read = sum(step["metrics"]["write-records"] for step in detail["vertices"][:1])
            if now_read > read:
                read, deadline = now_read, time.monotonic() + _STUCK_S
            progress.update(task, completed=min(read, count))
            for manager in get_json(f"{url}/taskmanagers")["taskmanagers"]:
                metrics = get_json(f"{url}/taskmanagers/{manager['id']}")["metrics"]
                if metrics["heapMax"]:  # 0 until it has told
                    most_heap = max(most_heap, metrics["heapUsed"] / metrics["heapMax"])
            exceptions = get_json(f"{url}/jobs/{job.id}/exceptions")["exceptionHistory"]["entries"]
            if exceptions:
                failed = str(exceptions[0]["exceptionName"])
            if time.monotonic() > deadline:
                raise TimeoutError(f"no record was read within {_STUCK_S:g} s")
    figures = {"keys": read, "failed": failed or None, "most_heap": round(most_heap, 3)}
    if not failed:
        checkpoint = cluster.completed_checkpoint(
            settings.flink_job_name, after_ms=time.time() * 1000, timeout_s=_STUCK_S
        )
        figures |= {
            "state_mb": checkpoint["state_size"] / 1e6,
            "checkpoint_ms": checkpoint["end_to_end_duration"],
        }
    return figures
