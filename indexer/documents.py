"""Builds the document of a decided transaction, with its id and index. No I/O.

Documents hold only the personal data that finding a case needs. Unless settings ask for clear text,
personal values are keyed hashes and places are rounded to about a kilometre. Unknown fields are left
out, because they may hold anything. The topic `processed_transactions` has the full records.
docs/indexer.md lists the fields.

A document does not depend on when or how often it is written, so a rebuild from the topics produces
the same documents.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from fraud.contracts.decision import (
    Decision,
    DecisionField,
    Indexed,
    decode_processed,
    fields_of,
)
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.personal import quotes_masked
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import (
    DECISION_FIELD,
    EVENT_TIME_END_MS,
    FIELDS,
    PERSONAL_FIELDS,
    Kind,
    event_time_to_ms,
)
from fraud.features.catalogue import FEATURES, KEYS
from fraud.security.pseudonyms import Pseudonyms

ALIAS: Final = "processed_transactions"
"""Alias of the indexes of all days."""

REJECTED: Final = "processed_transactions_rejected"
"""Index of documents that OpenSearch refused for good, with the reason."""

LABELS: Final = "transaction_labels"
"""Index of the current label of each event_id, from which documents get their `label`."""

DEAD_LETTERS: Final = "dead_letters"
"""Alias of the index of dead letters: coordinates and error of each, never its content."""

LOCATION: Final = "billing_location"
EMAIL_DOMAIN: Final = "email_domain"
DECISION_MS: Final = "decision_ms"
SHADOW_AGREES: Final = "shadow_agrees"

MIGRATED: Final = "migrated-"
"""Prefix of the index of a migrated day; the day's former index name becomes its alias."""

_DAY: Final = re.compile(
    rf"(?:{MIGRATED})?{ALIAS}-(\d{{4}})\.(\d{{2}})\.(\d{{2}})(?:-v\d+-\d+)?", re.ASCII
)
_COORDINATES: Final = {"billing_latitude": 90.0, "billing_longitude": 180.0}
_PLACE_DIGITS: Final = 2
"""Decimal places of degrees, about a kilometre; exact coordinates would identify a home."""
_MAX_TEXT: Final = 1024
_MAX_ENTRIES: Final = 200
_MAX_FLOAT: Final = 3.4e38
_NUMERIC: Final = frozenset({int, float})
_FEATURES: Final = frozenset(feature.name for feature in FEATURES)
_KEYS: Final = frozenset(key.name for key in KEYS)


@dataclass(frozen=True, slots=True)
class Document:
    """A document with its index and id.

    Attributes:
        index: Name of the index.
        id: Topic, partition and offset of the input record.
        body: Fields by name.
    """

    index: str
    id: str
    body: dict[str, Any]


def index_name(timestamp_ms: int) -> str:
    """Return the index for an input with this Kafka timestamp, UTC epoch milliseconds.

    Example:
        >>> index_name(1_772_323_199_999)
        'processed_transactions-2026.02.28'
    """
    return index_name_of(datetime.fromtimestamp(timestamp_ms // 1000, UTC).date())


def index_name_of(day: date) -> str:
    """Return the index name of a day."""
    return f"{ALIAS}-{day:%Y.%m.%d}"


def day_of(name: str) -> date | None:
    """Return the day of an index, migrated or not; None for any other index.

    Example:
        >>> day_of("processed_transactions-2026.02.28")
        datetime.date(2026, 2, 28)
        >>> day_of("migrated-processed_transactions-2026.02.28-v2-1772323200000")
        datetime.date(2026, 2, 28)
        >>> day_of("processed_transactions-2026.02.31")
    """
    found = _DAY.fullmatch(name)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def expired_indexes(names: list[str], *, today: date, keep_days: int) -> list[str]:
    """Return the indexes of days older than `keep_days`; names of other indexes are ignored.

    Args:
        names: Names of indexes.
        today: Today's date, UTC.
        keep_days: Days to keep besides today, at least 1.

    Example:
        >>> names = [index_name(0), index_name(86_400_000), "something-else"]
        >>> expired_indexes(names, today=date(1970, 1, 3), keep_days=1)
        ['processed_transactions-1970.01.01']
    """
    first_kept = today - timedelta(days=keep_days)
    return [name for name in names if (day := day_of(name)) is not None and day < first_kept]


def to_document(raw: bytes | None, pseudonyms: Pseudonyms) -> Document:
    """Build the document of one record of `processed_transactions`.

    Values of the wrong type are left out, so that the document fits the mapping.

    Args:
        raw: The record's value.
        pseudonyms: Hashes personal values, unless clear text is allowed.

    Raises:
        InvalidMessage: The value is not a processed transaction, or the coordinates of its input
            are missing or invalid.
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
    body = _fields(record, pseudonyms)
    fd = _declared(_DECISION, decision)
    if not pseudonyms.clear:
        _redact_reasons(fd["reasons"], record)
    body[DECISION_FIELD] = fd
    if fd["scored_at"] is not None:
        # Clocks of two machines may differ a little, so the time may come out negative.
        body[DECISION_MS] = max(0, event_time_to_ms(fd["scored_at"]) - timestamp_ms)
    if "shadow" in fd:
        body[SHADOW_AGREES] = fd["shadow"]["outcome"] == fd["outcome"]
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
    """Return a finite number given as a number or as text; None for any other value.

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


def _whole_text(value: object) -> str | None:
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int and abs(value) < 2**63 else None


def _text(value: object) -> str | None:
    text = _whole_text(value)
    return text[:_MAX_TEXT] if text else None


def _time(value: object) -> str | None:
    if type(value) is not str:
        return None
    try:
        return utc_text(event_time_to_ms(value))
    except (ValueError, OverflowError):
        return None


def _fields(record: dict[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, kind in _INDEXED:
        value = record.get(name)
        if value is None:
            continue
        if kind is Kind.NUMBER:
            value = number(value)
        elif kind is Kind.TIME:
            value = _time(value)
        elif name in PERSONAL_FIELDS:
            # Hash the whole value, not the cut one: a search hashes the whole value, too.
            value = _whole_text(value)
            if value is not None:
                if name == "email_address" and (domain := email_domain(value)):
                    body[EMAIL_DOMAIN] = domain
                value = pseudonyms.indexed(name, value)[:_MAX_TEXT]
        else:
            value = _text(value)
            if value is not None and kind is Kind.CURRENCY:
                value = value.upper()
        if value is not None:
            body[name] = value
    place(body, clear=pseudonyms.clear)
    return body


def email_domain(address: str) -> str | None:
    """Return the domain of an e-mail address, masked or not, in lower case; None if it has none.

    Example:
        >>> email_domain("Ada@Example.com"), email_domain("j***@lynch.org"), email_domain("none")
        ('example.com', 'lynch.org', None)
    """
    name, at, domain = address.strip().rpartition("@")
    return domain.lower()[:_MAX_TEXT] if name and at and domain else None


def place(body: dict[str, Any], *, clear: bool) -> None:
    """Round the coordinates unless `clear`; add the geo point if both are valid. Changes `body`."""
    if not clear:
        for name in _COORDINATES.keys() & body.keys():
            body[name] = round(body[name], _PLACE_DIGITS)
    found = [body.get(name) for name in _COORDINATES]
    if all(
        value is not None and abs(value) <= bound
        for value, bound in zip(found, _COORDINATES.values(), strict=True)
    ):
        body[LOCATION] = {"lat": found[0], "lon": found[1]}


def _redact_reasons(reasons: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Mask personal values in reason texts, which may quote the record. Changes `reasons`."""
    told = [reason for reason in reasons if reason["text"]]
    if told:
        masked = quotes_masked(record)
        for reason in told:
            reason["text"] = masked(reason["text"])


def _declared(fields: Sequence[DecisionField], value: dict[str, Any]) -> dict[str, Any]:
    """Return the declared fields of an object; nested parts of the wrong type are left out."""
    body: dict[str, Any] = {}
    for field in fields:
        name, entry = field.name, value.get(field.name)
        if field.parts is None:
            read = _READERS[field.indexed]
            body[name] = list(map(read, _list(entry))) if field.is_list else read(entry)
        elif field.is_list:
            parts = fields_of(field.parts)
            body[name] = [_declared(parts, item) for item in _objects(entry)]
        elif type(entry) is dict:
            body[name] = _declared(fields_of(field.parts), entry)
    return body


def _integer(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 2**31 else None


def _long(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 2**63 else None


def _list(value: object) -> list[Any]:
    return value[:_MAX_ENTRIES] if type(value) is list else []


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in _list(value) if type(item) is dict]


def _is_true(value: object) -> bool:
    return value is True


def _numbers(value: object, known: frozenset[str] = _FEATURES) -> dict[str, float]:
    """Return the numbers with known names: an unknown name would add a field to the mapping."""
    if type(value) is not dict:
        return {}
    kept: dict[str, float] = {}
    for name, entry in value.items():
        # Null means that the feature's value is unknown.
        if entry is None or name not in known:
            continue
        # Larger numbers overflow the floats of the index and of the model.
        if type(entry) in _NUMERIC and -_MAX_FLOAT <= entry <= _MAX_FLOAT:
            kept[name] = float(entry)
    return kept


def _counts(value: object) -> dict[str, int]:
    counts = _numbers(value, _KEYS)
    return {name: int(count) for name, count in counts.items() if abs(count) < 2**31}


def _texts(value: object) -> dict[str, str]:
    """Return the texts with valid field names; any name will do, as they are not indexed."""
    entries = list(value.items())[:_MAX_ENTRIES] if type(value) is dict else []
    return {
        name: text
        for name, entry in entries
        if 0 < len(name) <= 100 and _NAME_CHARS.issuperset(name) and (text := _text(entry))
    }


_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_INDEXED: Final = tuple((field.name, field.kind) for field in FIELDS)
_READERS: Final[Mapping[Indexed | None, Callable[[object], Any]]] = {
    Indexed.KEYWORD: _text,
    Indexed.TEXT: _text,
    Indexed.BOOLEAN: _is_true,
    Indexed.INTEGER: _integer,
    Indexed.LONG: _long,
    Indexed.DOUBLE: number,
    Indexed.DATE: _time,
    Indexed.EPOCH_MS: _long,
    Indexed.FEATURES: _numbers,
    Indexed.COUNTS: _counts,
    Indexed.STORED: _texts,
}
# Nested objects come last, as in existing documents, so that a rebuild produces the same bytes.
_DECISION: Final = sorted(
    fields_of(Decision), key=lambda field: field.parts is not None and not field.is_list
)
