"""Sending of labels to the topic `labels`, audited because models learn from them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from anyio import from_thread

from fraud.contracts.label import Label
from fraud.contracts.topics import Topic
from fraud.kafka.async_producer import AsyncProducer
from fraud.security.audit import AuditLog, Author


class LabelSender:
    """Sends labels to Kafka and records them in the audit log.

    Args:
        publisher: Writes to Kafka.
        audit: Records who sent how many labels of each value.
    """

    def __init__(self, publisher: AsyncProducer, audit: AuditLog) -> None:
        self._publisher = publisher
        self._audit = audit

    def send(self, labels: Sequence[Label], by: Author) -> None:
        """Send labels and wait until they are on the topic; call it in a worker thread.

        Raises:
            NotPublished: Kafka did not acknowledge a label.
            OSError: The audit log cannot be written.
        """
        with self._audit.change(
            by.actor,
            "labels.sent",
            "labels",
            after={"labels": len(labels), **Counter(label.label.value for label in labels)},
            request_id=by.request_id,
        ):
            from_thread.run(self._publish, labels)

    async def _publish(self, labels: Sequence[Label]) -> None:
        await asyncio.gather(
            *(
                self._publisher.send(Topic.LABELS, label.event_id, label.model_dump_json().encode())
                for label in labels
            )
        )
