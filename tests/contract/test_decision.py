"""Every declared field of the decision is in all that follows from the declaration, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
import orjson
import pytest
from pydantic import BaseModel

from fraud.backtest.past_decisions import PastDecision, struct_of
from fraud.contracts.decision import Decision, fields_of
from fraud.contracts.json_schema import decision_schema
from fraud.contracts.lists import ListUse
from fraud.contracts.transaction import with_decision
from fraud.decision.rule_sets import shipped
from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import to_document
from indexer.template import mapping
from tests.support.builders import a_record, a_value
from tests.support.deciding import a_batch, a_list, an_engine, rules
from tools.reference import decision_page


def declared(declaration: type[BaseModel] = Decision, above: str = "") -> Iterator[str]:
    """Return the paths of the declared fields, such as `reasons` and `reasons.code`."""
    for field in fields_of(declaration):
        yield above + field.name
        if field.parts:
            yield from declared(field.parts, f"{above}{field.name}.")


def in_json(value: Any, declaration: type[BaseModel] = Decision, above: str = "") -> Iterator[str]:
    """Return the paths of all keys, as far as the declaration names any."""
    parts = {field.name: field.parts for field in fields_of(declaration)}
    for item in value if isinstance(value, list) else [value or {}]:
        for name, entry in item.items():
            yield above + name
            if inner := parts.get(name):
                yield from in_json(entry, inner, f"{above}{name}.")


def in_mapping(properties: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Return the paths of the fields that are mapped, without single features."""
    for name, mapped in properties.items():
        yield above + name
        if mapped.get("type") != "object":
            yield from in_mapping(mapped.get("properties", {}), f"{above}{name}.")


def in_schema(schema: Mapping[str, Any], definitions: Any, above: str = "") -> Iterator[str]:
    """Return the paths of the properties."""
    for name, described in schema["properties"].items():
        yield above + name
        text = orjson.dumps(described).decode()
        for definition, inner in definitions.items():
            if f'"#/$defs/{definition}"' in text and "properties" in inner:
                yield from in_schema(inner, definitions, f"{above}{name}.")


def in_struct(struct: Any, above: str = "") -> Iterator[str]:
    """Return the paths of what readers of past decisions can ask for."""
    for field in msgspec.structs.fields(struct):
        yield above + field.name
        for inner in (field.type, *get_args(field.type)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from in_struct(inner, f"{above}{field.name}.")


@pytest.fixture(scope="module")
def fd() -> Any:
    """Make a decision of rules, a list and a challenger."""
    engine = an_engine(
        rules(("$amount_base > 1", "review", "More than 1.")),
        a_list("watched", ListUse.WATCH, {"value": "203.0.113.9"}),
        challenge=shipped(),
    )
    record = a_record(transaction_amt=990, ip_address="203.0.113.9")
    (decision,) = engine.decide(a_batch(record))
    return orjson.loads(decision.json)


def test_a_decision_has_the_declared_fields(fd: Any) -> None:
    """Also in its parts, and in the order in which they are declared, but for shared ones."""
    assert set(in_json(fd)) == set(declared())
    Decision.model_validate(fd)


def test_the_decision_of_failed_scoring_has_the_declared_fields() -> None:
    """What is not known is null or empty."""
    (decision,) = an_engine().decide(a_batch(a_record(transaction_amt=666)))
    failed = orjson.loads(decision.json)
    assert decision.error
    assert list(failed) == list(orjson.loads(an_engine().decide(a_batch(a_record()))[0].json))
    Decision.model_validate(failed)


def test_the_index_maps_the_declared_fields() -> None:
    """A field that is not mapped is not found."""
    assert set(in_mapping(mapping()["properties"]["fd"]["properties"])) == set(declared())


def test_a_document_has_the_declared_fields(fd: Any) -> None:
    """As they are mapped."""
    processed = with_decision(a_value(), orjson.dumps(fd))
    document = to_document(processed, Pseudonyms(b"k" * 32))
    assert set(in_json(document.body["fd"])) == set(declared())


def test_readers_of_past_decisions_can_ask_for_the_declared_fields() -> None:
    """The structs are made of the declaration."""
    assert set(in_struct(struct_of(PastDecision))) == set(declared())


def test_what_is_read_of_a_past_decision_is_what_was_written(fd: Any) -> None:
    """All of it, whichever fields are asked for."""
    read = msgspec.convert(fd, struct_of(PastDecision))
    assert msgspec.to_builtins(read) == fd


def test_the_schema_has_the_declared_fields() -> None:
    """It is generated from the same class."""
    schema = decision_schema()
    assert set(in_schema(schema, schema["$defs"])) == set(declared())


def test_the_page_has_the_declared_fields() -> None:
    """Each part under its name, once."""
    sections = decision_page().split("\n## ")
    listed = [re.findall(r"^\| `(\w+)` ", section, re.MULTILINE) for section in sections]
    parts = {field.parts for field in fields_of(Decision) if field.parts}
    assert listed[0] == [field.name for field in fields_of(Decision)]
    assert {
        section.partition("\n")[0]: names
        for section, names in zip(sections[1:], listed[1:], strict=True)
    } == {
        declaration.__name__: [field.name for field in fields_of(declaration)]
        for declaration in parts
    }


def test_every_declared_field_has_a_meaning_and_a_mapping() -> None:
    """Of its own, or those of its parts."""
    declarations = [Decision, *(field.parts for field in fields_of(Decision) if field.parts)]
    for declaration in declarations:
        for field in fields_of(declaration):
            assert field.meaning.endswith("."), field
            assert (field.indexed is None) == (field.parts is not None), field
