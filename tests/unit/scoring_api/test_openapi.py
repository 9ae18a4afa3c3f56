"""Requests made of `/openapi.json`, good and hostile: no answer is outside of what it says, none is 5xx.

docs/api.md has the command that asks a running API 10,000 of them.
"""

from __future__ import annotations

from pathlib import Path

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

from fraud.kit.api_keys import Role
from tests.unit.scoring_api.an_api import AnApi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 15


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
        takes = (operation.body, operation.query, operation.path_parameters, operation.headers)
        if mode is GenerationMode.NEGATIVE and not any(map(len, takes)):
            continue

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
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
