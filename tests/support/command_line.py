"""The command line as a person runs it, on topics of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
from kafka import KafkaConsumer, TopicPartition
from typer.testing import CliRunner, Result

from fraudstream.cli import app


def environment(bootstrap: str, folder: Path, name: str, **more: str) -> dict[str, str]:
    """Return an environment with topics of the test's own on the shared broker."""
    return os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "STATE_DIR": str(folder),
        "TOPIC_TRANSACTIONS": f"{name}-transactions",
        "TOPIC_PROCESSED_TRANSACTIONS": f"{name}-processed",
        "TOPIC_TRANSACTIONS_DLQ": f"{name}-dlq",
        "TOPIC_LABELS": f"{name}-labels",
        "TOPIC_FRAUD_CONTROL": f"{name}-control",
        **more,
    }


def make_topics(env: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", "fraud.kafka.topics"], env=env, check=True, timeout=60)


def read_all(bootstrap: str, topic: str) -> list:
    """Read a topic from its first to its present end, with kafka-python."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=10_000)
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        out: list = []
        wanted = sum(ends.values())
        for record in consumer:
            out.append(record)
            if len(out) >= wanted:
                break
        return out
    finally:
        consumer.close()


class Analyst:
    """Runs `fraudstream` as a person would."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command, expect its exit code, and give all that it said."""
        return self._ran(*arguments, code=code).output

    def _ran(self, *arguments: str | Path, code: int = 0) -> Result:
        made = CliRunner().invoke(app, [str(one) for one in arguments], env=self._env)
        assert made.exit_code == code, made.output
        return made

    def versions(self) -> dict[str, str]:
        rows = orjson.loads(self._ran("rules", "list", "--json").stdout)
        return {row["version"]: row["status"] for row in rows}
