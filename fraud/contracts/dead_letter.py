"""The dead letter: the bytes of a refused record, with its reason and source as headers."""

from __future__ import annotations

from typing import Final

from fraud.contracts.transaction import MAX_RECORD_BYTES

MAX_VALUE_BYTES: Final = MAX_RECORD_BYTES
"""Maximum length of a dead letter's value; a longer original value is truncated."""

MAX_KEY_BYTES: Final = 65_536
"""Maximum length of a dead letter's key; a longer original key is truncated."""

MAX_HEADERS_BYTES: Final = 65_536
"""Maximum bytes of a dead letter's original headers, names and values; more are truncated."""

TOO_LARGE: Final = (
    f"expected at most {MAX_VALUE_BYTES} bytes of value, {MAX_KEY_BYTES} of key "
    f"and {MAX_HEADERS_BYTES} of headers"
)
"""Message of a dead letter that was cut."""

INTERNAL: Final = "expected no failure of ours: the TaskManager's log has flink_job.record_failed"
"""Message of a dead letter whose record made a function of ours fail."""

ERROR_CODE: Final = "error_code"
ERROR_MESSAGE: Final = "error_message"
SOURCE_TOPIC: Final = "source_topic"
SOURCE_PARTITION: Final = "source_partition"
SOURCE_OFFSET: Final = "source_offset"
FAILED_AT: Final = "failed_at"
ORIGINAL_KEY_BYTES: Final = "original_key_bytes"
ORIGINAL_VALUE_BYTES: Final = "original_value_bytes"
ORIGINAL_VALUE_SHA256: Final = "original_value_sha256"
ORIGINAL_HEADERS_BYTES: Final = "original_headers_bytes"

HEADERS: Final[dict[str, str]] = {
    ERROR_CODE: "Stable code, see `ErrorCode` in `fraud/contracts/errors.py`.",
    ERROR_MESSAGE: "One sentence with the field and the expected value.",
    SOURCE_TOPIC: "Topic of the record.",
    SOURCE_PARTITION: "Its partition, decimal.",
    SOURCE_OFFSET: "Its offset, decimal.",
    FAILED_AT: "Time of the refusal, ISO 8601, UTC, milliseconds.",
}
"""Headers of every dead letter and their meaning. All values are UTF-8 text."""

CUT_HEADERS: Final[dict[str, str]] = {
    ORIGINAL_KEY_BYTES: "Length of the original key, decimal.",
    ORIGINAL_VALUE_BYTES: "Length of the original value, unpacked, decimal.",
    ORIGINAL_VALUE_SHA256: "SHA-256 of the original value, hexadecimal.",
    ORIGINAL_HEADERS_BYTES: "Length of the original headers, names and values, decimal.",
}
"""Further headers of a dead letter whose key, value or headers were truncated, and their meaning."""
