"""A dead letter as a document: why, whence and how large. Pure.

What is in it stays on the topic: nobody knows what a record holds that could not be read.
"""

from __future__ import annotations

from typing import Any, Final

from fraud.contracts.dead_letter import (
    ERROR_CODE,
    ERROR_MESSAGE,
    FAILED_AT,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
    utc_text,
)
from fraud.contracts.transaction import event_time_to_ms
from fraud.kit.kafka import Message
from fraud.kit.logs import mask
from indexer.documents import Document
from indexer.template import DEAD_LETTER_INDEX

UNKNOWN: Final = "unknown"
"""Error code of a record on the topic that no part of ours wrote: it lacks the headers."""
_MAX_TEXT: Final = 1024
_MAX_TOPIC: Final = 249


def to_dead_letter(message: Message) -> Document:
    """Make the document of one record of `transactions.dlq`.

    Its id is the input's coordinates, so that a record that is refused again, as after a restart of
    the job, is the same document. Any record makes one.
    """
    headers = {name: value or b"" for name, value in message.headers}

    def text(name: str) -> str:
        return headers.get(name, b"").decode("utf-8", "replace")[:_MAX_TEXT]

    timestamp_ms = max(0, message.timestamp_ms)
    place = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "timestamp_ms": timestamp_ms,
    }
    body: dict[str, Any] = {
        "error_code": text(ERROR_CODE) or UNKNOWN,
        "error_message": mask(text(ERROR_MESSAGE)),
        "failed_at": _time(text(FAILED_AT)) or utc_text(timestamp_ms),
        "dead_letter": place,
        "key_bytes": len(message.key or b""),
        "value_bytes": len(message.value or b""),
    }
    topic, partition, offset = (
        text(name) for name in (SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET)
    )
    if topic and partition.isdecimal() and offset.isdecimal():
        source = {
            "topic": topic[:_MAX_TOPIC],
            "partition": min(int(partition), 2**31 - 1),
            "offset": min(int(offset), 2**63 - 1),
        }
        body["source"] = source
        key = f"{source['topic']}-{source['partition']}-{source['offset']}"
    else:
        key = f"{message.topic}-{message.partition}-{message.offset}"
    return Document(DEAD_LETTER_INDEX, key, body)


def _time(text: str) -> str | None:
    try:
        return utc_text(event_time_to_ms(text))
    except (ValueError, OverflowError):
        return None
