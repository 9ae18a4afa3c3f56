"""The transaction record: its fields, declared once, and the codec that reads it.

The JSON schema, the REST documentation, the mapping of files and the index mapping derive from
`FIELDS`. `decode` is on the hot path of the stream and written for speed; `tests/contract` compares
it with the generated schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.json_values import TOO_DEEP, has_unpaired_surrogate, load

MAX_ID_LENGTH: Final = 256
"""Maximum length of event_id and entity_id in characters: they become Kafka keys and Message-IDs."""

MAX_RECORD_BYTES: Final = 1_048_576
"""Maximum size of a record in bytes, decompressed: the broker's limit counts compressed batches."""

MAX_AMOUNT: Final = 1e12
"""Largest absolute transaction_amt, in units of its own currency."""

EVENT_TIME_FIRST_MS: Final = 0
"""Earliest event_time, 1970-01-01T00:00:00Z, UTC epoch milliseconds, inclusive."""

EVENT_TIME_END_MS: Final = 4_102_444_800_000
"""End of the range of event_time, 2100-01-01T00:00:00Z, exclusive."""

DECISION_FIELD: Final = "fd"
"""Field that holds the decision; input records must not have it."""


class Kind(StrEnum):
    """Type of a field on the wire, and of its parsed value."""

    ID = "id"
    """Text of 1 to `MAX_ID_LENGTH` characters."""
    TEXT = "text"
    """Text; an integer is read as its decimal digits."""
    NUMBER = "number"
    """A finite number, as a JSON number or as numeric text."""
    TIME = "time"
    """ISO 8601 date and time as text, UTC without a zone; parsed into epoch milliseconds."""
    CURRENCY = "currency"
    """Three letters in any case; converted to upper case."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the record.

    Attributes:
        name: Name on the wire.
        kind: Type on the wire.
        meaning: One sentence for the schema and the docs.
        example: A valid value, as on the wire.
        required: Whether a record without it is a dead letter.
        low: Smallest value of a number, inclusive.
        high: Largest value of a number, inclusive.
        personal: Whether the value identifies a person and must never be logged in clear text.
    """

    name: str
    kind: Kind
    meaning: str
    example: str | float
    required: bool = False
    low: float = -math.inf
    high: float = math.inf
    personal: bool = False


FIELDS: Final[tuple[Field, ...]] = (
    Field("event_id", Kind.ID, "Id of the transaction, unique within its entity.", "evt-000001", required=True),
    Field("entity_id", Kind.ID, "Whom the transaction belongs to: a customer or card.", "cust-0042", required=True, personal=True),
    Field("event_time", Kind.TIME, "When the payment happened.", "2026-03-01T09:30:00.000Z", required=True),
    Field("transaction_amt", Kind.NUMBER, "Amount, in units of transaction_currency.", 24.9, required=True, low=-MAX_AMOUNT, high=MAX_AMOUNT),
    Field("transaction_currency", Kind.CURRENCY, "ISO 4217 code of the amount.", "USD", required=True),
    Field("email_address", Kind.TEXT, "E-mail address given with the payment.", "ada@example.com", personal=True),
    Field("ip_address", Kind.TEXT, "IP address that the payment came from.", "203.0.113.7"),
    Field("user_agent", Kind.TEXT, "User agent of the browser or app.", "Mozilla/5.0 (X11; Linux x86_64)"),
    Field("phone", Kind.TEXT, "Phone number given with the payment.", "+1-202-555-0143", personal=True),
    Field("card_bin", Kind.TEXT, "First six to eight digits of the card number.", "411111"),
    Field("customer_name", Kind.TEXT, "Name of the customer.", "Ada Example", personal=True),
    Field("customer_job", Kind.TEXT, "Occupation of the customer.", "Engineer"),
    Field("product_category", Kind.TEXT, "Category of what was bought.", "shopping_net"),
    Field("billing_street", Kind.TEXT, "Street of the billing address.", "1 Example Street", personal=True),
    Field("billing_city", Kind.TEXT, "City of the billing address.", "Springfield"),
    Field("billing_state", Kind.TEXT, "State or region of the billing address.", "IL"),
    Field("billing_zip", Kind.TEXT, "Postal code of the billing address.", "62701"),
    Field("billing_country", Kind.TEXT, "Country of the billing address, ISO 3166 alpha-2.", "US"),
    Field("billing_latitude", Kind.NUMBER, "Latitude of the billing address, degrees north.", 39.8, low=-90, high=90),
    Field("billing_longitude", Kind.NUMBER, "Longitude of the billing address, degrees east.", -89.65, low=-180, high=180),
    Field("merchant_id", Kind.TEXT, "Id of the merchant paid.", "m-0007"),
    Field("channel", Kind.TEXT, "How the payment was made, such as web, app, pos.", "web"),
    Field("device_id", Kind.TEXT, "Id of the device used.", "d-1f3a"),
)  # fmt: skip

FIELD_BY_NAME: Final = MappingProxyType({field.name: field for field in FIELDS})
PERSONAL_FIELDS: Final = frozenset(field.name for field in FIELDS if field.personal)


class EventTime(IntEnum):
    """How an event_time compares with the arrival of its record."""

    USUAL = 0
    AHEAD = 1
    BEHIND = 2


@dataclass(frozen=True, slots=True)
class Transaction:
    """A valid payment attempt, parsed from a record.

    Attributes:
        event_id: Id of the transaction, unique within its entity.
        entity_id: Id of the customer or card.
        event_time_ms: UTC epoch milliseconds, rounded down; the arrival if the record's own is too far
            ahead of it.
        transaction_amt: Amount in units of `transaction_currency`, finite.
        transaction_currency: Three upper-case letters, not necessarily of a known currency.
        fields: The other declared fields that are present, by name: text as str, numbers as float.
        timing: How the record's event_time compares with its arrival, see `EventTimeLimits`.
    """

    event_id: str
    entity_id: str
    event_time_ms: int
    transaction_amt: float
    transaction_currency: str
    fields: dict[str, Any]
    timing: EventTime = EventTime.USUAL

    @property
    def identity(self) -> str:
        """Text that is equal for the records of one event, and for no others.

        A retry has the same ids, amount, currency, card and merchant; its time, address or user agent
        may differ. The same event_id with another of these is another event.
        """
        get = self.fields.get
        # The text of a tuple, so that no value can pass for part of its neighbour. Adding 0.0 turns
        # -0.0 into 0.0.
        return repr(
            (
                self.entity_id,
                self.event_id,
                self.transaction_amt + 0.0,
                self.transaction_currency,
                get("card_bin"),
                get("merchant_id"),
            )
        )


@dataclass(frozen=True, slots=True)
class EventTimeLimits:
    """How far an event_time may be from the arrival of its record; 0 means any distance.

    The arrival is the broker's timestamp on the stream, and the API's clock over REST. Files have
    none: their transactions are replayed and trained on as of their event_time.

    Attributes:
        ahead_ms: A transaction beyond it is scored as of its arrival: otherwise it would be missing
            from its customer's history until its event_time has come.
        behind_ms: A transaction beyond it is scored as it says, and marked.
    """

    ahead_ms: int = 0
    behind_ms: int = 0

    def apply(self, transaction: Transaction, arrived_ms: int) -> Transaction:
        """Return a transaction with the event_time to score it by.

        Args:
            transaction: The transaction as its record says.
            arrived_ms: Its arrival, UTC epoch milliseconds; not above 0 if it is unknown.
        """
        ahead_ms = transaction.event_time_ms - arrived_ms
        if self.ahead_ms and ahead_ms > self.ahead_ms and arrived_ms > 0:
            return as_of_arrival(transaction, arrived_ms)
        if self.behind_ms and -ahead_ms > self.behind_ms:
            return replace(transaction, timing=EventTime.BEHIND)
        return transaction


def as_of_arrival(transaction: Transaction, arrived_ms: int) -> Transaction:
    """Return a transaction that is scored as of its arrival."""
    return replace(transaction, event_time_ms=arrived_ms, timing=EventTime.AHEAD)


NUMERIC_TEXT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
"""A number as text; surrounding white space is stripped before matching."""

_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME_OF_DAY: Final = "no time of day"


def _read_number(field: Field, value: object) -> float | None:
    kind = type(value)
    if kind is float or kind is int:
        number = float(value)  # type: ignore[arg-type]
    elif kind is str:
        text = value.strip()  # type: ignore[attr-defined]
        if not text:
            return None
        if not NUMERIC_TEXT.fullmatch(text):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE, f"{field.name}: expected a number or numeric text", field.name
            )
        number = float(text)
    else:
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE, f"{field.name}: expected a number or numeric text", field.name
        )
    if not field.low <= number <= field.high or math.isinf(number):
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"{field.name}: expected a number from {field.low:g} to {field.high:g}",
            field.name,
        )
    return number


def _read_text(field: Field, value: object) -> str | None:
    kind = type(value)
    if kind is str:
        return value or None  # type: ignore[return-value]
    if kind is int:
        return str(value)
    raise InvalidMessage(
        ErrorCode.WRONG_TYPE, f"{field.name}: expected text or an integer", field.name
    )


def _read_id(field: Field, value: object) -> str | None:
    if type(value) is not str:
        raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{field.name}: expected text", field.name)
    if len(value) > MAX_ID_LENGTH:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"{field.name}: expected at most {MAX_ID_LENGTH} characters",
            field.name,
        )
    return value if value.strip() else None


def _read_currency(field: Field, value: object) -> str | None:
    if type(value) is not str or (value and not _CURRENCY.fullmatch(value)):
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE,
            f"{field.name}: expected a currency code of three letters",
            field.name,
        )
    return value.upper() or None


def event_time_to_ms(text: str) -> int:
    """Convert an ISO 8601 date and time to UTC epoch milliseconds.

    Args:
        text: Date and time, separated by `T` or a space. Fractions may have any length; without a
            zone the time is UTC.

    Returns:
        Milliseconds since 1970-01-01T00:00:00Z, rounded down.

    Raises:
        ValueError: `text` is not such a time, or has no time of day.
        OverflowError: The time in UTC is before year 1 or after year 9999.

    Example:
        >>> event_time_to_ms("2022-12-24T15:53:30")
        1671897210000
        >>> event_time_to_ms("2022-12-24T16:53:30.123456789+01:00")
        1671897210123
    """
    if len(text) <= 10:
        raise ValueError(_NO_TIME_OF_DAY)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def _read_time(field: Field, value: object) -> int | None:
    if type(value) is not str:
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE, f"{field.name}: expected ISO 8601 text", field.name
        )
    if not value.strip():
        return None
    try:
        event_time_ms = event_time_to_ms(value)
    except OverflowError:
        event_time_ms = -1
    except ValueError as error:
        missing = f"; it has {error}" if str(error) == _NO_TIME_OF_DAY else ""
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE,
            f"{field.name}: expected an ISO 8601 date and time{missing}",
            field.name,
        ) from None
    if not EVENT_TIME_FIRST_MS <= event_time_ms < EVENT_TIME_END_MS:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE, f"{field.name}: expected a time from 1970 to 2099", field.name
        )
    return event_time_ms


_READERS: Final[dict[Kind, Callable[[Field, object], Any]]] = {
    Kind.ID: _read_id,
    Kind.TEXT: _read_text,
    Kind.NUMBER: _read_number,
    Kind.TIME: _read_time,
    Kind.CURRENCY: _read_currency,
}
_REQUIRED: Final = tuple((field, _READERS[field.kind]) for field in FIELDS if field.required)
_OPTIONAL: Final = tuple(
    (field.name, field, _READERS[field.kind], field.kind is Kind.TEXT)
    for field in FIELDS
    if not field.required
)


def read_field(field: Field, value: object) -> Any:
    """Parse and check one value as `from_mapping` does.

    Returns:
        The value for `Transaction`; None if it counts as missing.

    Raises:
        InvalidMessage: `wrong_type` or `out_of_range`.
    """
    return _READERS[field.kind](field, value)


def from_mapping(record: dict[str, Any]) -> Transaction:
    """Check a parsed record and convert it to a transaction.

    Text fields may be integers, number fields may be numeric text, and empty text counts as
    missing. Unknown fields are ignored (`with_decision` passes them on).

    Args:
        record: Values by field name, as parsed from JSON.

    Raises:
        InvalidMessage: `reserved_field`, `missing_field`, `wrong_type` or `out_of_range`, for the
            first field at fault in the order of `FIELDS`.
    """
    if DECISION_FIELD in record:
        raise InvalidMessage(
            ErrorCode.RESERVED_FIELD,
            f"{DECISION_FIELD}: expected no such field in the input, it holds our decision",
            DECISION_FIELD,
        )
    get = record.get
    required = []
    for field, read in _REQUIRED:
        value = get(field.name)
        if value is not None:
            value = read(field, value)
        if value is None:
            raise InvalidMessage(
                ErrorCode.MISSING_FIELD,
                f"{field.name}: expected a value, it is required",
                field.name,
            )
        required.append(value)
    fields = {}
    for name, field, read, is_text in _OPTIONAL:
        value = get(name)
        if value is not None:
            # Text as text, the usual case, needs no function call.
            if not (is_text and type(value) is str):
                value = read(field, value)
            if value is not None and value != "":
                fields[name] = value
    event_id, entity_id, event_time_ms, amount, currency = required
    return Transaction(event_id, entity_id, event_time_ms, amount, currency, fields)


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise InvalidMessage(ErrorCode.REPEATED_KEY, "expected each key of an object once")
        seen[key] = value
    return seen


def _quotes(record: dict[str, Any]) -> int:
    return 2 * (len(record) + sum([type(value) is str for value in record.values()]))


def _refuse_unpaired_surrogates(record: dict[str, Any]) -> None:
    """Refuse declared fields that could not be packed, sent or stored as text."""
    for name, value in record.items():
        if name in FIELD_BY_NAME and type(value) is str and has_unpaired_surrogate(value):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE,
                f"{name}: expected Unicode text, it has half of a surrogate pair",
                name,
            )


def parse(raw: bytes | None) -> dict[str, Any]:
    """Parse the bytes of a record into its fields, without checking them.

    Raises:
        InvalidMessage: `null_value`, `empty_value`, `not_json`, `not_an_object`, `repeated_key`.
    """
    if raw is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a JSON object, the value is null")
    record, is_ordinary = load(raw)
    if type(record) is not dict:
        raise InvalidMessage(ErrorCode.NOT_AN_OBJECT, "expected a JSON object")
    if not is_ordinary:
        _refuse_unpaired_surrogates(record)
    # orjson keeps the last of two equal keys. In a flat record without escapes each key and each
    # text has two quotes, so a dropped key shows in their number. Other records are parsed again.
    if raw.count(b'"') != _quotes(record):
        try:
            # Integers stay text: Python refuses to convert integers of over 4,300 digits.
            json.loads(raw, object_pairs_hook=_refuse_repeated_keys, parse_int=str)
        except RecursionError:
            raise InvalidMessage(ErrorCode.NOT_JSON, TOO_DEEP) from None
    return record


_WHITE: Final = re.compile(r"[ \t\n\r]*")
_SCANNER: Final = json.JSONDecoder(parse_int=str)


def parse_many(raw: bytes) -> list[dict[str, Any] | InvalidMessage]:
    """Parse a JSON array of records, each as `parse` would do alone.

    Returns:
        For each record, in order, its fields or the exception that `parse` raised. A record of
        more than `MAX_RECORD_BYTES` is `too_large`.

    Raises:
        InvalidMessage: The bytes are empty (`empty_value`), not JSON (`not_json`), or JSON but not
            an array (`not_an_object`).

    Example:
        >>> parse_many(b'[{"a":1}, {"a":1,"a":2}]')
        [{'a': 1}, InvalidMessage('repeated_key: expected each key of an object once')]
    """
    records, is_ordinary = load(raw)
    if type(records) is not list:
        raise InvalidMessage(ErrorCode.NOT_AN_OBJECT, "expected a JSON array")
    # The quick check of `parse` holds for the sum, too: `_quotes` is never more than a record has.
    if (
        is_ordinary
        and len(raw) <= MAX_RECORD_BYTES
        and all(type(record) is dict for record in records)
        and raw.count(b'"') == sum(map(_quotes, records))
    ):
        return records
    return list(map(_parsed, _items(raw.decode())))


def _items(text: str) -> list[bytes]:
    """Split a valid JSON array into the bytes of its items."""
    items: list[bytes] = []
    at = text.index("[") + 1
    while True:
        start = _WHITE.match(text, at).end()  # type: ignore[union-attr]  # also matches empty text
        if text[start] == "]":
            return items
        try:
            _, end = _SCANNER.raw_decode(text, start)
        except RecursionError:
            raise InvalidMessage(ErrorCode.NOT_JSON, TOO_DEEP) from None
        items.append(text[start:end].encode())
        at = _WHITE.match(text, end).end()  # type: ignore[union-attr]
        if text[at] == ",":
            at += 1


def _parsed(item: bytes) -> dict[str, Any] | InvalidMessage:
    if len(item) > MAX_RECORD_BYTES:
        return _too_large()
    try:
        return parse(item)
    except InvalidMessage as verdict:
        return verdict


def decode(raw: bytes | None) -> Transaction:
    """Parse and check the value of a record of the topic `transactions`.

    Raises:
        InvalidMessage: Any of `ErrorCode`; `too_large` is checked before parsing.

    Example:
        >>> raw = b'{"event_id":"e1","entity_id":"c1","event_time":"2026-03-01T00:00:00",'
        >>> decode(raw + b'"transaction_amt":"9.99","transaction_currency":"usd"}')
        Transaction(event_id='e1', entity_id='c1', event_time_ms=1772323200000, \
transaction_amt=9.99, transaction_currency='USD', fields={}, timing=<EventTime.USUAL: 0>)
    """
    if raw is not None and len(raw) > MAX_RECORD_BYTES:
        raise _too_large()
    return from_mapping(parse(raw))


def _too_large() -> InvalidMessage:
    return InvalidMessage(
        ErrorCode.TOO_LARGE, f"expected a record of at most {MAX_RECORD_BYTES} bytes"
    )


def with_decision(raw: bytes, decision_json: bytes) -> bytes:
    """Append the decision to a valid record, without changing the record's own bytes.

    Args:
        raw: Value of the input record, which `decode` accepted.
        decision_json: The `fd` object, as JSON.

    Example:
        >>> with_decision(b'{"event_id": "e1", "x": 1.50}', b'{"outcome":"approve"}')
        b'{"event_id": "e1", "x": 1.50,"fd":{"outcome":"approve"}}'
    """
    return raw.rstrip()[:-1] + b',"fd":' + decision_json + b"}"
