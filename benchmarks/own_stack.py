"""Starts broker, Flink cluster and job of the benchmarks' own on free ports, and removes them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from rich.console import Console

from benchmarks.workload import history_file
from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.flink import flink, flink_environment
from devstack.servers.kafka import kafka
from flink_job.cluster import Cluster

_HOST: Final = "127.0.0.1"
_START_S: Final = 120


@dataclass(frozen=True, slots=True)
class OwnStack:
    """Addresses of a running stack of the benchmark.

    Attributes:
        bootstrap_servers: Address of the broker.
        cluster: Flink's.
        job: Name of the job.
        env: Settings of our services for this stack.
    """

    bootstrap_servers: str
    cluster: Cluster
    job: str
    env: Mapping[str, str]


def run_module(name: str, *arguments: str, env: Mapping[str, str]) -> None:
    """Run `python -m NAME` to its end.

    Raises:
        RuntimeError: It failed; the message has its output.
    """
    result = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"{name} failed:\n{result.stdout}{result.stderr}")


@dataclass(frozen=True, slots=True)
class Broker:
    """A running Kafka broker.

    Attributes:
        bootstrap_servers: Its address.
        folder: Temporary folder, with the broker's data in it and room for other files.
        pid: Process id.
    """

    bootstrap_servers: str
    folder: Path
    pid: int


@contextmanager
def own_broker(console: Console) -> Iterator[Broker]:
    """Start a broker on a free port, with its data in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name:
        folder = Path(name)
        port, controller_port = free_ports(2, _HOST)
        service = kafka(
            artifacts.ensure("kafka", console),
            folder / "kafka",
            host=_HOST,
            port=port,
            controller_port=controller_port,
            advertised_host=_HOST,
            env=os.environ,
        )
        with running(service, folder / "logs") as process:
            yield Broker(f"{_HOST}:{port}", folder, process.pid)


@contextmanager
def own_stack(
    history: Path, console: Console, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[OwnStack]:
    """Start broker and cluster, train a model, submit the job and wait until it runs.

    Args:
        history: Its folder keeps the history that the model learns from.
        console: Output of progress.
        settings: Of the job and the topics, by their names in the environment.

    Raises:
        TimeoutError: The job did not run in time.
    """
    with ExitStack() as stack:
        broker = stack.enter_context(own_broker(console))
        folder, bootstrap_servers = broker.folder, broker.bootstrap_servers
        ports = free_ports(2, _HOST)
        checkpoints = folder / "checkpoints"
        services = flink(
            folder / "flink",
            checkpoints,
            host=_HOST,
            port=ports[0],
            rpc_port=ports[1],
            env=os.environ,
        )
        for service in services:
            stack.enter_context(running(service, folder / "logs"))
        env = {
            **flink_environment(folder / "flink", os.environ),
            **settings,
            "STATE_DIR": str(folder),
            "MODEL_REGISTRY": str(folder / "models"),
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "FLINK_URL": services[0].address,
            "FLINK_CHECKPOINT_DIR": str(checkpoints),
            "FLINK_KAFKA_CONNECTOR_JAR": str(artifacts.ensure("flink-connector", console)[0]),
            "FLINK_ZSTD_JAR": str(artifacts.ensure("zstd", console)[0]),
            "FLINK_JAVA_COMPILER_JAR": str(artifacts.ensure("ecj", console)[0]),
        }
        run_module("fraud.kafka.topics", env=env)
        training = history_file(history.parent, days=45, customers=2000, seed=11)
        run_module("model", "train", "--if-missing", "--data", str(training), env=env)
        run_module("flink_job.job", env=env)
        cluster = Cluster(services[0].address)
        deadline = time.monotonic() + _START_S
        while (job := cluster.active_job("fraudstream")) is None or not job.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the job did not run within {_START_S} s")
            time.sleep(0.5)
        yield OwnStack(bootstrap_servers, cluster, "fraudstream", env)
