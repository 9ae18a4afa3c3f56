"""Rebuilds history that no checkpoint has from the retained input, without publishing it again.

State of one layout cannot be read in another, so checkpoints are kept in a folder per layout; and a
restore may lack them. If this layout has no checkpoint although the job has run before, a
*line* is stored: the offsets that the job committed. The job starts without state from the earliest
retained record; records below the line go through the history and are not published. The line is
kept in a file for a job that is resubmitted during the rebuild, and for one of a third layout.

Transactions that the earlier job left open are settled first. What they published may be ahead of
the offsets committed, so with exactly-once the line is drawn behind the last record published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog
from confluent_kafka import Message, TopicPartition
from pydantic import BaseModel, ValidationError

from flink_job.checkpoints import Checkpoint, noted, retained
from flink_job.input_topic import CALL_S, committed_offsets, describe
from flink_job.settings import JobSettings
from flink_job.transactions import settle_in_process
from fraud.contracts.errors import ErrorCode
from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.dead_letters import to_dead_letter
from fraud.kafka.group_consumer import message_of
from fraud.kafka.range_reader import CannotRead, TopicSpan
from fraud.runtime.files import replace_private

NOTES: Final = "checkpoints.json"
"""File in which checkpoints in an object store are noted."""

_FILE: Final = "published.json"
_TAIL: Final = 100_000
"""Outputs that are read to find the last one published when no checkpoint says since when."""

_SLACK_MS: Final = 60_000
"""Most that clocks of broker and checkpoints are taken to differ by."""

log = structlog.get_logger()


class Line(BaseModel):
    """The offsets up to which an input topic was published.

    Attributes:
        topic_id: Kafka's id of the topic; a recreated topic has another.
        offsets: First offset by partition that is to be published.
    """

    topic_id: str
    offsets: dict[int, int]


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a submission without state.

    Attributes:
        from_earliest: Whether it reads everything retained instead of starting at the group's offsets.
        publish_from: First offset by partition that is to be published (default 0).
    """

    from_earliest: bool
    publish_from: Mapping[int, int]


def known_checkpoints(settings: JobSettings) -> list[Checkpoint]:
    """Return the checkpoints that the job can start from, newest first."""
    if settings.lists_checkpoints:
        return retained(settings.layout_dir)
    return noted(settings.layout_dir / NOTES)


def draw_line_if_needed(
    settings: JobSettings, settle: Callable[[int | None], Sequence[str]] = settle_in_process
) -> bool:
    """Store the published offsets if the job has run before and no checkpoint of this layout exists.

    It has run before when its group has committed offsets: it does so with each checkpoint.

    Args:
        settings: Of the job.
        settle: Settles the transactions that the job left open; see `flink_job.transactions`.

    Returns:
        Whether they were stored.

    Raises:
        KafkaException: The broker does not answer.
        OSError: The line cannot be stored, or the transactions cannot be settled.
    """
    if known_checkpoints(settings):
        return False
    topic_id, partitions = describe(settings)
    earlier = _read(settings.job_dir)
    known = earlier.offsets if earlier and earlier.topic_id == topic_id else {}
    offsets = {
        partition: max(committed, known.get(partition, 0))
        for partition, committed in committed_offsets(settings, partitions).items()
    }
    if not any(offsets.values()):
        return False
    last = _last_checkpoints(settings)
    settled = settle(last[0].number if last else None)
    if settled:
        log.warning("flink_job.transactions_settled", transactions=settled)
    if settings.flink_delivery == "exactly-once":
        # The group's offsets follow a committed transaction, and may lack it, settled here or not.
        # What the newest published was written after the last but one had begun.
        since_ms = last[2].completed_ms - _SLACK_MS if len(last) > 2 else 0
        for partition, end in _published(settings, since_ms).items():
            offsets[partition] = max(offsets.get(partition, 0), end)
    settings.job_dir.mkdir(parents=True, exist_ok=True)
    line = Line(topic_id=topic_id, offsets=offsets)
    replace_private(settings.job_dir / _FILE, line.model_dump_json().encode())
    return True


def decided_again(settings: JobSettings, since_ms: int) -> dict[int, tuple[int, int]]:
    """Return the offsets that come out again from a checkpoint of a time, by partition.

    Args:
        settings: Of the job.
        since_ms: When the checkpoint was complete, UTC epoch milliseconds.

    Returns:
        First offset and the one after the last that was committed, of partitions that have some.

    Raises:
        KafkaException: The broker does not answer.
    """
    name = settings.topic(Topic.TRANSACTIONS)
    _, partitions = describe(settings)
    committed = committed_offsets(settings, partitions)
    with closing(clients.reader(settings.librdkafka(), settings.flink_job_name, {})) as consumer:
        firsts = consumer.offsets_for_times(
            [TopicPartition(name, partition, since_ms) for partition in partitions], timeout=CALL_S
        )
    return {
        first.partition: (first.offset, committed[first.partition])
        for first in firsts
        if 0 <= first.offset < committed[first.partition]
    }


def start(settings: JobSettings) -> Start:
    """Return the start of a job, by the line if one is stored for the present topic.

    Raises:
        KafkaException: The broker does not answer.
    """
    line = _read(settings.job_dir)
    if line is None or line.topic_id != describe(settings)[0]:
        return Start(from_earliest=False, publish_from={})
    return Start(from_earliest=True, publish_from=line.offsets)


def _last_checkpoints(settings: JobSettings) -> list[Checkpoint]:
    """Return the checkpoints of the layout that ran last, newest first."""
    by_layout = [
        found
        for layout in settings.job_dir.glob("layout-*")
        if (found := retained(layout) or noted(layout / NOTES))
    ]
    return max(by_layout, key=lambda found: found[0].completed_ms, default=[])


def _published(settings: JobSettings, since_ms: int) -> dict[int, int]:
    """Return the offset after the last published input record, by partition, of recent outputs."""
    ends: dict[int, int] = {}
    for topic in (Topic.PROCESSED, Topic.DEAD_LETTERS):
        try:
            with TopicSpan(
                settings,
                topic,
                since_ms=since_ms,
                latest=None if since_ms else _TAIL,
                service=settings.flink_job_name,
            ) as span:
                for batch in span.batches():
                    for message in batch:
                        name, partition, offset = _source(topic, message)
                        if name == settings.topic(Topic.TRANSACTIONS):
                            ends[partition] = max(ends.get(partition, 0), offset + 1)
        except CannotRead as error:
            raise OSError(str(error)) from None
    return ends


def _source(topic: Topic, message: Message) -> tuple[str, int, int]:
    """Return topic, partition and offset of an output's input; an empty topic if it has none."""
    if topic is Topic.DEAD_LETTERS:
        letter = to_dead_letter(message_of(message))
        place = letter.source
        # One that was stepped over may be written before all before it is decided.
        if place is None or letter.error_code == ErrorCode.UNREADABLE:
            return "", 0, 0
        return place.topic, place.partition, place.offset
    try:
        # Headers of a decision are the input's.
        source = orjson.loads(message.value() or b"")["fd"]["source"]
        return source["topic"], source["partition"], source["offset"]
    except (ValueError, KeyError, TypeError):
        return "", 0, 0


def _read(folder: Path) -> Line | None:
    try:
        return Line.model_validate_json((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        # To go on without would publish everything once more.
        raise RuntimeError(f"{folder / _FILE}: expected a line of offsets: {error}") from None
