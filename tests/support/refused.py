"""Values that the codec refuses, with reason and field."""

from __future__ import annotations

from fraud.contracts.errors import ErrorCode
from fraud.contracts.transaction import MAX_AMOUNT, MAX_ID_LENGTH
from tests.support.builders import a_value

REFUSED = [
    (None, ErrorCode.NULL_VALUE, None),
    (b"", ErrorCode.EMPTY_VALUE, None),
    (b" \n\t", ErrorCode.EMPTY_VALUE, None),
    (b"not json", ErrorCode.NOT_JSON, None),
    (a_value()[:-1], ErrorCode.NOT_JSON, None),
    (a_value(customer_name="Zoë")[:-3].replace(b"\xc3\xab", b"\xc3"), ErrorCode.NOT_JSON, None),
    (b"\xef\xbb\xbf" + a_value(), ErrorCode.NOT_JSON, None),
    (b'{"transaction_amt": NaN}', ErrorCode.NOT_JSON, None),
    (
        a_value(customer_name="\\").replace(b'"\\\\"', b'"\\ud800"'),
        ErrorCode.WRONG_TYPE,
        "customer_name",
    ),
    (a_value(entity_id="\\").replace(b'"\\\\"', b'"\\udfff"'), ErrorCode.WRONG_TYPE, "entity_id"),
    (
        a_value(transaction_amt=77).replace(b"77", b"1e400"),
        ErrorCode.OUT_OF_RANGE,
        "transaction_amt",
    ),
    (
        a_value(transaction_amt=77).replace(b"77", b"7" * 5000),
        ErrorCode.OUT_OF_RANGE,
        "transaction_amt",
    ),
    (b"[" * 100_000, ErrorCode.NOT_JSON, None),
    (b"[]", ErrorCode.NOT_AN_OBJECT, None),
    (b'"text"', ErrorCode.NOT_AN_OBJECT, None),
    (b"null", ErrorCode.NOT_AN_OBJECT, None),
    (b'{"a": 1, "a": 1}', ErrorCode.REPEATED_KEY, None),
    (b'{"a": "x", "\\u0061": "y"}', ErrorCode.REPEATED_KEY, None),
    (b'{"deep": [{"a": 1, "a": 2}]}', ErrorCode.REPEATED_KEY, None),
    (a_value(fd={"outcome": "approve"}), ErrorCode.RESERVED_FIELD, "fd"),
    (a_value(fd=None).replace(b'{"', b'{"fd":null,"', 1), ErrorCode.RESERVED_FIELD, "fd"),
    (a_value(event_id=7), ErrorCode.WRONG_TYPE, "event_id"),
    (a_value(event_id=" "), ErrorCode.MISSING_FIELD, "event_id"),
    (a_value(entity_id="x" * (MAX_ID_LENGTH + 1)), ErrorCode.OUT_OF_RANGE, "entity_id"),
    (a_value(event_time=-1), ErrorCode.WRONG_TYPE, "event_time"),
    (a_value(event_time="-1"), ErrorCode.WRONG_TYPE, "event_time"),
    (a_value(event_time="2026-03-01"), ErrorCode.WRONG_TYPE, "event_time"),
    (a_value(event_time="1 March 2026, 10:00"), ErrorCode.WRONG_TYPE, "event_time"),
    (a_value(event_time="9999-01-01T00:00:00Z"), ErrorCode.OUT_OF_RANGE, "event_time"),
    (a_value(event_time="1969-12-31T23:59:59Z"), ErrorCode.OUT_OF_RANGE, "event_time"),
    (a_value(event_time="0001-01-01T00:00:00+23:59"), ErrorCode.OUT_OF_RANGE, "event_time"),
    (a_value(transaction_amt=True), ErrorCode.WRONG_TYPE, "transaction_amt"),
    (a_value(transaction_amt="NaN"), ErrorCode.WRONG_TYPE, "transaction_amt"),
    (a_value(transaction_amt="1_000"), ErrorCode.WRONG_TYPE, "transaction_amt"),
    (a_value(transaction_amt="12,50"), ErrorCode.WRONG_TYPE, "transaction_amt"),
    (a_value(transaction_amt="1e400"), ErrorCode.OUT_OF_RANGE, "transaction_amt"),
    (a_value(transaction_amt=MAX_AMOUNT * 2), ErrorCode.OUT_OF_RANGE, "transaction_amt"),
    (a_value(transaction_amt=""), ErrorCode.MISSING_FIELD, "transaction_amt"),
    (a_value(transaction_currency="EURO"), ErrorCode.WRONG_TYPE, "transaction_currency"),
    (a_value(transaction_currency=""), ErrorCode.MISSING_FIELD, "transaction_currency"),
    (a_value(billing_latitude=90.1), ErrorCode.OUT_OF_RANGE, "billing_latitude"),
    (a_value(billing_longitude=[1]), ErrorCode.WRONG_TYPE, "billing_longitude"),
    (a_value(customer_name={"first": "Ada"}), ErrorCode.WRONG_TYPE, "customer_name"),
    (a_value(user_agent=False), ErrorCode.WRONG_TYPE, "user_agent"),
    (a_value(phone=1.5), ErrorCode.WRONG_TYPE, "phone"),
]
