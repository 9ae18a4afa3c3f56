"""Rebuilds the history of another layout from the retained input, without publishing it again.

State of one layout cannot be read in another, so checkpoints are kept in a folder per layout. If
only checkpoints of other layouts exist, a *line* is stored: the offsets that the earlier job
committed. The job starts without state from the earliest retained record; records below the line
go through the history and are not published. The line is kept in a file for a job that is
resubmitted during the rebuild, and for one of a third layout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import TopicCollection, TopicPartition
from pydantic import BaseModel, ValidationError

from flink_job.checkpoints import retained
from flink_job.settings import JobSettings
from fraud.contracts.topics import Topic
from fraud.kafka import clients

_FILE: Final = "published.json"
_CALL_S: Final = 30.0


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


def draw_line_if_needed(settings: JobSettings) -> bool:
    """Store the published offsets if only state of other layouts exists.

    Returns:
        Whether they were stored.

    Raises:
        KafkaException: The broker does not answer.
        OSError: The line cannot be stored.
    """
    folder = settings.flink_checkpoint_dir
    if retained(settings.layout_dir) or not any(
        retained(other)
        for other in folder.glob("layout-*")
        if other.name != settings.layout_dir.name
    ):
        return False
    topic_id, partitions = _describe(settings)
    earlier = _read(folder)
    known = earlier.offsets if earlier and earlier.topic_id == topic_id else {}
    offsets = {
        partition: max(committed, known.get(partition, 0))
        for partition, committed in _committed(settings, partitions).items()
    }
    making = folder / f".{_FILE}.{os.getpid()}"
    making.write_text(Line(topic_id=topic_id, offsets=offsets).model_dump_json(), "utf-8")
    making.replace(folder / _FILE)
    return True


def start(settings: JobSettings) -> Start:
    """Return the start of a job, by the line if one is stored for the present topic.

    Raises:
        KafkaException: The broker does not answer.
    """
    line = _read(settings.flink_checkpoint_dir)
    if line is None or line.topic_id != _describe(settings)[0]:
        return Start(from_earliest=False, publish_from={})
    return Start(from_earliest=True, publish_from=line.offsets)


def _read(folder: Path) -> Line | None:
    try:
        return Line.model_validate_json((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        # To go on without would publish everything once more.
        raise RuntimeError(f"{folder / _FILE}: expected a line of offsets: {error}") from None


def _describe(settings: JobSettings) -> tuple[str, list[int]]:
    name = settings.topic(Topic.TRANSACTIONS)
    admin = clients.admin(settings.librdkafka(), {})
    asked = admin.describe_topics(TopicCollection([name]), request_timeout=_CALL_S)
    described = asked[name].result(_CALL_S)
    return str(described.topic_id), [partition.id for partition in described.partitions]


def _committed(settings: JobSettings, partitions: list[int]) -> dict[int, int]:
    name = settings.topic(Topic.TRANSACTIONS)
    consumer = clients.group_member(settings.librdkafka(), settings.flink_job_name, {})
    try:
        found = consumer.committed(
            [TopicPartition(name, partition) for partition in partitions], timeout=_CALL_S
        )
    finally:
        consumer.close()
    return {one.partition: max(one.offset, 0) for one in found}
