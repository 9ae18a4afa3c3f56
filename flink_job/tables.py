"""The job's tables: Kafka in, Kafka out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flink_job.settings import JobSettings
from fraud.contracts.topics import Topic

SOURCE: Final = "transactions"
SINK: Final = "outputs"

LARGEST_REQUEST_BYTES: Final = 2 * 1_048_576
"""Longest request of the sink, which ends the job when a record is longer: what the topics take."""


def _options(options: dict[str, str]) -> str:
    quoted = {name: value.replace("'", "''") for name, value in options.items()}
    return ",\n  ".join(f"'{name}' = '{value}'" for name, value in quoted.items())


def _client(settings: JobSettings) -> dict[str, str]:
    return {f"properties.{name}": value for name, value in settings.java_client().items()}


def source_ddl(
    settings: JobSettings,
    *,
    from_earliest: bool = False,
    step_over: Sequence[str] = (),
    one_at_a_time: bool = False,
) -> str:
    """Declare the input as raw bytes, so that a bad record arrives unchanged.

    Args:
        settings: Settings of the job.
        from_earliest: Whether a job without state reads everything retained instead of starting at
            the offsets of its group.
        step_over: Offsets that cannot be read, as `SteppingTableFactory` takes them.
        one_at_a_time: Whether to poll single records, because several took too much memory.
    """
    options = _client(settings) | {
        "connector": "kafka",
        "topic": settings.topic(Topic.TRANSACTIONS),
        "properties.group.id": settings.flink_job_name,
        "scan.startup.mode": "earliest-offset" if from_earliest else "group-offsets",
        "properties.auto.offset.reset": "earliest",
        # New partitions are found while the job runs.
        "scan.topic-partition-discovery.interval": "30 s",
        # Latency: answer a fetch as soon as there is something.
        "properties.fetch.min.bytes": "1",
        "properties.fetch.max.wait.ms": "20",
        # Memory: up to four polls of unpacked records lie on the heap at once, and a megabyte of
        # packed records of 5 MB each is a gigabyte. A poll of 16 costs microseconds a record.
        "properties.max.poll.records": "16",
        "properties.isolation.level": "read_committed",
        "key.format": "raw",
        "key.fields": "record_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }
    if step_over:
        options |= {"connector": "fraudstream-kafka", "step-over": ";".join(step_over)}
    if step_over or one_at_a_time:
        # A longer poll would run into a gap before it can stop.
        options["properties.max.poll.records"] = "1"
    return f"""CREATE TEMPORARY TABLE {SOURCE} (
  record_key BYTES,
  record_value BYTES,
  source_headers MAP<STRING NOT NULL, BYTES> METADATA FROM 'headers' VIRTUAL,
  source_topic STRING METADATA FROM 'topic' VIRTUAL,
  source_partition INT METADATA FROM 'partition' VIRTUAL,
  source_offset BIGINT METADATA FROM 'offset' VIRTUAL,
  source_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  arrival AS PROCTIME()
) WITH (
  {_options(options)}
)"""


def sink_ddl(settings: JobSettings) -> str:
    """Declare the output: one sink for both topics, so that a record ends in exactly one."""
    options = _client(settings) | {
        "connector": "kafka",
        "topic": f"{settings.topic(Topic.PROCESSED)};{settings.topic(Topic.DEAD_LETTERS)}",
        # A decision is some 4 kB, so Kafka's 16 KiB would make a request of every three of them; and
        # what a batch of Python gave comes at once, so waiting gathers no more.
        "properties.linger.ms": "0",
        "properties.batch.size": "65536",
        # Not compressed: some clients read no more than that without further libraries.
        "properties.compression.type": "none",
        "properties.acks": "all",
        "properties.max.request.size": str(LARGEST_REQUEST_BYTES),
        "sink.delivery-guarantee": settings.flink_delivery,
        "key.format": "raw",
        "key.fields": "record_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }
    if settings.flink_delivery == "exactly-once":
        options |= {
            "sink.transactional-id-prefix": settings.flink_job_name,
            "properties.transaction.timeout.ms": str(settings.flink_transaction_timeout_s * 1000),
        }
    return f"""CREATE TEMPORARY TABLE {SINK} (
  record_key BYTES,
  record_value BYTES,
  topic STRING NOT NULL METADATA,
  headers MAP<STRING, BYTES> METADATA
) WITH (
  {_options(options)}
)"""
