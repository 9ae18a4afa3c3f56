"""Service declaration of a single-node Kafka broker in KRaft mode."""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack.errors import DevstackError
from devstack.java import java
from devstack.service import Probe, Service

_LOG4J: Final = """\
Configuration:
  status: warn
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "%d{ISO8601} %p %c{1}: %m%n%throwable"}}
  Loggers:
    Root: {level: WARN, AppenderRef: [{ref: STDOUT}]}
    Logger:
      - {name: kafka.server, level: INFO}
      - {name: org.apache.kafka.clients, level: ERROR}
"""
_FORMAT_TIMEOUT_S: Final = 60


def kafka(
    jars: Sequence[Path],
    folder: Path,
    *,
    host: str,
    port: int,
    controller_port: int,
    advertised_host: str,
    env: Mapping[str, str],
    heap: str = "384m",
) -> Service:
    """Declare the Kafka broker as a service.

    Args:
        jars: Class path of the broker.
        folder: Folder for data and configuration; data survives a restart.
        host: Address to listen on.
        port: Port for clients.
        controller_port: Port of the KRaft controller, on 127.0.0.1.
        advertised_host: Host name that clients are told to connect to.
        env: Environment of the process.
        heap: Java heap, such as `384m`.
    """
    properties = folder / "server.properties"
    data = folder / "data"
    class_path = ":".join(str(jar) for jar in jars)
    start = (
        java(),
        f"-Xms{heap}",
        f"-Xmx{heap}",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}",
        "-cp",
        class_path,
    )

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log4j2.yaml").write_text(_LOG4J, "utf-8")
        settings = broker_properties(data, host, port, controller_port, advertised_host)
        lines = (f"{name}={value}\n" for name, value in settings.items())
        properties.write_text("".join(lines), "utf-8")
        if not (data / "meta.properties").exists():
            _format(start, properties, env)

    return Service(
        name="kafka",
        command=(*start, "kafka.Kafka", str(properties)),
        ready=answers_metadata(f"{advertised_host}:{port}"),
        env=env,
        ports={"KAFKA_PORT": port},
        address=f"{advertised_host}:{port}",
        prepare=prepare,
        stage=0,
        stop_timeout_s=30.0,
    )


def answers_metadata(bootstrap_servers: str) -> Probe:
    """Return a probe that succeeds once the metadata lists a broker, as clients need it."""

    def probe() -> str | None:
        # Without a log callback librdkafka writes each refused connection to stderr.
        client = AdminClient(
            {"bootstrap.servers": bootstrap_servers, "log_level": 0, "socket.timeout.ms": 2000}
        )
        try:
            return None if client.list_topics(timeout=2).brokers else "no broker registered yet"
        except KafkaException:
            return "not answering yet"

    return probe


def broker_properties(
    data: Path, host: str, port: int, controller_port: int, advertised_host: str
) -> dict[str, object]:
    """Return the broker's configuration; a test compares it with the compose file's."""
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{advertised_host}:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "num.network.threads": 2,
        "num.io.threads": 4,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        # The job's transactions outlive any outage that it is restarted after.
        "transaction.max.timeout.ms": 7 * 86_400_000,
        # Consumer groups start at once: on one machine there are no other members to wait for.
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": 2 * 1_048_576 + 65_536,  # outputs and dead letters take 2 MiB
        "replica.fetch.max.bytes": 2 * 1_048_576 + 65_536,
        "log.segment.bytes": 128 * 1_048_576,
    }


def _format(start: tuple[str, ...], properties: Path, env: Mapping[str, str]) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    if cluster_id.startswith("-"):  # the tool would take it for an option
        cluster_id = "A" + cluster_id[1:]
    command = (*start, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
    done = subprocess.run(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise DevstackError(f"kafka: cannot format its storage: {done.stdout}{done.stderr}".strip())
