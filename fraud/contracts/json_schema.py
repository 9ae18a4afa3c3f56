"""JSON schemas, generated from the types; `python -m fraud.contracts.json_schema` rewrites the files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import orjson

from fraud.contracts.control import control_schema
from fraud.contracts.decision import Decision
from fraud.contracts.label import Label
from fraud.contracts.lists import ListChange
from fraud.contracts.rules import RuleSet
from fraud.contracts.transaction import DECISION_FIELD, FIELDS, MAX_ID_LENGTH, Field, Kind

SCHEMA_FOLDER: Final = Path(__file__).parent / "schemas"
EXAMPLE_FOLDER: Final = Path(__file__).parent / "examples"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NUMERIC_TEXT: Final = r"^\s*([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)?\s*$"


def _field_schema(field: Field) -> dict[str, Any]:
    optional = [] if field.required else ["null"]
    match field.kind:
        case Kind.ID:
            schema: dict[str, Any] = {
                "type": ["string", *optional],
                "minLength": 1,
                "maxLength": MAX_ID_LENGTH,
            }
        case Kind.TEXT:
            schema = {"type": ["string", "integer", *optional]}
        case Kind.NUMBER:
            schema = {"type": ["number", "string", *optional], "pattern": _NUMERIC_TEXT}
            if not math.isinf(field.low):
                schema["minimum"] = field.low
            if not math.isinf(field.high):
                schema["maximum"] = field.high
        case Kind.TIME:
            schema = {"type": ["string", *optional], "minLength": 11}
        case Kind.CURRENCY:
            schema = {"type": ["string", *optional], "pattern": "^[A-Za-z]{3}$"}
    return schema | {"description": field.meaning, "examples": [field.example]}


def transaction_schema() -> dict[str, Any]:
    """Return the JSON schema of a record of `transactions` and of the body of `POST /v1/score`.

    JSON schema cannot express that numeric text is bounded, too, and that keys must not repeat.
    """
    return {
        "$schema": _DIALECT,
        "title": "Transaction",
        "type": "object",
        "required": [field.name for field in FIELDS if field.required],
        "properties": {field.name: _field_schema(field) for field in FIELDS}
        | {DECISION_FIELD: False},
        "additionalProperties": True,
    }


def decision_schema() -> dict[str, Any]:
    """Return the JSON schema of the decision, field `fd`."""
    return {"$schema": _DIALECT, **Decision.model_json_schema()}


def processed_schema() -> dict[str, Any]:
    """Return the JSON schema of a record of `processed_transactions`."""
    decision = Decision.model_json_schema(ref_template="#/$defs/{model}")
    definitions = decision.pop("$defs")
    schema = transaction_schema()
    schema["title"] = "ProcessedTransaction"
    schema["required"] = [*schema["required"], DECISION_FIELD]
    schema["properties"][DECISION_FIELD] = {"$ref": "#/$defs/Decision"}
    schema["$defs"] = {**definitions, "Decision": decision}
    return schema


def schemas() -> dict[str, dict[str, Any]]:
    """Return all schemas by file name."""
    return {
        "transaction.json": transaction_schema(),
        "decision.json": decision_schema(),
        "processed_transaction.json": processed_schema(),
        "control_document.json": {"$schema": _DIALECT, **control_schema()},
        "rule_set.json": {"$schema": _DIALECT, **RuleSet.model_json_schema()},
        "list_change.json": {"$schema": _DIALECT, **ListChange.model_json_schema()},
        "label.json": {"$schema": _DIALECT, **Label.model_json_schema()},
    }


def schema_bytes(schema: dict[str, Any]) -> bytes:
    """Serialise a schema in the format of the committed files."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_schemas() -> None:
    """Rewrite the committed schemas."""
    SCHEMA_FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (SCHEMA_FOLDER / name).write_bytes(schema_bytes(schema))


if __name__ == "__main__":
    write_schemas()
