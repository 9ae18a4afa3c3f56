"""The supervised job on a real cluster and a real broker, with topics of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from flink_job.cluster import Cluster
from tests.support.builders import a_registry, a_value
from tests.support.servers import FlinkCluster

DEADLINE_S = 120


class Job:
    """A supervised job with names of its own, and its topics.

    Args:
        kafka: Bootstrap servers.
        cluster: Where it runs.
        folder: Its state.
        settings: Further settings.
    """

    def __init__(self, kafka: str, cluster: FlinkCluster, folder: Path, **settings: str) -> None:
        self.name = f"job-{uuid.uuid4().hex[:8]}"
        self.kafka = kafka
        self.checkpoints = folder / "checkpoints"
        self.cluster = Cluster(cluster.api_url)
        self.python = sys.executable
        self.env = {
            **os.environ,
            **cluster.env,
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_TRANSACTIONS": f"{self.name}.in",
            "TOPIC_PROCESSED_TRANSACTIONS": f"{self.name}.out",
            "TOPIC_TRANSACTIONS_DLQ": f"{self.name}.dead",
            "TOPIC_LABELS": f"{self.name}.labels",
            "TOPIC_FRAUD_CONTROL": f"{self.name}.control",
            "STATE_DIR": str(folder),
            "MODEL_REGISTRY": str(a_registry(folder / "models")),
            "FLINK_URL": cluster.api_url,
            "FLINK_JOB_NAME": self.name,
            "FLINK_CHECKPOINT_DIR": str(self.checkpoints),
            "FLINK_CHECKPOINT_INTERVAL_S": "1",
            "FLINK_JOB_OPS_PORT": "0",
            "FLINK_RETRY_S": "0.5",
            **settings,
        }

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Create the topics and run the supervisor; the job is cancelled on leaving."""
        subprocess.run([sys.executable, "-m", "fraud.kafka.topics"], env=self.env, check=True)
        # -P: only what is installed for that Python, nothing from the current folder.
        supervisor = subprocess.Popen([self.python, "-P", "-m", "flink_job"], env=self.env)
        try:
            self.wait(
                "the job", lambda: (job := self.cluster.active_job(self.name)) and job.running
            )
            yield
        finally:
            supervisor.terminate()
            supervisor.wait(30)
            self.cancel()

    def cancel(self) -> None:
        """Cancel the job, as somebody may in Flink's web interface."""
        job = self.cluster.active_job(self.name)
        if job is not None:
            url = f"{self.env['FLINK_URL']}/jobs/{job.id}?mode=cancel"
            urlopen(Request(url, method="PATCH"), timeout=10).close()  # noqa: S310 - our own server

    def wait(self, what: str, done: object) -> None:
        """Ask until the answer is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():  # type: ignore[operator]
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
            time.sleep(0.2)

    def send(self, first: int, count: int) -> None:
        """Send events numbered from `first` on."""
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True})
        for number in range(first, first + count):
            value = a_value(event_id=f"e{number}", entity_id=f"c{number % 20}")
            producer.produce(self.env["TOPIC_TRANSACTIONS"], value, f"c{number % 20}")
        assert producer.flush(DEADLINE_S) == 0

    def produce(self, value: bytes) -> None:
        """Send one record without a key."""
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(self.env["TOPIC_TRANSACTIONS"], value)
        assert producer.flush(DEADLINE_S) == 0

    def _partitions(self, topic: str) -> tuple[Consumer, list[TopicPartition]]:
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": self.name})
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return consumer, [TopicPartition(topic, number) for number in numbers]

    def committed(self) -> int:
        """Count the input records that the job's group has committed."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS"])
        found = consumer.committed(partitions, timeout=10)
        consumer.close()
        return sum(max(one.offset, 0) for one in found)

    def dead_letters(self) -> int:
        """Count the dead letters."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS_DLQ"])
        ends = [consumer.get_watermark_offsets(one, timeout=10)[1] for one in partitions]
        consumer.close()
        return sum(ends)

    def letters(self) -> list[Any]:
        """Read all dead letters that are there."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS_DLQ"])
        for one in partitions:
            one.offset = 0
        consumer.assign(partitions)
        found: list[Any] = []
        count, deadline = self.dead_letters(), time.monotonic() + DEADLINE_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} dead letters were read"
            found += [one for one in consumer.consume(500, 0.5) if one.error() is None]
        consumer.close()
        return found

    def outputs(self, count: int) -> list[dict[str, object]]:
        """Read what is committed until `count` different events are there."""
        topic = self.env["TOPIC_PROCESSED_TRANSACTIONS"]
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[dict[str, object]] = []
        deadline = time.monotonic() + DEADLINE_S
        while len({record["event_id"] for record in found}) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} decisions came out"
            found += [
                orjson.loads(message.value() or b"")
                for message in consumer.consume(500, 0.5)
                if message.error() is None
            ]
        consumer.close()
        return found


def python_workers(cluster: FlinkCluster) -> list[psutil.Process]:
    """Return the workers of all jobs of a cluster."""
    return [
        process
        for process in psutil.process_iter()
        if _is_worker(process) and cluster.env["FLINK_CONF_DIR"] in _environment(process)
    ]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("beam_boot" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _environment(process: psutil.Process) -> str:
    try:
        return " ".join(process.environ().values())
    except psutil.Error:
        return ""
