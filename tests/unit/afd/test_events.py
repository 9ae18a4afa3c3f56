"""Their events as our records."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from afd.errors import ValidationException
from afd.events import DeclaredVariable, EventReader
from model.datasets import ColumnMapping

OURS = {"transaction_amt": "24.90", "transaction_currency": "usd"}


def event(variables: dict[str, str] = OURS, **changes: Any) -> dict[str, Any]:
    return {
        "eventId": "e-1",
        "eventTypeName": "purchase",
        "eventTimestamp": "2026-03-01T09:30:00Z",
        "entities": [{"entityType": "customer", "entityId": "c-1"}],
        "eventVariables": variables,
    } | changes


def record_of(reader: EventReader, request: dict[str, Any]) -> dict[str, Any]:
    _, raw = reader.read(request)
    record: dict[str, Any] = orjson.loads(raw)
    return record


def test_variables_of_our_names_are_our_fields_and_others_pass_through() -> None:
    transaction, raw = EventReader().read(event(OURS | {"basket_size": "3"}))
    assert (transaction.event_id, transaction.entity_id) == ("e-1", "c-1")
    assert transaction.transaction_amt == 24.9
    assert transaction.transaction_currency == "USD"
    assert orjson.loads(raw) == {
        "event_id": "e-1",
        "entity_id": "c-1",
        "event_time": "2026-03-01T09:30:00Z",
        "transaction_amt": "24.90",
        "transaction_currency": "usd",
        "basket_size": "3",
    }


def test_a_mapping_file_is_that_of_their_csv() -> None:
    """Columns of events, variables, constants; nothing else of ours comes from elsewhere."""
    mapping = ColumnMapping(
        {
            "event_id": "EVENT_ID",
            "entity_id": "card",
            "event_time": "EVENT_TIMESTAMP",
            "transaction_amt": "order_price",
            "label": "EVENT_LABEL",
        },
        {"transaction_currency": "EUR"},
    )
    sent = {
        "order_price": "5",
        "card": "k-9",
        "transaction_amt": "99",
        "transaction_currency": "USD",
        "x": "1",
    }
    assert record_of(EventReader(mapping), event(sent)) == {
        "event_id": "e-1",
        "entity_id": "k-9",
        "event_time": "2026-03-01T09:30:00Z",
        "transaction_amt": "5",
        "transaction_currency": "EUR",
        "x": "1",
    }


def test_a_declared_variable_is_mapped_by_its_type_and_has_its_default() -> None:
    reader = EventReader(
        variables={
            "price": DeclaredVariable("PRICE", "0.0"),
            "ip": DeclaredVariable("IP_ADDRESS", None),
            "cur": DeclaredVariable("CURRENCY_CODE", "EUR"),
            "second_ip": DeclaredVariable("IP_ADDRESS", None),
            "email_address": DeclaredVariable("EMAIL_ADDRESS", None),
            "mail": DeclaredVariable("EMAIL_ADDRESS", None),
        }
    )
    assert reader.names() == {
        "price": "transaction_amt",
        "ip": "ip_address",
        "cur": "transaction_currency",
    }
    record = record_of(reader, event({"price": "7", "ip": "10.1.1.1", "second_ip": "10.1.1.2"}))
    assert record["transaction_amt"] == "7"
    assert record["ip_address"] == "10.1.1.1"
    assert record["second_ip"] == "10.1.1.2"
    assert record["transaction_currency"] == "EUR"
    assert record_of(reader, event(OURS))["transaction_amt"] == "24.90"


def test_nobody_known_is_somebody_else_each_time() -> None:
    """Otherwise they all had one history."""
    unknown = {"entities": [{"entityType": "customer", "entityId": "UNKNOWN"}]}
    entities = {
        EventReader().read(event(**unknown, eventId=f"e-{n}"))[0].entity_id for n in range(2)
    }
    assert entities == {"unknown/e-0", "unknown/e-1"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (event({"transaction_currency": "USD"}), "transaction_amt: expected a value.*eventVariables"),
        (event({"transaction_amt": "1"}), "transaction_currency: expected a value"),
        (event(OURS | {"transaction_amt": "ten"}), "transaction_amt: expected a number"),
        (event(OURS | {"fd": "x"}), "fd: expected no such field"),
        (event(OURS | {"event_id": "x"}), "eventVariables.event_id"),
        (event(eventTimestamp="yesterday or so"), r"event_time: .*\(eventTimestamp\)"),
        (event(entities=[]), "'entities'"),
        (event(eventId=""), "event_id: expected a value"),
        (event(OURS | {f"v{n}": "x" * 8000 for n in range(140)}), "at most 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_their_validation_error(
    request_: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationException, match=expected):
        EventReader().read(request_)


def test_an_error_names_their_variable() -> None:
    reader = EventReader(variables={"price": DeclaredVariable("PRICE", None)})
    with pytest.raises(ValidationException, match="the variable price in eventVariables"):
        reader.read(event({"price": "ten", "transaction_currency": "USD"}))


@pytest.mark.parametrize(
    ("said", "meant"), [("fraud", "fraud"), ("LEGIT", "legitimate"), ("0", "legitimate")]
)
def test_labels_by_their_usual_names(said: str, meant: str) -> None:
    made = EventReader().label("e-1", said, "2026-04-01", "desk")
    assert made.model_dump() == {
        "event_id": "e-1",
        "label": meant,
        "label_time": "2026-04-01T00:00:00.000Z",
        "source": "desk",
    }


def test_labels_by_a_mapping_file_and_labels_that_mean_nothing() -> None:
    mapping = ColumnMapping(
        {name: name for name in ("event_id", "entity_id", "event_time", "transaction_amt", "transaction_currency")},
        fraud=frozenset({"chargeback"}),
        legitimate=frozenset({"paid"}),
    )  # fmt: skip
    made = EventReader(mapping).label("e-1", "chargeback", "2026-04-01T00:00:00Z", "desk")
    assert made.label == "fraud"
    with pytest.raises(ValidationException, match="expected one of chargeback, paid"):
        EventReader(mapping).label("e-1", "fraud", "2026-04-01T00:00:00Z", "desk")
    with pytest.raises(ValidationException, match="labelTimestamp"):
        EventReader().label("e-1", "fraud", "some time ago", "desk")
