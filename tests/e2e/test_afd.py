"""Amazon Fraud Detector's own client on the whole stack.

- A customer pays six times in quick succession, each asked for by boto3.
- The stream decides each of them as boto3 was told, to the point: it counts those before.
- Each is found again, with what it turned out to be, and nobody is alerted twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fraud.security.aws_credentials import AwsCredentials
from tests.support.people import Record, a_customer, a_payment
from tests.support.stack import Stack, wait_for

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]


@pytest.fixture
def client(stack: Stack) -> Any:
    ours = AwsCredentials(stack.state).all()[0]
    return boto3.client(
        "frauddetector",
        region_name="us-east-1",
        endpoint_url=stack.api,
        aws_access_key_id=ours.access_key_id,
        aws_secret_access_key=ours.secret,
    )


def event(record: Record) -> dict[str, Any]:
    own = ("event_id", "entity_id", "event_time")
    return {
        "detectorId": "payments",
        "eventTypeName": "purchase",
        "eventId": record["event_id"],
        "eventTimestamp": record["event_time"][:19] + "Z",
        "entities": [{"entityType": "customer", "entityId": record["entity_id"]}],
        "eventVariables": {name: str(value) for name, value in record.items() if name not in own},
    }


def test_what_it_is_told_is_what_the_stream_decides(stack: Stack, client: Any) -> None:
    """See the story above."""
    customer, now = a_customer(), datetime.now(UTC)
    records = [a_payment(customer, now - timedelta(minutes=9 - n), 9.5 + n * 300) for n in range(6)]
    since = stack.end_of("processed_transactions")
    told = [client.get_event_prediction(**event(record)) for record in records]
    decided = stack.decided(since, [record["event_id"] for record in records])
    for n, (record, answer) in enumerate(zip(records, told, strict=True)):
        (output,) = decided[record["event_id"]]
        decision = output["fd"]
        assert decision["history"]["entity"] == n
        (scores,) = answer["modelScores"]
        assert list(scores["scores"].values()) == [decision["score"]]
        assert decision["outcome"] in [
            one for result in answer["ruleResults"] for one in result["outcomes"]
        ]
        fired = [rule["id"] for rule in decision["rules"]] or ["no_rule_matched"]
        assert [result["ruleId"] for result in answer["ruleResults"]] == fired

    last = records[-1]
    client.update_event_label(
        eventId=last["event_id"],
        eventTypeName="purchase",
        assignedLabel="fraud",
        labelTimestamp="2026-04-01T00:00:00Z",
    )

    def found() -> dict[str, Any] | None:
        try:
            known = client.get_event(eventId=last["event_id"], eventTypeName="purchase")["event"]
        except client.exceptions.ResourceNotFoundException:
            return None
        return known if known.get("currentLabel") == "fraud" else None

    known = wait_for("the event and its label", found)
    assert known["eventVariables"] == event(last)["eventVariables"]
    assert known["entities"] == event(last)["entities"]
    (listed,) = client.list_event_predictions(eventId={"value": last["event_id"]})["eventPredictionSummaries"]  # fmt: skip
    explained = client.get_event_prediction_metadata(
        eventId=last["event_id"],
        eventTypeName="purchase",
        detectorId=listed["detectorId"],
        detectorVersionId=listed["detectorVersionId"],
        predictionTimestamp=listed["predictionTimestamp"],
    )
    (evaluation,) = explained["evaluatedModelVersions"][0]["evaluations"]
    assert evaluation["evaluationScore"] == str(decided[last["event_id"]][0]["fd"]["score"])

    # Asked again, as a client does that was not answered in time.
    since = stack.end_of("processed_transactions")
    client.get_event_prediction(**event(last))
    (again,) = stack.decided(since, [last["event_id"]])[last["event_id"]]
    assert again["fd"]["duplicate"] is True
    blocked = [
        event_id for event_id, (one,) in decided.items() if one["fd"]["outcome"] == "block"
    ]  # fmt: skip
    wait_for("the alerts", lambda: len(stack.alerted(blocked)) >= len(blocked))
    assert stack.alerted([record["event_id"] for record in records]) == sorted(blocked)


def test_unsigned_calls_are_refused(stack: Stack) -> None:
    stranger = boto3.client(
        "frauddetector",
        region_name="us-east-1",
        endpoint_url=stack.api,
        aws_access_key_id="FSKA" + "A" * 16,
        aws_secret_access_key="a" * 40,
    )
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        stranger.get_event(eventId="any", eventTypeName="purchase")
