"""Labels on their way to the topic `labels`, on record: models learn from what they say."""

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
    """Sends labels.

    Args:
        publisher: Writes to Kafka.
        audit: Keeps who sent how many of which.
    """

    def __init__(self, publisher: AsyncProducer, audit: AuditLog) -> None:
        self._publisher = publisher
        self._audit = audit

    def send(self, labels: Sequence[Label], by: Author) -> None:
        """Send some, from a thread that the event loop waits for; they are on the topic then.

        Raises:
            NotPublished: Kafka did not acknowledge one of them.
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
