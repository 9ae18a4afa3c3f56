"""Get past batches that librdkafka cannot unpack, such as a gigabyte that came in 30 kB."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fraud.contracts.errors import ErrorCode
from fraud.runtime.metrics import RECORDS_REFUSED

_UNREADABLE: Final = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})

_log = structlog.get_logger("fraud.kafka.unreadable")


class UnreadableRecords:
    """Skips records that cannot be unpacked, counted and logged one by one.

    librdkafka reports such a batch by its first offset, again and again, and does not tell how long
    it is. So reading goes on at the next offset, until that lies in another batch.

    Args:
        consumer: Consumer that reads them.
        service: Label of the metrics.
    """

    def __init__(self, consumer: Consumer, service: str) -> None:
        self._consumer = consumer
        self._service = service
        self._next: dict[int, int] = {}

    def skip(self, raw: Any) -> bool:
        """Skip the record of an error; return whether the error was that it cannot be unpacked.

        Args:
            raw: What the consumer returned, with an error.
        """
        if raw.error().code() not in _UNREADABLE:
            return False
        partition = raw.partition()
        offset = max(raw.offset(), self._next.get(partition, 0))
        self._next[partition] = offset + 1
        RECORDS_REFUSED.labels(self._service, str(ErrorCode.UNREADABLE)).inc()
        _log.error(
            "kafka.record_unreadable",
            topic=raw.topic(),
            partition=partition,
            offset=offset,
            detail=raw.error().str(),
        )
        with suppress(KafkaException):  # the partition is another member's by now
            self._consumer.seek(TopicPartition(raw.topic(), partition, offset + 1))
        return True
