"""Notices input of the job that is gone, because Flink's source would go on elsewhere in silence.

An offset below the first of its partition means records that expired before they were decided. Flink
then reads on at the first one there is. Another id of the topic means one that was made anew: the
offsets in checkpoints and of the group are of other records, so the job starts without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from confluent_kafka import KafkaException, TopicPartition

from flink_job.settings import JobSettings
from fraud.contracts.topics import Topic
from fraud.kafka import clients
from fraud.kafka.vanished import TopicLook, create_series, tell_gone, why_gone
from fraud.runtime.files import replace_private

SERVICE: Final = "flink_job"

_FILE: Final = "topic-id"
_CALL_S: Final = 10.0
_LOOK_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Offsets:
    """Offsets of a partition.

    Attributes:
        committed: Next offset to be decided, as of the job's last checkpoint; negative if unknown.
        first: First offset there is.
        end: Offset after the last record.
    """

    committed: int
    first: int
    end: int


def read_input(settings: JobSettings) -> tuple[str, dict[int, Offsets]]:
    """Return Kafka's id of the input topic, and the offsets of its partitions.

    Raises:
        KafkaException: The broker does not answer, or has no such topic.
    """
    name = settings.topic(Topic.TRANSACTIONS)
    described = TopicLook(settings.librdkafka(), name, time.monotonic).now()
    places = [TopicPartition(name, partition.id) for partition in described.partitions]
    offsets = {}
    with closing(clients.reader(settings.librdkafka(), settings.flink_job_name, {})) as consumer:
        for found in consumer.committed(places, timeout=_CALL_S):
            first, end = consumer.get_watermark_offsets(found, timeout=_CALL_S)
            offsets[found.partition] = Offsets(found.offset, first, end)
    return str(described.topic_id), offsets


def forget_offsets(settings: JobSettings) -> None:
    """Delete the offsets of the job's group, which are of a topic that is gone.

    Raises:
        KafkaException: The broker does not answer.
    """
    group = settings.flink_job_name
    deleted = clients.admin(settings.librdkafka(), {}).delete_consumer_groups([group])
    try:
        deleted[group].result(_CALL_S)
    except KafkaException as error:
        # Kafka deletes the offsets with their topic, and then the group.
        if error.args[0].name() != "GROUP_ID_NOT_FOUND":
            raise


class InputWatch:
    """Compares what the job has read with what there is to read.

    Args:
        settings: Of the job.
        read: Returns the topic's id and offsets.
        forget: Deletes the offsets of the group.
        monotonic: Clock in seconds.
    """

    def __init__(
        self,
        settings: JobSettings,
        read: Callable[[JobSettings], tuple[str, dict[int, Offsets]]] = read_input,
        forget: Callable[[JobSettings], None] = forget_offsets,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._read = read
        self._forget = forget
        self._monotonic = monotonic
        self._look_at_s = 0.0
        self._told: dict[int, int] = {}
        create_series(SERVICE)

    def look(self) -> bool:
        """Tell what is gone, now and then; return whether the job reads a topic that is gone."""
        if self._monotonic() < self._look_at_s:
            return False
        self._look_at_s = self._monotonic() + _LOOK_S
        try:
            return self._is_replaced()
        except KafkaException as error:
            log.info("flink_job.input_unknown", code=error.args[0].name())
            return False

    def before_start(self) -> None:
        """Tell what is gone; void checkpoints and offsets of a topic that was made anew.

        Raises:
            KafkaException: The broker does not answer.
            OSError: Checkpoints cannot be moved.
        """
        if not self._is_replaced():
            return
        self._forget(self._settings)
        folder = self._settings.job_dir
        # Kept beside, and in the way of nobody: their history may be all there is of it.
        void = folder / f"replaced-{self._known()}"
        for layout in folder.glob("layout-*"):
            void.mkdir(exist_ok=True)
            layout.rename(void / layout.name)
        log.warning("flink_job.checkpoints_void", moved_to=void.name)
        self._remember(self._read(self._settings)[0])

    def _is_replaced(self) -> bool:
        topic_id, offsets = self._read(self._settings)
        known = self._known()
        if known is None:
            self._remember(topic_id)
        is_replaced = known not in (None, topic_id)
        for partition, there in offsets.items():
            wanted = max(there.committed, self._told.get(partition, -1))
            if wanted < 0 and not is_replaced:
                continue
            why = why_gone(wanted, there.first, there.end, same_topic=not is_replaced)
            if why is None or self._told.get(partition) == there.first:
                continue
            self._told[partition] = there.first
            tell_gone(
                why,
                service=SERVICE,
                topic=self._settings.topic(Topic.TRANSACTIONS),
                partition=partition,
                wanted=wanted,
                first=there.first,
            )
        return is_replaced

    def _known(self) -> str | None:
        with suppress(FileNotFoundError):
            return (self._settings.job_dir / _FILE).read_text("ascii").strip()
        return None

    def _remember(self, topic_id: str) -> None:
        self._settings.job_dir.mkdir(parents=True, exist_ok=True)
        replace_private(self._settings.job_dir / _FILE, topic_id.encode())
