"""Requests made of `/openapi.json`, good and hostile: no answer is outside of what it says, none is 5xx.

`OPENAPI_CASES=10000` asks for as many in all; docs/api.md has the command.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fraud.security.api_keys import Role
from tests.support.an_api import AnApi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 15
"""Of each operation and mode, unless there are to be as many in all as OPENAPI_CASES says."""


def takes_something(operation: Any) -> bool:
    """Return whether there is more than one request of an operation."""
    parts = (operation.body, operation.query, operation.path_parameters, operation.headers)
    return any(map(len, parts))


def examples(operations: Sequence[Any]) -> int:
    """Return how many there are to be of each operation, where there is more than one, and mode."""
    wanted = os.environ.get("OPENAPI_CASES")
    if wanted is None:
        return EXAMPLES
    return math.ceil(int(wanted) / (sum(map(takes_something, operations)) * len(GenerationMode)))


def test_every_body_has_an_example(tmp_path: Path) -> None:
    described = AnApi(tmp_path)("GET", "/openapi.json").json()
    bodies = [
        one["requestBody"]["content"]["application/json"]
        for path in described["paths"].values()
        for one in path.values()
        if "requestBody" in one
    ]
    schemas = described["components"]["schemas"]

    def shown(body: dict[str, Any]) -> bool:
        schema = body["schema"]
        named = schemas.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
        parts = [
            schemas.get(one.get("$ref", "").rsplit("/", 1)[-1], one)
            for one in named.get("oneOf", named.get("anyOf", ()))
        ]
        return any(one.get("examples") for one in (body, schema, named, *parts))

    assert len(bodies) > 8
    assert [body["schema"] for body in bodies if not shown(body)] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_answer_is_outside_of_the_description(tmp_path: Path, mode: GenerationMode) -> None:
    """Of each operation some requests that obey the description, and some that do not."""
    api = AnApi(tmp_path)
    api.with_models()
    schema = schemathesis.openapi.from_asgi("/openapi.json", api.app)
    bearer = {"Authorization": f"Bearer {api.secrets[Role.ADMIN]}"}
    operations = [found.ok() for found in schema.get_all_operations()]
    asked = 0

    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not takes_something(operation):
            continue

        @seed(1)
        @settings(
            max_examples=examples(operations),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            response = case.call(headers=bearer)
            case.validate_response(response, checks=CHECKS)

        ask()
    assert asked >= len(operations)
    print(f"{asked} requests, {mode.value}")  # noqa: T201 - shown by pytest -rP
