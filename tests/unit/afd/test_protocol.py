"""The service's model, and requests checked by it."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from afd.errors import SerializationException, ValidationException
from afd.protocol import check_answer, check_request, operations

EVENT: dict[str, Any] = {
    "detectorId": "d",
    "eventId": "e-1",
    "eventTypeName": "t",
    "entities": [{"entityType": "customer", "entityId": "c-1"}],
    "eventTimestamp": "2026-03-01T00:00:00Z",
    "eventVariables": {"amount": "1.00"},
}


def test_its_operations_are_boto3s() -> None:
    client = boto3.client(
        "frauddetector", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    assert operations() == set(client.meta.service_model.operation_names)


def test_a_good_request_passes_without_what_is_null_or_not_known() -> None:
    request = check_request("GetEventPrediction", EVENT | {"detectorVersionId": None, "new": 1})
    assert request == EVENT


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eventId": None}, "1 validation error detected: Value null at 'eventId'"),
        ({"detectorVersionId": "one"}, r"'detectorVersionId' .* pattern: \^\(\[1-9\]"),
        ({"eventVariables": {}}, "'eventVariables' .* length greater than or equal to 1"),
        ({"eventVariables": {"a": "x" * 9000}}, r"'eventVariables.value' .* less than or equal to 8192"),
        ({"entities": [{"entityType": "t", "entityId": "a b"}]}, r"entities.1.member.entityId"),
        ({"entities": [{}]}, "2 validation errors detected"),
        ({"eventTimestamp": "2026"}, "length greater than or equal to 10"),
    ],
)  # fmt: skip
def test_what_is_not_as_declared_is_named(changes: dict[str, Any], expected: str) -> None:
    """And its value is not."""
    with pytest.raises(ValidationException, match=expected) as error:
        check_request("GetEventPrediction", EVENT | changes)
    assert "xxx" not in error.value.message


def test_enums_and_ranges() -> None:
    with pytest.raises(ValidationException, match=r"enum value set: \[DRAFT, ACTIVE, INACTIVE\]"):
        check_request(
            "UpdateDetectorVersionStatus",
            {"detectorId": "d", "detectorVersionId": "1", "status": "ON"},
        )
    with pytest.raises(ValidationException, match="greater than or equal to 50"):
        check_request("GetRules", {"detectorId": "d", "maxResults": 5})


@pytest.mark.parametrize(
    "wrong", [[], "x", {"eventId": 1}, {"eventVariables": {"a": 1.5}}, {"entities": [1]}]
)
def test_another_type_is_a_serialization_error(wrong: Any) -> None:
    request = EVENT | wrong if isinstance(wrong, dict) else wrong
    with pytest.raises(SerializationException):
        check_request("GetEventPrediction", request)


def test_answers_are_checked_likewise() -> None:
    assert check_answer("SendEvent", {}) == {}
    with pytest.raises(SerializationException, match="scores"):
        check_answer("GetEventPrediction", {"modelScores": [{"scores": {"a": "high"}}]})
