"""Amazon Fraud Detector's client, unmodified, against the API on a real broker.

The story of the first test:
- boto3 finds our address and an access key that we issued, as it finds AWS's;
- it asks for a prediction of an event, and the event is on the topic `transactions`;
- it asks again at once for another of the same customer: the first one counts already;
- it says what the event turned out to be, and the label is on the topic `labels`.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import httpx
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from afd.protocol import check_answer
from devstack.ports import free_ports
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import decode
from fraud.decision.rule_files import read_rule_file
from fraud.decision.rule_sets import default_rules
from fraud.runtime.clock import system_clock, to_datetime
from fraud.runtime.opensearch import connect
from fraud.runtime.settings import OpenSearchSettings
from fraud.security.api_keys import Role
from fraud.security.aws_credentials import FILE_NAME, AwsCredentials
from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import to_document
from indexer.sink import Sink
from tests.support.builders import START_MS, a_decision, a_registry
from tests.support.exports import write_export
from tests.support.processes import until

pytestmark = pytest.mark.service

_NUMBERS = itertools.count(1)
RATE = 10
"""Calls a second that each access key may make."""


class Afd:
    """The API as a process, and boto3's clients of it."""

    def __init__(self, kafka: str, search: str, folder: Path) -> None:
        self.kafka = kafka
        self.search = search
        self.folder = folder
        mark = uuid.uuid4().hex[:8]
        self.topics = {topic: f"{topic.value}-{mark}" for topic in Topic}
        admin = AdminClient({"bootstrap.servers": kafka})
        made = admin.create_topics([NewTopic(name, 1, 1) for name in self.topics.values()])
        for done in made.values():
            done.result(30)
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "api.log"
        self.env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "OPENSEARCH_URL": search,
            "MODEL_REGISTRY": str(a_registry(folder / "models")),
            "STATE_DIR": str(folder),
            "LOG_FORMAT": "json",
            "API_PORT": str(self.port),
            "API_RATE_LIMIT": str(RATE),
            **{f"TOPIC_{topic.value.replace('.', '_').upper()}": name for topic, name in self.topics.items()},
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scoring_api"],
                env=os.environ | self.env,
                stdout=log,
                stderr=log,
            )

    def is_ready(self) -> bool:
        """Return whether it may be asked."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def client(self, profile: str = "default", *, attempts: int = 10, **config: Any) -> Any:
        """Make a client as there was one for AWS: `_aws` has the address and the keys."""
        session = boto3.Session(profile_name=profile, region_name="us-east-1")
        retries = {"total_max_attempts": attempts, "mode": "standard"}
        return session.client("frauddetector", config=Config(retries=retries, **config))

    def records(self, topic: Topic) -> list[tuple[str, dict[str, Any]]]:
        """Return all records of a topic: key and value."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "test"})
        partition = TopicPartition(self.topics[topic], 0, 0)
        start, end = consumer.get_watermark_offsets(partition, timeout=30)
        consumer.assign([TopicPartition(self.topics[topic], 0, start)])
        found = consumer.consume(end - start, timeout=30) if end > start else []
        consumer.close()
        assert len(found) == end - start
        return [(one.key().decode(), orjson.loads(one.value())) for one in found]


@pytest.fixture(scope="module")
def afd(kafka: str, opensearch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Afd]:
    started = Afd(kafka, opensearch, tmp_path_factory.mktemp("afd"))
    try:
        until(started.is_ready, "readiness")
        yield started
    finally:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(30) == 0, started.log.read_text()


@pytest.fixture(autouse=True)
def _aws(afd: Afd, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the migration page puts into a client's environment; nothing leads to AWS itself."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(afd.folder / FILE_NAME))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(afd.folder / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_FRAUDDETECTOR", afd.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def event(**changes: Any) -> dict[str, Any]:
    """Make the arguments of `get_event_prediction`."""
    return {
        "detectorId": "payments",
        "eventId": f"evt-{next(_NUMBERS)}",
        "eventTypeName": "purchase",
        "eventTimestamp": "2026-03-01T09:30:00Z",
        "entities": [{"entityType": "customer", "entityId": f"c-{next(_NUMBERS)}"}],
        "eventVariables": {
            "transaction_amt": "24.90",
            "transaction_currency": "USD",
            "email_address": "ada@example.com",
            "basket_size": "3",
        },
    } | changes


def answer(response: dict[str, Any], operation: str) -> dict[str, Any]:
    """Check an answer by the service's own model; gives it without boto3's part."""
    metadata = response.pop("ResponseMetadata")
    assert metadata["HTTPStatusCode"] == 200
    assert metadata["RequestId"]
    assert check_answer(operation, response) == response
    return response


def test_predictions_events_and_labels(afd: Afd) -> None:
    """See the story above."""
    client = afd.client()
    first = event()
    prediction = answer(client.get_event_prediction(**first), "GetEventPrediction")
    (scores,) = prediction["modelScores"]
    assert scores["modelVersion"] == {
        "modelId": "test",
        "modelType": "TRANSACTION_FRAUD_INSIGHTS",
        "modelVersionNumber": "1.0",
    }
    assert scores["scores"].keys() == {"test_insightscore"}
    assert 0 <= scores["scores"]["test_insightscore"] <= 1000
    assert prediction["ruleResults"][0]["outcomes"]
    assert prediction["externalModelOutputs"] == []
    key, record = afd.records(Topic.TRANSACTIONS)[-1]
    assert key == first["entities"][0]["entityId"]
    assert record == {
        "event_id": first["eventId"],
        "entity_id": key,
        "event_time": "2026-03-01T09:30:00Z",
        **first["eventVariables"],
    }
    decode(orjson.dumps(record))
    sent = event(assignedLabel="legit", labelTimestamp="2026-04-01T00:00:00Z")
    del sent["detectorId"]
    answer(client.send_event(**sent), "SendEvent")
    answer(
        client.update_event_label(
            eventId=first["eventId"],
            eventTypeName="purchase",
            assignedLabel="fraud",
            labelTimestamp="2026-04-02T00:00:00Z",
        ),
        "UpdateEventLabel",
    )
    assert afd.records(Topic.TRANSACTIONS)[-1][1]["event_id"] == sent["eventId"]
    legitimate, fraud = afd.records(Topic.LABELS)
    assert legitimate[0] == sent["eventId"]
    assert legitimate[1]["label"] == "legitimate"
    assert fraud[1] == {
        "event_id": first["eventId"],
        "label": "fraud",
        "label_time": "2026-04-02T00:00:00.000Z",
        "source": "default",
    }


def score(afd: Afd, **changes: Any) -> dict[str, Any]:
    """Ask our own route how an event would be decided; gives the decision."""
    key = (afd.folder / "api-key").read_text().strip()
    record = {
        "event_id": f"asked-{next(_NUMBERS)}",
        "event_time": "2026-03-01T10:00:00Z",
        "transaction_amt": 1,
        "transaction_currency": "USD",
    }
    asked = httpx.post(
        f"{afd.url}/v1/score", json=record | changes, headers={"Authorization": f"Bearer {key}"}
    )
    return asked.raise_for_status().json()["fd"]  # type: ignore[no-any-return]


def test_an_event_counts_before_the_stream_has_given_it_back(afd: Afd) -> None:
    """Here no stream runs at all. An event sent twice counts once."""
    client = afd.client()
    entities = [{"entityType": "customer", "entityId": "quick"}]
    events = [event(entities=entities) for _ in range(3)]
    for one in [*events, events[0]]:
        client.get_event_prediction(**one)
    decision = score(afd, entity_id="quick")
    assert decision["history"]["entity"] == 3
    again = {"entity_id": "quick", "event_id": events[1]["eventId"]}
    assert score(afd, **again, transaction_amt=24.9)["duplicate"] is True
    other = score(afd, **again)
    assert other["duplicate"] is False
    assert "EVENT_ID_REUSED" in other["marks"]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_errors_are_the_clients_own_classes(afd: Afd) -> None:
    client = afd.client()
    with pytest.raises(
        client.exceptions.ValidationException, match="transaction_amt: expected a value"
    ):
        client.get_event_prediction(**event(eventVariables={"transaction_currency": "USD"}))
    with pytest.raises(client.exceptions.ValidationException, match=r"eventTypeName.*pattern"):
        client.send_event(
            **{k: v for k, v in event(eventTypeName="Bad Name").items() if k != "detectorId"}
        )
    with pytest.raises(
        client.exceptions.ValidationException, match="CreateModel has nothing of ours"
    ):
        client.create_model(modelId="m", modelType="ONLINE_FRAUD_INSIGHTS", eventTypeName="t")
    with pytest.raises(client.exceptions.ValidationException, match="one of"):
        client.update_event_label(
            eventId="e",
            eventTypeName="t",
            assignedLabel="odd",
            labelTimestamp="2026-04-01T00:00:00Z",
        )


def test_calls_that_are_not_their_owners_are_refused(
    afd: Afd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret, an unknown id, a clock that is off, a body changed on the way, no signature."""
    ours = AwsCredentials(afd.folder).all()[0]

    def refused(key_id: str, secret: str, hook: Any = None) -> str:
        client = boto3.client(
            "frauddetector",
            region_name="eu-west-1",
            endpoint_url=afd.url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )
        if hook is not None:
            client.meta.events.register("before-send.frauddetector", hook)
        with pytest.raises(ClientError) as error:
            client.get_event_prediction(**event())
        return code_of(error)

    assert refused(ours.access_key_id, "x" * 40) == "InvalidSignatureException"
    assert refused("FSKA" + "A" * 16, ours.secret) == "UnrecognizedClientException"

    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace(b"24.90", b"99.90")

    def strip(request: Any, **_: Any) -> None:
        del request.headers["Authorization"]

    assert refused(ours.access_key_id, ours.secret, tamper) == "InvalidSignatureException"
    assert refused(ours.access_key_id, ours.secret, strip) == "MissingAuthenticationTokenException"
    for minutes in (-6, 6):
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        with monkeypatch.context() as off:
            off.setattr(botocore.auth, "get_current_datetime", lambda moment=moment: moment)
            assert refused(ours.access_key_id, ours.secret) == "InvalidSignatureException"
    assert httpx.post(f"{afd.url}/", content=b"{}").status_code == 400


def test_an_access_key_has_a_role_a_limit_and_an_end(afd: Afd) -> None:
    """All three at once, without a restart; the client tries again where AWS's would."""
    credentials = AwsCredentials(afd.folder)
    credentials.create("checkout", Role.SCORE)
    client = afd.client("checkout")
    client.get_event_prediction(**event())
    with pytest.raises(client.exceptions.AccessDeniedException, match="needs the role analyst"):
        client.get_event(eventId="e", eventTypeName="t")
    hasty = afd.client("checkout", attempts=1)

    def ask_until_refused() -> None:
        for _ in range(RATE * 10):
            hasty.get_event_prediction(**event())

    with pytest.raises(hasty.exceptions.ThrottlingException, match="Rate exceeded"):
        ask_until_refused()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.get_event_prediction, **event()) for _ in range(RATE * 2)]
    retries = [one.result()["ResponseMetadata"]["RetryAttempts"] for one in asked]
    assert max(retries) > 0
    credentials.revoke("checkout")
    with pytest.raises(ClientError) as error:
        client.get_event_prediction(**event())
    assert code_of(error) == "UnrecognizedClientException"


def test_what_was_decided_is_found_again(afd: Afd) -> None:
    """The event as it was sent while the topic has it, from the index after that; and why it was decided so."""
    client = afd.client()
    sent = [
        event(
            eventVariables={
                "transaction_amt": "9",
                "transaction_currency": "USD",
                "email_address": f"ada{n}@example.com",
                "basket_size": "3",
            }
        )
        for n in range(12)
    ]
    for one in sent:
        client.get_event_prediction(**one)
    rule = default_rules().rules[0]
    documents = []
    for offset, (_, record) in enumerate(afd.records(Topic.TRANSACTIONS)):
        place = {
            "topic": afd.topics[Topic.TRANSACTIONS],
            "partition": 0,
            "offset": offset,
            "timestamp_ms": START_MS + offset,
        }
        scored_at = to_datetime(START_MS + offset).isoformat(timespec="milliseconds")
        reasons = [{"code": "AMOUNT", "text": "It is much.", "contribution": 0.8}]
        decision = a_decision(
            source=place,
            scored_at=scored_at,
            reasons=reasons,
            outcome="review",
            rules=[{"id": rule.id, "version": rule.version, "outcome": "review"}],
            versions={"rules": default_rules().version, "lists": {}},
        )
        if record["event_id"] in {one["eventId"] for one in sent}:
            documents.append(
                to_document(orjson.dumps(record | {"fd": decision}), Pseudonyms(b"k" * 32))
            )
    search = connect(OpenSearchSettings(opensearch_url=afd.search), timeout_s=30)
    sink = Sink(search, clock=system_clock, rng=random.Random(1), shards=1, replicas=0)
    sink.prepare()
    sink.write(documents)
    search.indices.refresh(index="processed_transactions")

    first = sent[0]
    found = answer(client.get_event(eventId=first["eventId"], eventTypeName="purchase"), "GetEvent")
    assert found["event"] == {
        "eventId": first["eventId"],
        "eventTypeName": "purchase",
        "eventTimestamp": "2026-03-01T09:30:00.000Z",
        "eventVariables": first["eventVariables"],
        "entities": first["entities"],
    }
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_event(eventId="never-sent", eventTypeName="purchase")

    span = {"startTime": "2026-03-01T00:00:00Z", "endTime": "2026-03-01T23:00:00Z"}
    summaries: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        listed = answer(
            client.list_event_predictions(
                predictionTimeRange=span, detectorId={"value": "fraudstream"}, **token
            ),
            "ListEventPredictions",
        )
        summaries += listed["eventPredictionSummaries"]
        if "nextToken" not in listed:
            break
        token = {"nextToken": listed["nextToken"]}
    ours = [one for one in summaries if one["eventId"] in {one["eventId"] for one in sent}]
    assert [one["eventId"] for one in ours] == [one["eventId"] for one in reversed(sent)]
    with pytest.raises(client.exceptions.ValidationException, match="nextToken"):
        client.list_event_predictions(predictionTimeRange=span, nextToken="none")
    (one,) = client.list_event_predictions(eventId={"value": first["eventId"]})["eventPredictionSummaries"]  # fmt: skip
    explained = client.get_event_prediction_metadata(
        eventId=one["eventId"],
        eventTypeName=one["eventTypeName"],
        detectorId=one["detectorId"],
        detectorVersionId=one["detectorVersionId"],
        predictionTimestamp=one["predictionTimestamp"],
    )
    # The ids of our own rules have capitals, which the protocol's own do not.
    matched = {one["ruleId"]: one["matched"] for one in explained.pop("rules")}
    assert matched == {one.id: one is rule for one in default_rules().rules}
    answer(explained, "GetEventPredictionMetadata")
    assert explained["outcomes"] == ["review"]
    (evaluation,) = explained["evaluatedModelVersions"][0]["evaluations"]
    assert evaluation["evaluationScore"] == "973"
    assert evaluation["predictionExplanations"]["variableImpactExplanations"] == [
        {"eventVariableName": "amount", "relativeImpact": "2 increased", "logOddsImpact": pytest.approx(0.8)}
    ]  # fmt: skip
    # What the topic has no more, the index has: personal values as hashes, no field that is not ours.
    upto = TopicPartition(afd.topics[Topic.TRANSACTIONS], 0, -1)
    admin = AdminClient({"bootstrap.servers": afd.kafka})
    admin.delete_records([upto])[upto].result(30)
    left = client.get_event(eventId=first["eventId"], eventTypeName="purchase")["event"]
    assert left["eventVariables"].keys() == {
        "transaction_amt",
        "transaction_currency",
        "email_address",
    }
    assert left["eventVariables"]["email_address"].startswith("h_")


def test_a_detector_made_by_its_client_decides(afd: Afd) -> None:
    """Lists, variables, outcomes and rules as a script of theirs makes them, and what is not there."""
    client = afd.client()
    client.create_variable(
        name="order_price",
        dataType="FLOAT",
        dataSource="EVENT",
        defaultValue="0.0",
        variableType="PRICE",
    )
    failed = answer(
        client.batch_create_variable(
            variableEntries=[
                {
                    "name": "order_currency",
                    "dataType": "STRING",
                    "dataSource": "EVENT",
                    "defaultValue": "USD",
                    "variableType": "CURRENCY_CODE",
                },
                {
                    "name": "client_ip",
                    "dataType": "STRING",
                    "dataSource": "EVENT",
                    "defaultValue": "unknown",
                    "variableType": "IP_ADDRESS",
                },
                {
                    "name": "order_price",
                    "dataType": "FLOAT",
                    "dataSource": "EVENT",
                    "defaultValue": "0",
                },
            ]
        ),
        "BatchCreateVariable",
    )
    assert [error["name"] for error in failed["errors"]] == ["order_price"]
    client.update_variable(name="client_ip", defaultValue="198.51.100.1")
    variables = answer(client.get_variables(), "GetVariables")["variables"]
    assert [one["name"] for one in variables] == ["client_ip", "order_currency", "order_price"]
    assert variables[0]["defaultValue"] == "198.51.100.1"
    for name in ("verify_customer", "deny_order"):
        client.put_outcome(name=name, description="Ours.")
    with pytest.raises(client.exceptions.ValidationException, match="AFD_OUTCOMES"):
        client.put_outcome(name="vip")
    client.put_label(name="fraud")
    client.put_entity_type(name="customer")
    client.put_event_type(
        name="purchase", eventVariables=["order_price"], entityTypes=["customer"], labels=["fraud"]
    )
    client.create_list(name="bad_ips", variableType="IP_ADDRESS", elements=["203.0.113.0/24"])
    client.update_list(
        name="bad_ips", elements=["198.51.100.9", "198.51.100.10"], updateMode="APPEND"
    )
    client.update_list(name="bad_ips", elements=["198.51.100.10"], updateMode="REMOVE")
    shown = answer(client.get_list_elements(name="bad_ips"), "GetListElements")
    assert shown["elements"] == ["198.51.100.9", "203.0.113.0/24"]
    (metadata,) = answer(client.get_lists_metadata(name="bad_ips"), "GetListsMetadata")["lists"]
    assert metadata["variableType"] == "IP_ADDRESS"
    with pytest.raises(client.exceptions.ValidationException, match=r"add\.0\.value"):
        client.update_list(name="bad_ips", elements=["no address"], updateMode="APPEND")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_list_elements(name="no_such_list")

    client.put_detector(detectorId="payments", eventTypeName="purchase")
    rules = [
        ("listed", "$client_ip in @bad_ips", ["deny_order"]),
        ("dear", "$order_price > 500 and $order_currency == 'USD'", ["verify_customer"]),
        ("rest", "$test_insightscore >= 0", ["approve"]),
    ]
    made = [
        answer(
            client.create_rule(
                ruleId=name,
                detectorId="payments",
                expression=text,
                language="DETECTORPL",
                outcomes=outcomes,
            ),
            "CreateRule",
        )["rule"]
        for name, text, outcomes in rules
    ]
    for text, word in (
        ("$client_ip in @nowhere", "nowhere"),
        ("$basket > 1", "basket"),
        ("$order_price >", "line 1, column"),
    ):
        with pytest.raises(client.exceptions.ValidationException, match=word):
            client.create_rule(
                ruleId="broken",
                detectorId="payments",
                expression=text,
                language="DETECTORPL",
                outcomes=["approve"],
            )
    version = answer(
        client.create_detector_version(
            detectorId="payments", rules=made, ruleExecutionMode="FIRST_MATCHED"
        ),
        "CreateDetectorVersion",
    )
    assert version == {"detectorId": "payments", "detectorVersionId": "1", "status": "DRAFT"}
    sent = event(eventVariables={"order_price": "900"})
    with pytest.raises(client.exceptions.ValidationException, match="DRAFT"):
        client.get_event_prediction(**sent, detectorVersionId="1")
    client.update_detector_version_status(
        detectorId="payments", detectorVersionId="1", status="ACTIVE"
    )

    def results(**variables: str) -> list[dict[str, Any]]:
        asked = event(eventVariables={"order_price": "900"} | variables)
        prediction = answer(
            client.get_event_prediction(**asked, detectorVersionId="1"), "GetEventPrediction"
        )
        return prediction["ruleResults"]

    until(lambda: results() == [{"ruleId": "dear", "outcomes": ["verify_customer"]}], "the switch")
    assert results(client_ip="203.0.113.77") == [{"ruleId": "listed", "outcomes": ["deny_order"]}]
    assert results(order_price="9") == [{"ruleId": "rest", "outcomes": ["approve"]}]
    _, record = afd.records(Topic.TRANSACTIONS)[-1]
    assert record["transaction_amt"] == "9"
    assert record["transaction_currency"] == "USD"
    assert record["ip_address"] == "198.51.100.1"

    renewed = client.update_rule_version(
        rule=made[1],
        expression="$order_price > 1000",
        language="DETECTORPL",
        outcomes=["verify_customer"],
    )["rule"]
    assert renewed["ruleVersion"] == "2"
    details = answer(client.get_rules(detectorId="payments", ruleId="dear"), "GetRules")[
        "ruleDetails"
    ]
    assert [(one["ruleVersion"], one["expression"]) for one in details] == [
        ("1", rules[1][1]),
        ("2", "$order_price > 1000"),
    ]
    with pytest.raises(client.exceptions.ConflictException):
        client.delete_rule(rule=made[1])
    with pytest.raises(client.exceptions.ConflictException):
        client.delete_list(name="bad_ips")
    with pytest.raises(client.exceptions.ConflictException):
        client.delete_outcome(name="deny_order")
    client.create_detector_version(detectorId="payments", rules=[made[0], renewed, made[2]])
    with pytest.raises(client.exceptions.ValidationException, match="activate another"):
        client.update_detector_version_status(
            detectorId="payments", detectorVersionId="1", status="INACTIVE"
        )
    client.update_detector_version_status(
        detectorId="payments", detectorVersionId="2", status="ACTIVE"
    )
    described = answer(client.describe_detector(detectorId="payments"), "DescribeDetector")
    statuses = {
        one["detectorVersionId"]: one["status"] for one in described["detectorVersionSummaries"]
    }
    assert statuses == {"1": "INACTIVE", "2": "ACTIVE"}
    one = answer(
        client.get_detector_version(detectorId="payments", detectorVersionId="2"),
        "GetDetectorVersion",
    )
    assert [rule["ruleVersion"] for rule in one["rules"]] == ["1", "2", "1"]

    detectors = answer(client.get_detectors(), "GetDetectors")["detectors"]
    assert {one["detectorId"] for one in detectors} == {"payments", "fraudstream"}
    shipped = client.get_rules(detectorId="fraudstream")["ruleDetails"]
    assert {one["ruleVersion"] for one in shipped} == {"1"}
    client.update_detector_version_status(
        detectorId="fraudstream", detectorVersionId="1", status="ACTIVE"
    )
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_event_prediction(**event(detectorId="other"))
    (model,) = answer(client.get_models(), "GetModels")["models"]
    assert model["modelId"] == "test"
    (details,) = answer(client.describe_model_versions(modelId="test"), "DescribeModelVersions")[
        "modelVersionDetails"
    ]
    assert (details["modelVersionNumber"], details["status"]) == ("1.0", "ACTIVE")
    answer(
        client.get_model_version(
            modelId="test", modelType=details["modelType"], modelVersionNumber="1.0"
        ),
        "GetModelVersion",
    )
    actions = [
        orjson.loads(line)["action"]
        for line in (afd.folder / "audit.jsonl").read_bytes().splitlines()
    ]
    assert "afd.UpdateDetectorVersionStatus" in actions
    assert "203.0.113.0" not in (afd.folder / "audit.jsonl").read_text()


def test_an_export_is_taken_over(afd: Afd, tmp_path: Path) -> None:
    """Nothing without --apply; then lists, and a draft that decides once it is activated."""
    folder = write_export(tmp_path, detector="imported", ips="imported_ips")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fraudstream", "import-afd", str(folder), *options],
            env=os.environ | afd.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    client = afd.client()
    rules = tmp_path / "rules.toml"
    shown = run("--rules", str(rules))
    assert shown.returncode == 0, shown.stderr
    assert "nothing was changed" in shown.stdout
    assert [rule.id for rule in read_rule_file(rules.read_text()).rules] == ["dear", "rest"]
    for _ in range(2):
        applied = run("--apply")
        assert applied.returncode == 0, applied.stderr
    until(
        lambda: "imported" in {one["detectorId"] for one in client.get_detectors()["detectors"]},
        "the import",
    )
    (version,) = client.describe_detector(detectorId="imported")["detectorVersionSummaries"]
    assert version["status"] == "DRAFT"
    (details,) = client.get_rules(detectorId="imported", ruleId="dear", ruleVersion="4")["ruleDetails"]  # fmt: skip
    assert details["expression"] == "$order_price > 500 and $ip_address in @imported_ips"
    assert client.get_list_elements(name="imported_ips")["elements"] == [
        "198.51.100.9",
        "203.0.113.0/24",
    ]
    client.update_detector_version_status(
        detectorId="imported", detectorVersionId="1", status="ACTIVE"
    )
    asked = event(
        detectorId="imported",
        eventVariables={
            "transaction_amt": "900",
            "transaction_currency": "USD",
            "ip_address": "203.0.113.5",
        },
    )
    expected = [{"ruleId": "dear", "outcomes": ["deny_order"]}]
    until(lambda: client.get_event_prediction(**asked)["ruleResults"] == expected, "the switch")
    (folder / "outcomes-1.json").write_bytes(orjson.dumps({"outcomes": [{"name": "vip"}]}))
    refused = run("--apply")
    assert refused.returncode == 2
    assert "--partial" in refused.stderr
    assert run("--apply", "--outcome", "vip=approve").returncode == 0


def test_no_personal_value_is_in_the_logs(afd: Afd) -> None:
    text = afd.log.read_text()
    assert "ada@example.com" not in text
    assert AwsCredentials(afd.folder).all()[0].secret not in text
