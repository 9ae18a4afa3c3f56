"""Builds the document of a dead letter: error, coordinates and size. No I/O.

The record's content stays on the topic: it could not be read, so it may hold personal data.
"""

from __future__ import annotations

from typing import Any

from fraud.contracts.times import utc_text
from fraud.contracts.transaction import event_time_to_ms
from fraud.kafka import dead_letters
from fraud.kafka.group_consumer import Message
from indexer.documents import Document
from indexer.template import DEAD_LETTER_INDEX


def to_dead_letter(message: Message) -> Document:
    """Build the document of a record of `transactions.dlq`; never fails.

    The id is the coordinates of the input, so that an input that is refused again, as after a
    restart of the job, overwrites its document.
    """
    letter = dead_letters.to_dead_letter(message)
    timestamp_ms = max(0, message.timestamp_ms)
    body: dict[str, Any] = {
        "error_code": letter.error_code,
        "error_message": letter.error_message,
        "failed_at": _time(letter.failed_at) or utc_text(timestamp_ms),
        "dead_letter": {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "timestamp_ms": timestamp_ms,
        },
        "key_bytes": len(message.key or b""),
        "value_bytes": len(message.value or b""),
    }
    if letter.source is not None:
        body["source"] = {
            "topic": letter.source.topic,
            "partition": letter.source.partition,
            "offset": letter.source.offset,
        }
    return Document(DEAD_LETTER_INDEX, letter.id, body)


def _time(text: str) -> str | None:
    try:
        return utc_text(event_time_to_ms(text))
    except (ValueError, OverflowError):
        return None
