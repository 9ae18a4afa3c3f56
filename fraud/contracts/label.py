"""The label: whether a transaction turned out to be fraud, often known weeks later."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import (
    EVENT_TIME_END_MS,
    EVENT_TIME_FIRST_MS,
    MAX_ID_LENGTH,
    event_time_to_ms,
)


class LabelValue(StrEnum):
    """What a transaction turned out to be."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"


class Label(BaseModel):
    """One record of the topic `labels`, keyed by event_id."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    label: LabelValue
    label_time: Annotated[str, Field(description="When the label became known, ISO 8601.")]
    source: Annotated[str, Field(description="Who says so, such as chargeback or analyst.")]

    @property
    def label_time_ms(self) -> int:
        """Time when the label became known, UTC epoch milliseconds.

        If an event has several labels, the one with the latest time applies; if times are equal,
        the last one on the topic.
        """
        return event_time_to_ms(self.label_time)


def decode_label(raw: bytes | None) -> Label:
    """Parse and check a record of the topic `labels`.

    Raises:
        InvalidMessage: The value is not a label.

    Example:
        >>> decode_label(b'{"event_id":"e1","label":"fraud","label_time":"2026-03-01T00:00:00Z","source":"chargeback"}').label_time_ms
        1772323200000
    """
    if raw is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a JSON object, the value is null")
    try:
        label = Label.model_validate_json(raw)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or None
        reason = ErrorCode.WRONG_TYPE if field else ErrorCode.NOT_JSON
        if problem["type"] == "missing":
            reason = ErrorCode.MISSING_FIELD
        # Messages of the validator name what was expected and do not quote the input.
        raise InvalidMessage(reason, f"{field or 'label'}: {problem['msg']}", field) from None
    try:
        time_ms = label.label_time_ms
    except (ValueError, OverflowError):
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE, "label_time: expected an ISO 8601 date and time", "label_time"
        ) from None
    if not EVENT_TIME_FIRST_MS <= time_ms < EVENT_TIME_END_MS:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE, "label_time: expected a time from 1970 to 2099", "label_time"
        )
    return label
