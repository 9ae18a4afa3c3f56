"""Records that the Kafka client cannot read: the supervisor finds them, an operator steps over them.

The client allocates a whole record, unpacked, before anything of ours runs, so one that does not fit
into the memory of the TaskManager fails the job at the same offset for ever. The supervisor searches
for it (`flink_job.unreadable_search`) and notes where the job stops. `step_over` writes a dead letter
and notes that offset; the supervisor then submits the job with a source that reads up to it and goes
on behind it (`SteppingSource`).

The client reads a compressed batch from its beginning, so the records behind such a one in its batch
cannot be read either. They become dead letters as well, with their values.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, TopicPartition
from pydantic import BaseModel, ValidationError

from flink_job.input_topic import committed_offsets, describe
from flink_job.settings import JobSettings
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.dead_letters import DeadLetterWriter
from fraud.kafka.group_consumer import Message
from fraud.runtime.clock import Clock
from fraud.runtime.files import replace_private

MAX_UNPACKED_BYTES: Final = 64 * 1_048_576
"""Longest record that the job reads, if only to refuse it; see docs/decisions/0036."""

_READ_S: Final = 120.0
_FOUND: Final = "unreadable.json"
_STEPPED_OVER: Final = "stepped-over.json"
_ONE_AT_A_TIME: Final = "one-at-a-time"
_DETAIL: Final = "expected a record that the Kafka client can hold unpacked"
_BEHIND: Final = "expected no record before it, in its batch, that the Kafka client cannot hold"

log = structlog.get_logger()


class Gap(BaseModel, frozen=True):
    """Offsets of a partition that cannot be read.

    Attributes:
        partition: Number of the partition.
        first: First of them, where reading stops.
        next: First offset behind them.
    """

    partition: int
    first: int
    next: int


class Found(BaseModel, frozen=True):
    """Where the job stops.

    Attributes:
        topic_id: Kafka's id of the topic; a recreated topic has another.
        gap: What cannot be read.
        error: Error of the client.
    """

    topic_id: str
    gap: Gap
    error: str


class SteppedOver(BaseModel):
    """The offsets that the job does not read.

    Attributes:
        topic_id: See `Found`.
        gaps: All of them.
    """

    topic_id: str
    gaps: list[Gap]


class StepOverError(Exception):
    """The job cannot step over an offset; the message says why."""


def found(settings: JobSettings) -> Found | None:
    """Return where the job stops, None if it reads on."""
    try:
        return Found.model_validate_json((settings.job_dir / _FOUND).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def note(settings: JobSettings, stop: Found) -> None:
    """Note where the job stops.

    Raises:
        OSError: It cannot be written.
    """
    settings.job_dir.mkdir(parents=True, exist_ok=True)
    replace_private(settings.job_dir / _FOUND, stop.model_dump_json().encode())


def forget(settings: JobSettings) -> None:
    """Forget where the job stopped: it reads on."""
    (settings.job_dir / _FOUND).unlink(missing_ok=True)


def one_at_a_time(settings: JobSettings) -> bool:
    """Check whether the next submission polls single records: several long ones took too much memory."""
    return (settings.job_dir / _ONE_AT_A_TIME).exists()


def read_one_at_a_time(settings: JobSettings, is_needed: bool) -> None:
    """Note whether the next submission polls single records.

    Raises:
        OSError: It cannot be noted.
    """
    path = settings.job_dir / _ONE_AT_A_TIME
    if is_needed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)


def passed(settings: JobSettings, stop: Found) -> bool:
    """Check whether the job has read on: it has more memory, or retention removed the record.

    Raises:
        KafkaException: The broker does not answer.
    """
    partition = stop.gap.partition
    return committed_offsets(settings, [partition])[partition] > stop.gap.first


def gaps(settings: JobSettings, topic_id: str) -> list[Gap]:
    """Return the offsets that were stepped over in the present topic.

    Raises:
        RuntimeError: The file that names them cannot be read.
    """
    path = settings.job_dir / _STEPPED_OVER
    try:
        stored = SteppedOver.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise RuntimeError(f"{path}: expected offsets that were stepped over: {error}") from None
    return stored.gaps if stored.topic_id == topic_id else []


def step_over(
    settings: JobSettings, partition: int, offset: int, clock: Clock, *, whole_batch: bool = False
) -> list[Message]:
    """Write dead letters for what cannot be read, and note that the job goes on behind it.

    It may be repeated: a dead letter that is written twice counts once.

    Args:
        settings: Of the job.
        partition: Where the job stops.
        offset: See `partition`.
        clock: Time now, UTC epoch milliseconds.
        whole_batch: Whether records behind it in its batch become dead letters without their values
            when they cannot be read here.

    Returns:
        What became a dead letter.

    Raises:
        Backpressure: Kafka did not acknowledge a dead letter.
        KafkaException: The broker does not answer.
        StepOverError: The job does not stop there, or other records would be lost.
    """
    stop = found(settings)
    if stop is None:
        raise StepOverError("the job reads every record: nothing is to be stepped over")
    gap = stop.gap
    if (gap.partition, gap.first) != (partition, offset):
        raise StepOverError(f"the job stops at partition {gap.partition}, offset {gap.first}")
    topic_id, _ = describe(settings)
    if stop.topic_id != topic_id:
        raise StepOverError(f"{settings.topic(Topic.TRANSACTIONS)} was made anew since")
    messages = _messages(settings, gap, whole_batch=whole_batch)
    DeadLetterWriter(settings, clock).write(
        [
            (
                message,
                InvalidMessage(ErrorCode.UNREADABLE, _DETAIL if message.value is None else _BEHIND),
            )
            for message in messages
        ]
    )
    known = gaps(settings, topic_id)
    noted = SteppedOver(topic_id=topic_id, gaps=[*(one for one in known if one != gap), gap])
    replace_private(settings.job_dir / _STEPPED_OVER, noted.model_dump_json().encode())
    return messages


def _messages(settings: JobSettings, gap: Gap, *, whole_batch: bool) -> list[Message]:
    topic = settings.topic(Topic.TRANSACTIONS)
    without_values = [
        Message(topic, gap.partition, offset, -1, None, None)
        for offset in range(gap.first, gap.next)
    ]
    if len(without_values) == 1:
        return without_values
    read = _read(settings, gap)
    if read is not None:
        return read
    if whole_batch:
        return without_values
    raise StepOverError(
        f"offsets {gap.first} to {gap.next - 1} are one batch, and it cannot be read here: run this where "
        "more memory is, or with --whole-batch, which keeps no values"
    )


def _read(settings: JobSettings, gap: Gap) -> list[Message] | None:
    """Read a batch with librdkafka, which unpacks it as a whole; None if that fails."""
    place = TopicPartition(settings.topic(Topic.TRANSACTIONS), gap.partition, gap.first)
    options = {
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # One batch a request; the most that librdkafka unpacks.
        "fetch.message.max.bytes": 1,
        "receive.message.max.bytes": 2_147_483_647,
        "auto.offset.reset": "error",
    }
    messages: list[Message] = []
    until_s = time.monotonic() + _READ_S
    with closing(clients.reader(settings.librdkafka(), settings.flink_job_name, options)) as reader:
        reader.assign([place])
        while time.monotonic() < until_s:
            raw: Any = reader.poll(1.0)
            if raw is None:
                continue
            error = raw.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                log.warning("flink_job.batch_unreadable", code=error.name(), detail=error.str())
                return None
            if error is not None or raw.offset() >= gap.next:
                return messages
            value = raw.value()
            messages.append(
                Message(
                    raw.topic(),
                    raw.partition(),
                    raw.offset(),
                    raw.timestamp()[1],
                    raw.key(),
                    None if value is None or len(value) > MAX_UNPACKED_BYTES else value,
                    tuple(raw.headers() or ()),
                )
            )
    return None
