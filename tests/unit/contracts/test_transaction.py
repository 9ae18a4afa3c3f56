"""The codec: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.contracts.decision import decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import (
    FIELDS,
    MAX_RECORD_BYTES,
    decode,
    event_time_to_ms,
    parse,
    parse_many,
    with_decision,
)
from tests.support.builders import a_record, a_value
from tests.support.refused import REFUSED


@pytest.mark.parametrize(("raw", "reason", "field"), REFUSED)
def test_a_bad_record_is_refused_with_its_reason_and_field(
    raw: bytes | None, reason: ErrorCode, field: str | None
) -> None:
    """Every refusal names what was expected, and the field at fault."""
    with pytest.raises(InvalidMessage) as refused:
        decode(raw)
    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert "expected" in refused.value.detail


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"\xef\xbb\xbf" + a_value(), "byte order mark"),
        (a_value().decode().encode("utf-16"), "UTF-16"),
        (gzip.compress(a_value()), "gzip"),
        (b"\x28\xb5\x2f\xfd\x00\x58\x01", "zstd"),
        (b"\x00\x00\x00\x00\x07" + a_value(), "schema registry's frame (schema 7)"),
        (b"\x00", "line 1, column 1"),
        (a_value(customer_name="Zoe").replace(b"Zoe", b"Zo\xeb"), "byte "),
        (b'{"x": -Infinity}', "-Infinity is not a JSON number"),
        (b"[" * 100_000, "nested"),
        (b'{"a": ' * 100_000, "nested"),
        (b'{\n"a" 1}', "line 2, column 5"),
    ],
)
def test_the_true_cause_is_named_when_bytes_are_not_json(raw: bytes, cause: str) -> None:
    """A sender that reads it knows what to change."""
    with pytest.raises(InvalidMessage) as refused:
        decode(raw)
    assert refused.value.reason is ErrorCode.NOT_JSON
    assert cause in refused.value.detail


@pytest.mark.parametrize(
    "value",
    ["1e400", "-1e400", "7" * 5000, '"\\ud800"', '{"\\udc00": ["\\ud800", 1e999]}', '"\\u0000"', "1E-999"],
)  # fmt: skip
def test_a_field_that_nobody_declared_passes_whatever_json_allows(value: str) -> None:
    """It is carried along unread: neither its range nor its text concerns us."""
    raw = a_value()[:-1] + b',"extra":%b}' % value.encode()
    assert decode(raw) == decode(a_value())
    assert parse_many(b"[%b,%b]" % (raw, a_value())) == [parse(raw), parse(a_value())]
    processed = with_decision(
        raw,
        b'{"outcome":"approve","source":{"topic":"t","partition":0,"offset":0,"timestamp_ms":0}}',
    )
    record, decision = decode_processed(processed)
    assert record == parse(raw)
    assert decision["outcome"] == "approve"


def test_half_a_surrogate_pair_is_the_verdict_of_its_own_record_in_a_list() -> None:
    """The other records of the list are read."""
    bad = a_value(customer_name="\\").replace(b'"\\\\"', b'"\\ud800"')
    verdict, record = parse_many(b"[%b,%b]" % (bad, a_value()))
    assert isinstance(verdict, InvalidMessage)
    assert verdict.field == "customer_name"
    assert record == parse(a_value())


def test_a_record_that_is_too_long_once_unpacked_is_refused_before_it_is_parsed() -> None:
    """The broker's limit counts the batch as it was compressed."""
    longest = a_value(note="")
    longest = a_value(note="x" * (MAX_RECORD_BYTES - len(longest)))
    assert len(longest) == MAX_RECORD_BYTES
    assert decode(longest).event_id
    for too_long in (longest + b" ", b"{" * (MAX_RECORD_BYTES + 1)):
        with pytest.raises(InvalidMessage) as refused:
            decode(too_long)
        assert refused.value.reason == "too_large"


@pytest.mark.parametrize("field", [field.name for field in FIELDS if field.required])
@pytest.mark.parametrize("absent", [None, "null"])
def test_a_required_field_may_be_neither_missing_nor_null(field: str, absent: str | None) -> None:
    """Both are the same to us."""
    record = a_record()
    record[field] = None
    if absent is None:
        del record[field]
    with pytest.raises(InvalidMessage) as refused:
        decode(orjson.dumps(record))
    assert refused.value.reason is ErrorCode.MISSING_FIELD
    assert refused.value.field == field


@pytest.mark.parametrize("field", [field.name for field in FIELDS if not field.required])
@pytest.mark.parametrize("absent", [None, ""])
def test_any_other_field_may_be_missing_null_or_empty(field: str, absent: str | None) -> None:
    """A missing optional field is just not there."""
    record = a_record() | {field: absent}
    assert field not in decode(orjson.dumps(record)).fields
    del record[field]
    assert field not in decode(orjson.dumps(record)).fields


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (24.9, 24.9),
        ("24.9", 24.9),
        ("  7 ", 7.0),
        ("1e3", 1000.0),
        (-5, -5.0),
        (".5", 0.5),
        (0, 0.0),
    ],
)
def test_an_amount_is_a_number_or_the_same_as_text(written: float | str, amount: float) -> None:
    """The AWS sample's producer sends text."""
    assert decode(a_value(transaction_amt=written)).transaction_amt == amount


def test_text_fields_may_be_integers() -> None:
    """A BIN or a zip code is often written as a number."""
    transaction = decode(a_value(card_bin=411111, billing_zip=62701, billing_latitude="39.8"))
    assert transaction.fields["card_bin"] == "411111"
    assert transaction.fields["billing_zip"] == "62701"
    assert transaction.fields["billing_latitude"] == 39.8


def test_a_currency_may_be_in_any_case() -> None:
    """It is read into upper case."""
    assert decode(a_value(transaction_currency="eUr")).transaction_currency == "EUR"


def test_unknown_fields_are_no_error() -> None:
    """They pass through, whatever they hold."""
    extra = {"x": [1, {"y": '\\"'}], "z": 1e300, "w": "ünï", "v": [None]}
    assert decode(a_value(**extra)).event_id == a_record()["event_id"]


@pytest.mark.parametrize("quotes", [b"", b'{"q":"\\""},'])
def test_long_integers_pass_through(quotes: bytes) -> None:
    """Also past the quick count of quotes, where Python reads the record once more."""
    raw = a_value()[:-1] + b',"n":[' + quotes + b"1" * 300 + b"]}"
    assert decode(raw).entity_id == a_record()["entity_id"]
    longer = raw.replace(b"111]", b"111" + b"1" * 5000 + b"]")
    assert decode(longer).entity_id == a_record()["entity_id"]


@pytest.mark.parametrize(
    "written",
    [
        "2022-12-24T15:53:30Z",
        "2022-12-24T15:53:30",
        "2022-12-24 15:53:30",
        "2022-12-24T15:53:30.000",
        "2022-12-24T15:53:30.000000999Z",
        "2022-12-24T16:53:30+01:00",
        "20221224T155330Z",
    ],
)
def test_event_time_may_be_written_in_each_way_of_the_contract(written: str) -> None:
    """With or without fraction and zone; none means UTC."""
    assert event_time_to_ms(written) == 1671897210000


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)),  # noqa: DTZ001 - hypothesis adds the zone
    st.integers(-14 * 60, 14 * 60),
)
def test_event_time_is_exact_for_every_zone(naive: datetime, minutes: int) -> None:
    """Milliseconds are cut, never rounded."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert event_time_to_ms(moment.isoformat()) == exact


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([f.name for f in FIELDS] + ["x", "fd"]), json_values))
def test_whatever_comes_is_read_or_refused(changes: dict[str, object]) -> None:
    """No value of any field may end in another error than a verdict."""
    raw = orjson.dumps(a_record() | changes, default=str) if _is_64_bit(changes) else b"0"
    try:
        transaction = decode(raw)
    except InvalidMessage:
        return
    assert math.isfinite(transaction.transaction_amt)


def _is_64_bit(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@given(st.binary(max_size=60))
def test_whatever_bytes_come_are_read_or_refused(raw: bytes) -> None:
    """Neither may bytes."""
    with pytest.raises(InvalidMessage):
        decode(raw)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab\u00e9"), st.text(max_size=3) | st.integers(0, 9)), max_size=4
    )
)
def test_a_repeated_key_is_found_however_it_is_written(pairs: list[tuple[str, object]]) -> None:
    """The quick count of quotes must never let one through, nor refuse a good record."""
    raw = b"{" + b",".join(orjson.dumps(k) + b":" + orjson.dumps(v) for k, v in pairs) + b"}"
    if len({key for key, _ in pairs}) == len(pairs):
        assert parse(raw) == dict(pairs)
    else:
        with pytest.raises(InvalidMessage, match="repeated_key"):
            parse(raw)


def _alone(raw: bytes) -> object:
    try:
        return parse(raw)
    except InvalidMessage as verdict:
        return (verdict.reason, verdict.detail)


def _together(raw: bytes) -> list[object]:
    return [
        (one.reason, one.detail) if isinstance(one, InvalidMessage) else one
        for one in parse_many(raw)
    ]


objects = st.lists(st.tuples(st.sampled_from("ab"), json_values), max_size=3).map(
    lambda pairs: b"{" + b",".join(orjson.dumps(k) + b": " + _json(v) for k, v in pairs) + b"}"
)


def _json(value: object) -> bytes:
    return orjson.dumps(value) if _is_64_bit(value) else b"0"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(objects | json_values.map(_json), max_size=4),
    st.sampled_from([b",", b" ,\n\t", b", "]),
    st.sampled_from([b"", b" \r\n"]),
)
def test_a_record_in_a_list_is_read_as_it_would_be_alone(
    items: list[bytes], comma: bytes, space: bytes
) -> None:
    """Repeated keys and all, whatever stands beside it."""
    raw = space + b"[" + space + comma.join(items) + space + b"]" + space
    assert _together(raw) == [_alone(item) for item in items]


def test_a_list_may_be_longer_than_a_record_may_be() -> None:
    """Each of its records may not."""
    fits = b'{"a":"' + b"x" * (MAX_RECORD_BYTES - 8) + b'"}'
    assert len(fits) == MAX_RECORD_BYTES
    first, second, third = _together(b"[" + fits + b"," + fits + b" ," + fits[:-2] + b'x"}]')
    assert first == second == orjson.loads(fits)
    assert third == ("too_large", "expected a record of at most 1048576 bytes")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", "empty_value"), (b"[", "not_json"), (b"{}", "not_an_object"), (b"[1,]", "not_json")],
)
def test_what_is_no_list_is_refused_as_a_whole(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        parse_many(raw)
    assert refused.value.reason == reason


def test_the_input_keeps_its_own_bytes() -> None:
    """Numbers, white space and order stay as they came; only fd is added."""
    raw = b'{ "n": 1.50, "big": 123456789012345678901234567890, "e": 1E2 }\n'
    assert with_decision(raw, b"{}") == (
        b'{ "n": 1.50, "big": 123456789012345678901234567890, "e": 1E2 ,"fd":{}}'
    )


def test_a_verdict_survives_pickling() -> None:
    """Flink's workers and test runners pass exceptions between processes."""
    import pickle

    verdict = InvalidMessage(ErrorCode.WRONG_TYPE, "x: expected text", "x")
    again = pickle.loads(pickle.dumps(verdict))  # noqa: S301 - our own bytes
    assert (again.reason, again.detail, again.field) == ("wrong_type", "x: expected text", "x")
