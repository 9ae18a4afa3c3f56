"""Real servers on free ports, started in the background, each once per session."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import has_ended, running, spawn, stop
from devstack.servers.flink import flink, flink_environment
from devstack.servers.kafka import kafka as kafka_service
from devstack.servers.mail import mail
from devstack.servers.opensearch import opensearch as opensearch_service
from devstack.servers.opensearch import unprivileged_user
from devstack.service import Service

HOST = "127.0.0.1"


class SmtpServer(NamedTuple):
    """Where the mail catcher is."""

    host: str
    port: int
    api_url: str


class FlinkCluster(NamedTuple):
    """A JobManager and a TaskManager.

    Attributes:
        api_url: Of the web interface and REST API.
        env: Environment in which `flink run` finds the cluster; holds FLINK_CONF_DIR and others.
        kafka_connector_jar: The SQL connector for Kafka.
        ecj_jar: The Eclipse compiler for Java.
        checkpoints: Folder of the checkpoints.
    """

    api_url: str
    env: dict[str, str]
    kafka_connector_jar: Path
    ecj_jar: Path
    checkpoints: Path


class Servers:
    """Starts servers in the background; asking for one waits until it is ready.

    Args:
        folder: Their state and logs.
        wanted: Names of those that start at once; the others start when they are asked for.
    """

    def __init__(self, folder: Path, wanted: set[str]) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="server")
        self._starters: dict[str, Callable[[], object]] = {
            "kafka": self._kafka,
            "opensearch": self._opensearch,
            "smtp": self._smtp,
            "flink_cluster": self._flink,
        }
        self._ports = free_ports(7, HOST)
        self._started: dict[str, Future[object]] = {
            name: self._pool.submit(self._starters[name]) for name in wanted & self._starters.keys()
        }

    def get(self, name: str) -> object:
        """Return where a server is, once it is ready."""
        if name not in self._started:
            self._started[name] = self._pool.submit(self._starters[name])
        return self._started[name].result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._exit.close()

    @property
    def logs(self) -> Path:
        """Folder of the servers' log files."""
        return self._folder / "logs"

    def _run(self, service: Service) -> None:
        self._exit.enter_context(running(service, self.logs))

    def _keep_running(self, service: Service) -> None:
        """Start it again whenever it ends, as the stack's supervisor and Compose do."""
        first = self._exit.enter_context(running(service, self.logs))
        done = threading.Event()

        def keep() -> None:
            process = first
            while not done.wait(1):
                if has_ended(process):
                    process = spawn(service, self.logs / f"{service.name}.log")
            if process is not first:
                stop(process, service.stop_timeout_s)

        keeper = threading.Thread(target=keep, name=f"keeps {service.name}")
        keeper.start()
        self._exit.callback(keeper.join)
        self._exit.callback(done.set)

    def _kafka(self) -> str:
        port, controller_port = self._ports[:2]
        self._run(
            kafka_service(
                artifacts.ensure("kafka", Console(stderr=True)),
                self._folder / "kafka",
                host=HOST,
                port=port,
                controller_port=controller_port,
                advertised_host=HOST,
                env=os.environ,
            )
        )
        return f"{HOST}:{port}"

    def _opensearch(self) -> str:
        (archive,) = artifacts.ensure("opensearch", Console(stderr=True))
        service = opensearch_service(
            archive,
            self._folder / "opensearch",
            host=HOST,
            port=self._ports[2],
            env=os.environ,
            run_as=unprivileged_user("nobody"),
            is_short_lived=True,
        )
        self._run(service)
        return service.address

    def _smtp(self) -> SmtpServer:
        port, ui_port = self._ports[3:5]
        service = mail(self._folder, host=HOST, smtp_port=port, ui_port=ui_port, env=os.environ)
        self._run(service)
        return SmtpServer(HOST, port, service.address)

    def _flink(self) -> FlinkCluster:
        (connector,) = artifacts.ensure("flink-connector", Console(stderr=True))
        (zstd,) = artifacts.ensure("zstd", Console(stderr=True))
        (compiler,) = artifacts.ensure("ecj", Console(stderr=True))
        folder, checkpoints = self._folder / "flink", self._folder / "checkpoints"
        jobmanager, taskmanager = flink(
            folder,
            checkpoints,
            host=HOST,
            port=self._ports[5],
            rpc_port=self._ports[6],
            env=os.environ,
        )
        self._run(jobmanager)
        self._keep_running(taskmanager)
        env = {
            **flink_environment(folder, os.environ),
            "FLINK_KAFKA_CONNECTOR_JAR": str(connector),
            "FLINK_ZSTD_JAR": str(zstd),
            "FLINK_JAVA_COMPILER_JAR": str(compiler),
        }
        return FlinkCluster(jobmanager.address, env, connector, compiler, checkpoints)
