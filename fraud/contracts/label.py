"""The label: whether a transaction turned out to be fraud, often known weeks later."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.json_values import has_unpaired_surrogate, loads
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import (
    EVENT_TIME_END_MS,
    EVENT_TIME_FIRST_MS,
    MAX_ID_LENGTH,
    MAX_RECORD_BYTES,
    event_time_to_ms,
)


class LabelValue(StrEnum):
    """What a transaction turned out to be."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"


UNNAMED_SOURCE: Final = "unnamed"
"""Source of a label that names none."""

_MEANING: Final = {
    "fraud": LabelValue.FRAUD,
    "1": LabelValue.FRAUD,
    "legitimate": LabelValue.LEGITIMATE,
    "0": LabelValue.LEGITIMATE,
}
_WHOLE: Final = re.compile(r"([0-9]+)\.0*", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DAY_MS: Final = 86_400_000


class Label(BaseModel):
    """One record of the topic `labels`, keyed by event_id."""

    model_config = ConfigDict(
        frozen=True, extra="allow", json_schema_extra={"required": ["event_id", "label"]}
    )

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    label: LabelValue
    label_time: Annotated[
        str,
        Field(
            description="When the label became known, ISO 8601; of a date its end. The broker's "
            "timestamp when it is left out."
        ),
    ]
    source: Annotated[
        str,
        Field(description=f"Who says so, such as chargeback or analyst; {UNNAMED_SOURCE} when left out."),
    ]  # fmt: skip

    @property
    def label_time_ms(self) -> int:
        """Time when the label became known, UTC epoch milliseconds.

        If an event has several labels, the one with the latest time applies; if times are equal,
        the last one on the topic.
        """
        return event_time_to_ms(self.label_time)


def label_key(value: Any) -> str:
    """Return what labels are compared by: 1, 1.0, "1.0", True and "TRUE" mean the same.

    Example:
        >>> [label_key(value) for value in (1.0, "1.0", True, "False", "Fraud ", "01")]
        ['1', '1', '1', '0', 'fraud', '01']
    """
    text = str(value).strip().lower()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else {"true": "1", "false": "0"}.get(text, text)


def end_of_date(text: str) -> str:
    """Return the end of a day that is given as a date alone; any other text as it is.

    A label of a day was known for certain when the day was over.

    Example:
        >>> end_of_date("2026-03-01"), end_of_date("2026-03-01T10:00:00Z")
        ('2026-03-01T23:59:59.999Z', '2026-03-01T10:00:00Z')
    """
    return f"{text.strip()}T23:59:59.999Z" if _DATE.fullmatch(text.strip()) else text


def decode_label(raw: bytes | None, *, arrived_ms: int, ahead_s: int = 0) -> Label:
    """Parse and check a record of the topic `labels`.

    Args:
        raw: The record's value.
        arrived_ms: The broker's timestamp of the record, UTC epoch milliseconds.
        ahead_s: How far label_time may lie after that, seconds; 0 accepts any.

    Raises:
        InvalidMessage: The value is not a label.

    Example:
        >>> decode_label(b'{"event_id":"e1","label":"FRAUD"}', arrived_ms=0).label_time
        '1970-01-01T00:00:00.000Z'
    """
    if raw is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a JSON object, the value is null")
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidMessage(
            ErrorCode.TOO_LARGE, f"expected a label of at most {MAX_RECORD_BYTES} bytes"
        )
    record = loads(raw)
    if type(record) is not dict:
        raise InvalidMessage(ErrorCode.NOT_AN_OBJECT, "expected a JSON object")
    is_date = _complete(record, arrived_ms)
    try:
        label = Label.model_validate(record)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        field = str(problem["loc"][0])
        reason = ErrorCode.WRONG_TYPE
        if problem["type"] == "missing":
            reason = ErrorCode.MISSING_FIELD
        # Messages of the validator name what was expected and do not quote the input.
        raise InvalidMessage(reason, f"{field}: {problem['msg']}", field) from None
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
    if is_date and time_ms > arrived_ms >= time_ms - _DAY_MS:
        return label.model_copy(update={"label_time": utc_text(arrived_ms)})
    refuse_future(time_ms, arrived_ms, ahead_s)
    return label


def refuse_future(time_ms: int, arrived_ms: int, ahead_s: int) -> None:
    """Refuse a label from the future: it would win against every later one.

    Args:
        time_ms: Its label_time, UTC epoch milliseconds.
        arrived_ms: When it arrived, UTC epoch milliseconds.
        ahead_s: How far label_time may lie after that, seconds; 0 accepts any.

    Raises:
        InvalidMessage: `out_of_range`.
    """
    if ahead_s and time_ms > arrived_ms + ahead_s * 1000:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"label_time: expected at most {ahead_s} s after its arrival",
            "label_time",
        )


def _complete(record: dict[str, Any], arrived_ms: int) -> bool:
    """Write a record in the words of `Label`; return whether its time was a date alone."""
    for name, value in record.items():
        if name in Label.model_fields and type(value) is str and has_unpaired_surrogate(value):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE,
                f"{name}: expected Unicode text, it has half of a surrogate pair",
                name,
            )
    if record.get("label") is not None:
        record["label"] = _MEANING.get(label_key(record["label"]), record["label"])
    if record.get("source") in (None, ""):
        record["source"] = UNNAMED_SOURCE
    time = record.get("label_time")
    if time in (None, ""):
        record["label_time"] = utc_text(arrived_ms)
        return False
    if type(time) is str:
        record["label_time"] = end_of_date(time)
    return bool(record["label_time"] != time)
