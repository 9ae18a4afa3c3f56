"""Transactions that a killed job left open, at a real broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console

from devstack import artifacts
from flink_job.rebuild import draw_line_if_needed, start
from flink_job.settings import JobSettings
from flink_job.transactions import settle_in_process

pytestmark = [pytest.mark.service, pytest.mark.slow]


def an_open_transaction(kafka: str, topic: str, name: str, value: bytes = b"") -> Producer:
    """Write a record, by default the transaction's name, and never end the transaction."""
    producer = Producer(
        {"bootstrap.servers": kafka, "transactional.id": name, "transaction.timeout.ms": 600_000}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value or name.encode())
    assert producer.flush(30) == 0
    return producer


def a_job(kafka: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Create the topic of a job, for input and output, and set the environment; return its name."""
    job = f"job-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(job, 1, 1)])[job].result(30)
    (connector,) = artifacts.ensure("flink-connector", Console(stderr=True))
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "FLINK_JOB_NAME": job,
        "FLINK_DELIVERY": "exactly-once",
        "FLINK_KAFKA_CONNECTOR_JAR": str(connector),
        "FLINK_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "STATE_DIR": str(folder),
        "TOPIC_TRANSACTIONS": job,
        "TOPIC_PROCESSED_TRANSACTIONS": job,
        "TOPIC_TRANSACTIONS_DLQ": job,
    }.items():
        monkeypatch.setenv(name, value)
    return job


def test_what_a_complete_checkpoint_handed_over_is_committed_and_the_rest_aborted(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that starts without state does not know them; readers would wait for a week."""
    job = a_job(kafka, tmp_path, monkeypatch)
    names = [f"{job}-0-8", f"{job}-0-7", f"{job}-1-7", f"{job}-of-another-0-7"]
    still_open = [an_open_transaction(kafka, job, name) for name in names]

    done = settle_in_process(7)

    assert sorted(done) == [f"aborted {names[0]}", *(f"committed {name}" for name in names[1:3])]
    assert settle_in_process(7) == [], "what is settled is left alone"
    still_open[3].abort_transaction(30)
    reader = Consumer({"bootstrap.servers": kafka, "group.id": job, "enable.partition.eof": True})
    reader.assign([TopicPartition(job, 0, 0)])
    read = []
    while (message := reader.poll(30)) is not None and message.error() is None:
        read.append(message.value().decode())
    reader.close()
    assert read == names[1:3]


@pytest.mark.parametrize("is_complete", [True, False])
def test_another_layout_begins_behind_the_last_record_published(
    is_complete: bool, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was killed after its checkpoint was complete, before it committed anything."""
    job = a_job(kafka, tmp_path, monkeypatch)
    source = {"topic": job, "partition": 0, "offset": 7}
    output = orjson.dumps({"fd": {"source": source}})
    still_open = an_open_transaction(kafka, job, f"{job}-0-3", output)
    group = Consumer({"bootstrap.servers": kafka, "group.id": job})
    group.commit(offsets=[TopicPartition(job, 0, 5)], asynchronous=False)
    group.close()
    settings = JobSettings()
    if is_complete:
        checkpoint = settings.job_dir / "layout-earlier" / "flinks-id" / "chk-3"
        checkpoint.mkdir(parents=True)
        (checkpoint / "_metadata").touch()

    assert draw_line_if_needed(settings)

    assert start(settings).publish_from == {0: 8 if is_complete else 5}
    assert still_open is not None


def test_the_job_asks_for_the_time_that_our_broker_allows(kafka: str) -> None:
    """With more the job would not start; with less an outage of a night would lose decisions."""
    timeout_ms = JobSettings.model_fields["flink_transaction_timeout_s"].default * 1000
    settings = {"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex}
    Producer(settings | {"transaction.timeout.ms": timeout_ms}).init_transactions(30)
