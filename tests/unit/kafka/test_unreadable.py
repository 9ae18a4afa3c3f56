"""Batches that cannot be unpacked: reading goes on at the next offset until it is past them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, TopicPartition
from prometheus_client import REGISTRY

from fraud.kafka.unreadable import UnreadableRecords


class Consumer:
    """Notes where it was told to go on."""

    def __init__(self) -> None:
        self.sought: list[int] = []

    def seek(self, place: TopicPartition) -> None:
        """See confluent-kafka."""
        self.sought.append(place.offset)


def an_error(code: int, offset: int, partition: int = 0) -> Any:
    """Return what a consumer returns for a batch that it cannot read."""
    return SimpleNamespace(
        error=lambda: KafkaError(code),
        topic=lambda: "t",
        partition=lambda: partition,
        offset=lambda: offset,
    )


def test_a_batch_is_passed_record_by_record() -> None:
    """The error names its first offset each time; each record is counted."""
    consumer = Consumer()
    unreadable = UnreadableRecords(consumer, "unreadable-suite")  # type: ignore[arg-type]
    for _ in range(3):
        assert unreadable.skip(an_error(KafkaError._BAD_COMPRESSION, 7))
    assert unreadable.skip(an_error(KafkaError._BAD_COMPRESSION, 20))
    assert unreadable.skip(an_error(KafkaError._BAD_COMPRESSION, 7, partition=1))
    assert consumer.sought == [8, 9, 10, 21, 8]
    labels = {"service": "unreadable-suite", "reason": "unreadable"}
    assert REGISTRY.get_sample_value("fraudstream_records_refused_total", labels) == 5


def test_other_errors_are_not_its_own() -> None:
    """A broker that is away skips nothing."""
    consumer = Consumer()
    unreadable = UnreadableRecords(consumer, "unreadable-suite")  # type: ignore[arg-type]
    assert not unreadable.skip(an_error(KafkaError._ALL_BROKERS_DOWN, 7))
    assert consumer.sought == []
