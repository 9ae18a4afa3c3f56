"""The API as a process, and the topics that it follows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.ports import free_ports
from fraud.runtime.settings import KafkaSettings
from fraud.security.api_keys import first_key
from tests.support.builders import a_record

DEADLINE_S = 60.0


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Poll a condition until it is true; gives its value."""
    end_s = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end_s, "the deadline passed"
        time.sleep(0.05)
    return value


class Topic:
    """A topic of its own for each test."""

    def __init__(self, bootstrap: str, partitions: int = 2) -> None:
        self.bootstrap = bootstrap
        self.name = f"processed-{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.partitions = partitions
        self.create()
        control = NewTopic(self.control, 1, 1)
        self.admin.create_topics([control])[self.control].result(30)

    @property
    def control(self) -> str:
        """Name of a control topic that goes with it."""
        return f"{self.name}.control"

    def create(self) -> None:
        """Make it."""
        new = NewTopic(self.name, self.partitions, 1)
        self.admin.create_topics([new])[self.name].result(30)

    def delete(self) -> None:
        """Remove it, and wait until it is gone."""
        self.admin.delete_topics([self.name])[self.name].result(30)
        until(lambda: self.name not in self.admin.list_topics(timeout=10).topics)

    def write(self, *values: bytes, partition: int = -1) -> None:
        """Write records, by their entity unless told where."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for value in values:
            if partition >= 0:
                producer.produce(self.name, value, partition=partition)
            else:
                producer.produce(self.name, value, orjson.loads(value)["entity_id"])
        assert producer.flush(30) == 0

    def settings(self) -> KafkaSettings:
        """Return settings that lead to it."""
        return KafkaSettings(
            kafka_bootstrap_servers=self.bootstrap, topic_processed_transactions=self.name
        )


class Api:
    """The API as a process.

    Args:
        env: Its settings.
    """

    def __init__(self, env: dict[str, str]) -> None:
        (port,) = free_ports(1)
        self.state_dir = Path(env["STATE_DIR"])
        self.log = self.state_dir / f"{port}.log"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scoring_api"],
                env={**os.environ, **env, "API_PORT": str(port)},
                stdout=log,
                stderr=log,
            )

    def is_ready(self) -> bool:
        """Return whether it may be asked."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            ready = self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False
        if ready:
            self.http.headers["Authorization"] = f"Bearer {first_key(self.state_dir)}"
        return ready

    def score(self, **changes: Any) -> dict[str, Any]:
        """Score a record; gives the decision."""
        answer = self.http.post("/v1/score", json=a_record(**changes)).raise_for_status()
        return answer.json()["fd"]  # type: ignore[no-any-return]

    def rows(self, entity: str = "c-1") -> int:
        """Count the rows of history that a score of an entity sees."""
        return int(self.score(event_id="asked", entity_id=entity)["history"]["entity"])

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal and wait; gives the exit code and all that was written."""
        self.process.send_signal(number)
        return self.process.wait(30), self.log.read_text()


@contextmanager
def api(env: dict[str, str]) -> Iterator[Api]:
    started = Api(env)
    try:
        until(started.is_ready)
        yield started
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGKILL)
        started.http.close()


def settings_of(topic: Topic, registry: Path, tmp_path: Path) -> dict[str, str]:
    """Return the settings of an API."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": topic.bootstrap,
        "TOPIC_PROCESSED_TRANSACTIONS": topic.name,
        "TOPIC_FRAUD_CONTROL": topic.control,
        "MODEL_REGISTRY": str(registry),
        "STATE_DIR": str(tmp_path),
        "API_SNAPSHOT_S": "0.2",
        "LOG_FORMAT": "json",
    }
