"""One decided transaction as a document: what is indexed, under which id, in which index. Pure.

Left out, so that the search index holds no more about people than finding a case takes: fields of
`LEFT_OUT`, and fields that we do not know, whose content nobody vouches for. The e-mail address is
masked. All of it stays in the topic `processed_transactions`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from fraud.contracts.dead_letter import utc_text
from fraud.contracts.decision import decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import (
    DECISION_FIELD,
    EVENT_TIME_END_MS,
    FIELDS,
    Kind,
    event_time_to_ms,
)

ALIAS: Final = "processed_transactions"
"""The name that covers the indexes of all days."""

REJECTED: Final = "processed_transactions_rejected"
"""Index of documents that OpenSearch refused for good, each with the reason."""

LEFT_OUT: Final = frozenset({"customer_name", "billing_street", "phone"})
LOCATION: Final = "billing_location"

_COORDINATES: Final = {"billing_latitude": 90.0, "billing_longitude": 180.0}
_MAX_TEXT: Final = 1024
_MAX_ENTRIES: Final = 200
_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


@dataclass(frozen=True, slots=True)
class Document:
    """A document and where it belongs.

    Attributes:
        index: Name of the index, one per day.
        id: Coordinates of the input record.
        body: Fields by name.
    """

    index: str
    id: str
    body: dict[str, Any]


def index_name(timestamp_ms: int) -> str:
    """Give the index of a day, by the input's Kafka timestamp in UTC epoch milliseconds.

    Example:
        >>> index_name(1_772_323_199_999)
        'processed_transactions-2026.02.28'
    """
    return f"{ALIAS}-{datetime.fromtimestamp(timestamp_ms // 1000, UTC):%Y.%m.%d}"


def expired_indexes(names: list[str], *, today: date, keep_days: int) -> list[str]:
    """Pick the indexes of days that are over for longer than they are kept; others are passed over.

    Args:
        names: Names of indexes.
        today: The day now, UTC.
        keep_days: Days to keep besides today, at least 1.

    Example:
        >>> names = [index_name(0), index_name(86_400_000), "something-else"]
        >>> expired_indexes(names, today=date(1970, 1, 3), keep_days=1)
        ['processed_transactions-1970.01.01']
    """
    first_kept = today - timedelta(days=keep_days)
    expired = []
    for name in names:
        try:
            moment = datetime.strptime(name, f"{ALIAS}-%Y.%m.%d").replace(tzinfo=UTC)
        except ValueError:
            continue
        if moment.date() < first_kept:
            expired.append(name)
    return expired


def mask_email(address: str) -> str:
    """Keep the first letter of the name, and the domain, by which cases are found.

    Example:
        >>> mask_email("jasonsnyder@lynch.org")
        'j***@lynch.org'
        >>> mask_email("no address")
        '***'
    """
    name, at, domain = address.rpartition("@")
    return f"{name[0]}***@{domain}" if at and name and domain else "***"


def to_document(raw: bytes | None, *, indexed_at_ms: int) -> Document:
    """Make the document of one record of `processed_transactions`.

    Values of the wrong type are left out rather than passed on: what is in the body fits the
    mapping.

    Args:
        raw: The record's value.
        indexed_at_ms: Time now, UTC epoch milliseconds.

    Raises:
        InvalidMessage: The value is no such record, or lacks usable coordinates of its input.
    """
    record, decision = decode_processed(raw)
    source = decision["source"]
    topic = source["topic"]
    partition, offset, timestamp_ms = (
        _coordinate(source, name) for name in ("partition", "offset", "timestamp_ms")
    )
    if type(topic) is not str or timestamp_ms >= EVENT_TIME_END_MS:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"{DECISION_FIELD}.source: expected a topic, and a timestamp_ms before 2100",
            f"{DECISION_FIELD}.source",
        )
    body = _fields(record)
    body[DECISION_FIELD] = _decision(decision) | {
        "source": {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp_ms": timestamp_ms,
        }
    }
    body["indexed_at"] = utc_text(indexed_at_ms)
    return Document(index_name(timestamp_ms), f"{topic}-{partition}-{offset}", body)


def _coordinate(source: dict[str, Any], name: str) -> int:
    value = source[name]
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"{DECISION_FIELD}.source.{name}: expected an integer from 0",
            f"{DECISION_FIELD}.source.{name}",
        )
    return value


def number(value: object) -> float | None:
    """Read a finite number, or the same as text; None for anything else.

    Example:
        >>> number("9.99"), number(True), number(float("inf"))
        (9.99, None, None)
    """
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is float or type(value) is int:
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def _text(value: object) -> str | None:
    if type(value) is str:
        return value[:_MAX_TEXT] or None
    return str(value) if type(value) is int and abs(value) < 2**63 else None


def _time(value: object) -> str | None:
    if type(value) is not str:
        return None
    try:
        return utc_text(event_time_to_ms(value))
    except (ValueError, OverflowError):
        return None


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, kind in _INDEXED:
        value = record.get(name)
        if value is None:
            continue
        if kind is Kind.NUMBER:
            value = number(value)
        elif kind is Kind.TIME:
            value = _time(value)
        else:
            value = _text(value)
            if value is not None and kind is Kind.CURRENCY:
                value = value.upper()
        if value is not None:
            body[name] = value
    if "email_address" in body:
        body["email_address"] = mask_email(body["email_address"])
    place = [body.get(name) for name in _COORDINATES]
    if all(
        value is not None and abs(value) <= bound
        for value, bound in zip(place, _COORDINATES.values(), strict=True)
    ):
        body[LOCATION] = {"lat": place[0], "lon": place[1]}
    return body


def _decision(decision: dict[str, Any]) -> dict[str, Any]:
    body = {
        "outcome": decision["outcome"],
        "outcomes": [_text(outcome) for outcome in _list(decision.get("outcomes"))],
        "score": _integer(decision.get("score")),
        "probability": number(decision.get("probability")),
        "reasons": [
            {
                "code": _text(reason.get("code")),
                "text": _text(reason.get("text")),
                "contribution": number(reason.get("contribution")),
            }
            for reason in _objects(decision.get("reasons"))
        ],
        "rules": [
            {
                "id": _text(rule.get("id")),
                "version": _integer(rule.get("version")),
                "outcome": _text(rule.get("outcome")),
            }
            for rule in _objects(decision.get("rules"))
        ],
        "policy_version": _text(decision.get("policy_version")),
        "features": _numbers(decision.get("features")),
        "history": _counts(decision.get("history")),
        "duplicate": decision.get("duplicate") is True,
        "scored_at": _time(decision.get("scored_at")),
        "frauddetector_time": number(decision.get("frauddetector_time")),
        "proc_time": number(decision.get("proc_time")),
        "ttdf": number(decision.get("ttdf")),
    }
    model = decision.get("model")
    if type(model) is dict:
        body["model"] = {"name": _text(model.get("name")), "version": _text(model.get("version"))}
    return body


def _integer(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 2**31 else None


def _list(value: object) -> list[Any]:
    return value[:_MAX_ENTRIES] if type(value) is list else []


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in _list(value) if type(item) is dict]


def _numbers(value: object) -> dict[str, float]:
    """Keep the numbers of an object whose names are fit to be field names, at most so many."""
    if type(value) is not dict:
        return {}
    kept: dict[str, float] = {}
    for name, entry in value.items():
        # A feature that is not known is null: the usual case needs no call.
        if entry is None:
            continue
        found = number(entry) if type(entry) is not str else None
        if found is not None and 0 < len(name) <= 100 and _NAME_CHARS.issuperset(name):
            kept[name] = found
            if len(kept) == _MAX_ENTRIES:
                break
    return kept


def _counts(value: object) -> dict[str, int]:
    return {name: int(count) for name, count in _numbers(value).items() if abs(count) < 2**31}


_INDEXED: Final = tuple((field.name, field.kind) for field in FIELDS if field.name not in LEFT_OUT)
