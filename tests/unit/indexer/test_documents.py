"""One decided transaction becomes one document that fits the mapping, whatever it holds."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.errors import InvalidMessage
from fraud.features.catalogue import FEATURES
from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import expired_indexes, index_name, to_document
from indexer.template import MAX_FIELDS, mapping
from tests.support.builders import START_MS, a_decision, a_processed, a_record

PSEUDONYMS = Pseudonyms(b"k" * 32)
CLEAR = Pseudonyms(b"k" * 32, clear=True)


def a_body(
    record: dict[str, Any] | None = None,
    decision: dict[str, Any] | None = None,
    pseudonyms: Pseudonyms = PSEUDONYMS,
) -> dict[str, Any]:
    return to_document(a_processed(record, decision), pseudonyms).body


def test_place_and_id_come_from_the_input_record() -> None:
    """A replay of the output, or a second decision, meets the same document."""
    source = {"topic": "transactions", "partition": 3, "offset": 42, "timestamp_ms": START_MS - 1}
    document = to_document(a_processed(decision={"source": source}), PSEUDONYMS)
    assert document.index == "processed_transactions-2026.02.28"
    assert document.id == "transactions-3-42"
    assert document.body["fd"]["source"] == source


def test_values_are_normalised() -> None:
    """Amounts are numbers, times UTC, currencies upper case, whatever the wire had."""
    body = a_body(
        {
            "transaction_amt": "1816.33",
            "event_time": "2026-03-01 01:00:00+01:00",
            "card_bin": 411111,
        }
    )
    assert body["transaction_amt"] == 1816.33
    assert body["event_time"] == "2026-03-01T00:00:00.000Z"
    assert body["transaction_currency"] == "USD"
    assert body["card_bin"] == "411111"
    assert body["email_domain"] == "lynch.org"


def test_the_decision_is_all_there() -> None:
    """Only features that are not known are missing."""
    fd = a_body()["fd"]
    expected = a_decision()
    expected["features"] = {"amount_base": 24.9, "entity_tx_count_1h": 3.0}
    assert fd == expected | {"lists": []}


def test_lists_versions_and_the_shadow_are_there_when_the_decision_has_them() -> None:
    """Names of lists, which people choose, become no fields."""
    rules = [{"id": "R1_x", "version": 2, "outcome": "review"}]
    decision = {
        "lists": [{"name": "blocked_ips", "use": "block", "field": "ip_address"}],
        "versions": {"rules": "r-1", "lists": {"blocked_ips": "l-7"}},
        "shadow": {
            "outcome": "review",
            "score": 910,
            "probability": 0.4,
            "rules": rules,
            "model": {"name": "next", "version": "def"},
            "rules_version": "r-2",
        },
    }
    body = a_body(decision=decision)
    assert {part: body["fd"][part] for part in decision} == decision
    assert body["shadow_agrees"] is False
    assert "shadow_agrees" not in a_body()
    assert mapping()["properties"]["fd"]["properties"]["versions"]["properties"]["lists"] == {
        "type": "object",
        "enabled": False,
    }


def test_the_time_to_the_decision_counts_from_arrival() -> None:
    """Also of a file from years ago; a clock that is behind makes it 0."""
    assert a_body()["decision_ms"] == 123
    assert a_body(decision={"scored_at": "2026-02-28T23:59:59Z"})["decision_ms"] == 0


def test_new_features_cannot_outgrow_the_index() -> None:
    """The mapping with all features takes less than half of what an index may have."""

    def count(properties: dict[str, Any]) -> int:
        return sum(
            1 + count(rule.get("properties", {})) + len(rule.get("fields", {}))
            for rule in properties.values()
        )

    assert 2 * (count(mapping()["properties"]) + len(FEATURES)) < MAX_FIELDS
    odd = {f"feature_{number}": 1.0 for number in range(1000)}
    assert a_body(decision={"features": odd})["fd"]["features"] == {}


SECRETS = ("Dennis", "Zachary", "436-2616", "jasonsnyder", "070-69-2161", "42.3182", "79.3758")


def test_personal_fields_are_not_indexed_in_clear() -> None:
    """Names, streets, phones, mailboxes and doors are not there; nor are undeclared fields."""
    told = (
        "Dennis Example, DENNIS  EXAMPLE of 4900 Zachary Field, 070-69-2161, jasonsnyder@lynch.org"
    )
    reasons = [{"code": "R1", "text": told, "contribution": None}]
    body = a_body({"card_holder": "Dennis Example"}, {"reasons": reasons})
    text = orjson.dumps(body).decode()
    assert [secret for secret in (*SECRETS, "DENNIS") if secret in text] == []
    for field in ("email_address", "phone", "customer_name", "billing_street", "entity_id"):
        assert body[field] == PSEUDONYMS.hash(field, a_record()[field]), field
    assert body["billing_location"] == {"lat": 42.32, "lon": -79.38}
    assert (body["billing_latitude"], body["billing_longitude"]) == (42.32, -79.38)


def test_personal_fields_are_clear_when_asked_for() -> None:
    """By an explicit setting; fields that nobody declared stay out."""
    body = a_body({"card_holder": "Somebody Else"}, pseudonyms=CLEAR)
    text = orjson.dumps(body).decode()
    assert [secret for secret in SECRETS if secret not in text] == []
    assert "Somebody Else" not in text
    assert body["billing_location"] == {"lat": 42.3182, "lon": -79.3758}


def test_a_long_personal_value_is_found_by_the_whole_of_it() -> None:
    """The hash is of what was sent, not of what is kept."""
    street = "Long Street " * 200
    assert a_body({"billing_street": street})["billing_street"] == PSEUDONYMS.hash(
        "billing_street", street
    )


@pytest.mark.parametrize("place", [(None, 1.0), (91.0, 1.0), (1.0, 181.0), ("north", 1.0)])
def test_no_place_without_two_coordinates(place: tuple[Any, Any]) -> None:
    """A geo_point out of range would be refused by the index."""
    body = a_body({"billing_latitude": place[0], "billing_longitude": place[1]})
    assert "billing_location" not in body


@pytest.mark.parametrize(
    "source",
    [
        {"topic": None},
        {"partition": "0"},
        {"offset": -1},
        {"offset": True},
        {"timestamp_ms": -1},
        {"timestamp_ms": 253_402_300_799_999},
        {"timestamp_ms": None},
    ],
)
def test_unusable_coordinates_are_refused(source: dict[str, Any]) -> None:
    """Id or index derive from them."""
    whole = a_decision()["source"] | source
    with pytest.raises(InvalidMessage):
        to_document(a_processed(decision={"source": whole}), PSEUDONYMS)


odd_values = st.sampled_from(
    [
        None, True, 0, -1, 2**31, 2**63, 10**30, -(10**30), 1.5, 1e308, "", " ", "x" * 5000,
        "\u202e\u0000", "1e999", "nan", "12", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
        [], [None], [[]], [{}], [1], ["a"], [{"code": [], "text": 5, "contribution": "x"}],
        [{"version": 2**40}], {}, {"name": []}, {"rules": [{"id": 1}], "lists": {"a.b": "c", "d": 1}}, {"a.b": 1}, {"": 1}, {"x" * 200: 1}, {"a": {"b": 1}},
        {"amount_base": 1e308, "entity_tx_count_1h": 10**400, "event_hour": "5", "ip_class": True, "entity": 1e39},
    ]
)  # fmt: skip


def fits(value: Any, rule: dict[str, Any]) -> bool:
    """Return whether OpenSearch takes a value for a field of the mapping."""
    if value is None:
        return True
    if isinstance(value, list):
        return all(fits(item, rule) for item in value)
    if rule.get("dynamic") is True:
        return isinstance(value, dict) and all(
            name and "." not in name and type(inner) in (int, float) and abs(inner) <= 3.4e38
            for name, inner in value.items()
        )
    if "properties" in rule:
        return isinstance(value, dict) and all(
            name in rule["properties"] and fits(inner, rule["properties"][name])
            for name, inner in value.items()
        )
    match rule["type"]:
        case "object" if rule.get("enabled") is False:
            return isinstance(value, dict) and all(name and "." not in name for name in value)
        case "double":
            return type(value) in (int, float) and math.isfinite(value)
        case "integer":
            return type(value) is int and abs(value) < 2**31
        case "long":
            return type(value) is int and abs(value) < 2**63
        case "boolean":
            return type(value) is bool
        case "date":
            return type(value) is int or datetime.fromisoformat(value).tzinfo is UTC
        case "geo_point":
            return abs(value["lat"]) <= 90 and abs(value["lon"]) <= 180
        case _:
            return type(value) is str and len(value) <= 1024


@given(
    st.dictionaries(
        st.sampled_from(
            sorted(a_decision().keys() - {"outcome", "source"} | {"lists", "versions", "shadow"})
        ),
        odd_values,
    ),
    st.dictionaries(st.sampled_from([*a_record(), "unknown", "", "a.b"]), odd_values),
)
def test_any_document_fits_the_mapping(decision: dict[str, Any], record: dict[str, Any]) -> None:
    """Nothing that a payer writes can keep its transaction out of the index."""
    raw = json.dumps(a_record(**record) | {"fd": a_decision(**decision)}).encode()
    try:
        document = to_document(raw, PSEUDONYMS)
    except InvalidMessage as verdict:
        # Python's json writes integers that orjson refuses to read.
        assert verdict.reason == "not_json"  # noqa: PT017
        return
    assert fits(orjson.loads(orjson.dumps(document.body)), mapping())


def test_days_are_utc() -> None:
    """A transaction of a moment before midnight belongs to the day before."""
    assert index_name(START_MS) == "processed_transactions-2026.03.01"
    assert index_name(START_MS - 1) == "processed_transactions-2026.02.28"


def test_only_whole_expired_days_of_ours_go() -> None:
    """Today and the days kept stay, as does all that is not an index of a day."""
    days = [index_name(START_MS + day * 86_400_000) for day in range(5)]
    names = [
        *days,
        "processed_transactions_rejected",
        "processed_transactions-old",
        "else-2020.01.01",
    ]
    assert expired_indexes(names, today=date(2026, 3, 5), keep_days=2) == days[:2]
    assert expired_indexes(names, today=date(2026, 3, 5), keep_days=4) == []
