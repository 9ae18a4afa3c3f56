"""The committed schemas and examples are those of the types, and the codec agrees with them."""

from __future__ import annotations

import orjson
import pytest
from jsonschema import Draft202012Validator

from fraud.contracts.control import decode_control, read_model
from fraud.contracts.decision import Decision, decode_processed
from fraud.contracts.json_schema import (
    EXAMPLE_FOLDER,
    SCHEMA_FOLDER,
    schema_bytes,
    schemas,
    transaction_schema,
)
from fraud.contracts.json_values import has_unpaired_surrogate, loads
from fraud.contracts.label import Label
from fraud.contracts.lists import ListChange
from fraud.contracts.rules import RuleSet
from fraud.contracts.topics import TOPICS
from fraud.contracts.transaction import decode
from tests.support.builders import a_value
from tests.support.refused import REFUSED

EXAMPLES = sorted(EXAMPLE_FOLDER.glob("*/*.json"))


def test_the_committed_schemas_are_those_of_the_types() -> None:
    """`python -m fraud.contracts.json_schema` rewrites them."""
    committed = {path.name: path.read_bytes() for path in SCHEMA_FOLDER.glob("*.json")}
    assert committed == {name: schema_bytes(schema) for name, schema in schemas().items()}


def test_every_schema_has_examples() -> None:
    """A folder per schema, named like it."""
    assert {path.parent.name for path in EXAMPLES} == {
        name.removesuffix(".json") for name in schemas()
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_is_valid_by_schema_and_by_code(example: object) -> None:
    """Whoever writes a client starts from these."""
    raw = example.read_bytes()  # type: ignore[attr-defined]
    kind = example.parent.name  # type: ignore[attr-defined]
    Draft202012Validator(schemas()[f"{kind}.json"]).validate(orjson.loads(raw))
    if kind == "transaction":
        decode(raw)
    elif kind == "processed_transaction":
        record, decision = decode_processed(raw)
        decode(orjson.dumps(record))
        Decision.model_validate(decision)
    elif kind == "decision":
        Decision.model_validate_json(raw)
    elif kind == "control_document":
        read_model(decode_control(b"model/champion/5d0c2f1a9b7e", raw))
    elif kind == "rule_set":
        RuleSet.model_validate_json(raw)
    elif kind == "list_change":
        ListChange.model_validate_json(raw)
    elif kind == "label":
        Label.model_validate_json(raw)
    else:
        pytest.fail(f"nothing reads a {kind}")


def _sayable(raw: bytes | None, reason: str, field: str | None) -> bool:
    """Return whether JSON schema can express why the code refuses this.

    It cannot where only the bytes tell (repeated keys, no JSON), where an empty text is a missing
    value to us, for times and bounds inside texts, and for text that is not Unicode.
    """
    if reason in {"repeated_key", "null_value", "empty_value", "not_json", "missing_field"}:
        return False
    value = loads(raw or b"")
    text = value.get(field) if isinstance(value, dict) else None
    return not (
        isinstance(text, str)
        and (
            field == "event_time"
            or (field, reason) == ("transaction_amt", "out_of_range")
            or has_unpaired_surrogate(text)
        )
    )


@pytest.mark.parametrize(
    "raw", [raw for raw, reason, field in REFUSED if _sayable(raw, reason, field)]
)
def test_what_the_code_refuses_the_schema_refuses(raw: bytes) -> None:
    """A client that validates by the schema gets no dead letter that the schema could foresee."""
    assert not Draft202012Validator(transaction_schema()).is_valid(loads(raw))


def test_the_schema_takes_what_the_code_takes() -> None:
    """Lenient where the contract is: text for numbers, integers for text, null, unknown fields."""
    raw = a_value(transaction_amt="9.99", card_bin=411111, billing_latitude="", extra={"a": [1]})
    decode(raw)
    Draft202012Validator(transaction_schema()).validate(orjson.loads(raw))


def test_every_topic_has_a_schema_or_says_that_it_holds_raw_bytes() -> None:
    """And an owner, a reader and a meaning."""
    for spec in TOPICS:
        assert spec.schema is None or spec.schema in schemas()
        assert spec.owners
        assert spec.readers
        assert spec.meaning.endswith(".")
