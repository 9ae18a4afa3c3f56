"""The dead letter: an input's own bytes, and headers that say why and whence."""

from __future__ import annotations

from typing import Final

ERROR_CODE: Final = "error_code"
ERROR_MESSAGE: Final = "error_message"
SOURCE_TOPIC: Final = "source_topic"
SOURCE_PARTITION: Final = "source_partition"
SOURCE_OFFSET: Final = "source_offset"
FAILED_AT: Final = "failed_at"

HEADERS: Final[dict[str, str]] = {
    ERROR_CODE: "Stable code, see ErrorCode.",
    ERROR_MESSAGE: "One sentence naming the field and what was expected.",
    SOURCE_TOPIC: "Topic that the record came from.",
    SOURCE_PARTITION: "Its partition, decimal.",
    SOURCE_OFFSET: "Its offset, decimal.",
    FAILED_AT: "When it was refused, ISO 8601, UTC, milliseconds.",
}
"""Header names of a dead letter and their meaning. All values are UTF-8 text."""
