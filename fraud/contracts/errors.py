"""Exceptions that a processing loop can act on; any other exception is a bug."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a message can never be processed: the `error_code` header, a metric label, a REST error.

    Codes are stable and never reused.
    """

    NULL_VALUE = "null_value"
    """The record has no value (a tombstone)."""
    EMPTY_VALUE = "empty_value"
    """The value has no bytes, or only white space."""
    NOT_JSON = "not_json"
    """The value is not JSON in UTF-8."""
    NOT_AN_OBJECT = "not_an_object"
    """The value is JSON, but not an object."""
    REPEATED_KEY = "repeated_key"
    """An object in the value holds a key twice."""
    TOO_LARGE = "too_large"
    """The record is longer than `MAX_RECORD_BYTES` when decompressed."""
    RESERVED_FIELD = "reserved_field"
    """The record already has a field `fd`."""
    MISSING_FIELD = "missing_field"
    """A required field is absent, null or empty."""
    WRONG_TYPE = "wrong_type"
    """A field's value is not of the declared type."""
    OUT_OF_RANGE = "out_of_range"
    """A field has a value of the right type outside its declared range."""
    UNREADABLE = "unreadable"
    """The Kafka client could not read the record, and an operator stepped over it."""
    INTERNAL = "internal"
    """A function of ours failed for this record alone; its log names the place."""


class InvalidMessage(Exception):
    """Raised for a message that can never be processed: dead-letter it once and go on.

    Attributes:
        reason: Stable code, for headers and metric labels.
        detail: One sentence naming the field and what was expected. It never holds the value,
            which may be personal data.
        field: Field at fault; None if the whole message is invalid.
    """

    def __init__(self, reason: ErrorCode, detail: str, field: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.field = field

    def __reduce__(self) -> tuple[type[InvalidMessage], tuple[ErrorCode, str, str | None]]:
        """Support pickling: the base class would pass only the message to the constructor."""
        return InvalidMessage, (self.reason, self.detail, self.field)


class Backpressure(Exception):
    """Raised when a sink asks for a pause: stop fetching, wait, and retry the same records.

    Attributes:
        retry_after_s: Seconds to wait before the next try, above 0.
    """

    def __init__(self, retry_after_s: float, detail: str = "") -> None:
        super().__init__(detail or f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class NotReady(Exception):
    """Raised until history and policy have caught up with the stream; answers would differ before."""
