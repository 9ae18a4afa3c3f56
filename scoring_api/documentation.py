"""Content of `/docs` and `/openapi.json`, taken from the committed contracts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

from fraud.contracts.decision import Decision
from fraud.contracts.json_schema import EXAMPLE_FOLDER, transaction_schema
from scoring_api.scoring import MAX_BODY_BYTES, MAX_RECORDS

DESCRIPTION: Final = """\
Scores transactions ad hoc, with the same code and the same recent history as the stream. A transaction scored here and then sent to the topic `transactions` next gets the same probability, to the last bit.
"""
PROBLEM_TYPE: Final = "application/problem+json"
ONE: Final = "(one)"
MANY: Final = "(list)"
"""Tags of a body that is one object or a list; pydantic adds them to the location of an error."""

_REFERENCE: Final = "#/components/schemas/{model}"
ASSETS_PATH: Final = "/docs/assets"


def assets() -> StaticFiles:
    """Return an app that serves Swagger UI from its package: pages load nothing from elsewhere."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))


documents = APIRouter(include_in_schema=False)


@documents.get("/docs")
async def docs() -> HTMLResponse:
    """Return the page of Swagger UI."""
    # Relative URLs work behind a proxy's path, too.
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Fraudstream",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},
    )


def reference(name: str) -> dict[str, str]:
    """Return a reference to one of `components`."""
    return {"$ref": _REFERENCE.format(model=name)}


def _examples() -> dict[str, Any]:
    examples = {
        path.stem: {"value": orjson.loads(path.read_bytes())}
        for path in sorted((EXAMPLE_FOLDER / "transaction").glob("*.json"))
    }
    return examples | {"list": {"value": [example["value"] for example in examples.values()]}}


def components() -> dict[str, Any]:
    """Return the schemas that the operations refer to."""
    decision = Decision.model_json_schema(ref_template=_REFERENCE)
    parts = decision.pop("$defs")
    transaction = transaction_schema()
    transaction.pop("$schema")
    text = {"type": "string"}
    fault = {
        "type": "object",
        "required": ["field", "code", "detail"],
        "properties": {
            "index": {"type": "integer", "description": "Place in the list; of a list only."},
            "field": {"type": ["string", "null"], "description": "Null: the record as a whole."},
            "code": text | {"description": "Stable code, as in dead letters."},
            "detail": text | {"description": "What was expected."},
            "line": {"type": "integer", "description": "In a rule's expression, from 1."},
            "column": {"type": "integer", "description": "In that line, from 1."},
        },
    }
    return {
        **parts,
        "Transaction": transaction,
        "Decision": decision,
        "Scored": {
            "type": "object",
            "required": ["event_id", "fd"],
            "properties": {"event_id": text, "fd": reference("Decision")},
        },
        "IndexedDecision": {
            "type": "object",
            "description": "A document as docs/indexer.md lists it: personal values are keyed hashes.",
            "required": ["id", "event_id", "fd"],
            "properties": {
                "id": text | {"description": "Coordinates of the input record."},
                "event_id": text,
                "entity_id": text,
                "fd": {
                    "type": "object",
                    "description": "The decision; on pages without `features`.",
                },
                "label": {"type": "object", "description": "What it turned out to be, once known."},
            },
        },
        "DecisionsOnEvent": {
            "allOf": [
                reference("IndexedDecision"),
                {
                    "type": "object",
                    "required": ["items"],
                    "properties": {
                        "items": {"type": "array", "items": reference("IndexedDecision")}
                    },
                },
            ]
        },
        "DecisionPage": {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": reference("IndexedDecision")},
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "Gives the next page; null if this is the last.",
                },
            },
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "code", "detail"],
            "properties": {
                "type": text,
                "title": text,
                "status": {"type": "integer"},
                "code": text,
                "detail": text,
                "errors": {"type": "array", "items": fault},
            },
        },
    }


_PROBLEMS: Final = {
    400: "The body is not JSON in UTF-8.",
    401: "No API key, or none that is in use.",
    403: "The role of the key does not cover this; `detail` names the one that does.",
    404: "There is no such thing.",
    409: "It contradicts what is there; `code` and `detail` say how.",
    413: f"The body is over {MAX_BODY_BYTES >> 20} MiB.",
    422: "A field is at fault; `errors` names each.",
    429: "The key asks too often; the header Retry-After says for how long to wait.",
    503: "What is needed for it does not answer, or is not ready yet; try again.",
}
_ALWAYS: Final = (400, 401, 403, 413, 422, 429)


def problems(*status: int) -> dict[int | str, dict[str, Any]]:
    """Return descriptions of error answers; without arguments, of those that all routes have."""
    return {code: _problem_answer(_PROBLEMS[code]) for code in status or _ALWAYS}


def answers(description: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer 200 whose model FastAPI does not know."""
    return {200: {"description": description, "content": {"application/json": {"schema": schema}}}}


def _problem_answer(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {PROBLEM_TYPE: {"schema": reference("Problem")}},
    }


def score_operation() -> dict[str, Any]:
    """Return the description of `POST /v1/score`, its body and its answers."""
    lists = {"type": "array", "maxItems": MAX_RECORDS}
    return {
        "requestBody": {
            "required": True,
            "description": f"One record of the topic `transactions`, or a list of at most {MAX_RECORDS}.",
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            reference("Transaction"),
                            {**lists, "items": reference("Transaction")},
                        ]
                    },
                    "examples": _examples(),
                }
            },
        },
        "responses": {
            "200": {
                "description": "The decision on the record, or a list of them in the same order.",
                "content": {
                    "application/json": {
                        "schema": {
                            "oneOf": [
                                reference("Scored"),
                                {**lists, "items": reference("Scored")},
                            ]
                        }
                    }
                },
            },
            "400": _problem_answer(_PROBLEMS[400]),
            "401": _problem_answer(_PROBLEMS[401]),
            "403": _problem_answer(_PROBLEMS[403]),
            "413": _problem_answer(
                f"A record is over 1 MiB, or the body over {MAX_BODY_BYTES >> 20} MiB."
            ),
            "422": _problem_answer(
                "A record is invalid: `errors` names the index and the field of each. None was scored."
            ),
            "429": _problem_answer(_PROBLEMS[429]),
            "503": _problem_answer("The history is not that of the stream yet; try again."),
        },
    }
