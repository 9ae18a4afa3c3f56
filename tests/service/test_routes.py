"""Routes of the API on a real broker and a real OpenSearch.

The story:
- decisions are indexed, with personal values as pseudonyms, and found again by the values themselves;
- a label goes to its topic once, however often it is sent;
- while OpenSearch is away, scoring goes on;
- after all of it, no personal value is in the log, in the audit log or in any file of the state.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer

from fraud.contracts.transaction import PERSONAL_FIELDS
from fraud.runtime.clock import system_clock
from fraud.runtime.settings import OpenSearchSettings
from fraud.security.pseudonyms import KEY_FILE, Pseudonyms, kept_key
from indexer.bulk import connect
from indexer.documents import to_document
from indexer.sink import Sink
from tests.support.api_processes import Topic, api, settings_of, until
from tests.support.boosters import a_trained_registry
from tests.support.builders import START_MS, a_record
from tests.support.decisions import processed_records

pytestmark = pytest.mark.service


@pytest.fixture
def topic(kafka: str) -> Topic:
    return Topic(kafka)


@pytest.fixture
def labels(topic: Topic) -> str:
    name = f"{topic.name}.labels"
    admin = AdminClient({"bootstrap.servers": topic.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


@pytest.fixture
def env(
    topic: Topic,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    labels: str,
    opensearch: str,
) -> dict[str, str]:
    registry = a_trained_registry(tmp_path_factory.mktemp("registry"))
    places = {"OPENSEARCH_URL": opensearch, "TOPIC_LABELS": labels}
    return settings_of(topic, registry, tmp_path) | places


@pytest.fixture
def indexed(opensearch: str, tmp_path: Path, topic: Topic) -> Iterator[list[dict[str, Any]]]:
    """Decisions in the index, by the key that the API uses; gives their records as they came."""
    pseudonyms = Pseudonyms(kept_key(tmp_path / KEY_FILE))
    values = processed_records(60, START_MS, 3_600_000, topic=topic.name)
    client = connect(OpenSearchSettings(opensearch_url=opensearch))
    sink = Sink(client, clock=system_clock, rng=random.Random(1), shards=2, replicas=0)
    sink.write([to_document(value, pseudonyms) for value in values])
    client.indices.refresh(index="processed_transactions*")
    yield [orjson.loads(value) for value in values]
    client.delete_by_query(
        index="processed_transactions*",
        body={"query": {"term": {"fd.source.topic": topic.name}}},
        params={"refresh": "true"},
    )
    client.close()


def test_decisions_are_found_labelled_and_nobody_is_named(
    env: dict[str, str], labels: str, indexed: list[dict[str, Any]], topic: Topic
) -> None:
    """See the story above."""
    record = indexed[0]
    with api(env) as asked:
        http = asked.http
        one = http.get(f"/v1/decisions/{record['event_id']}").raise_for_status().json()
        assert one["fd"]["score"] == record["fd"]["score"]
        assert "features" in one["fd"]

        found: list[str] = []
        cursor: str | None = None
        while True:
            params: dict[str, Any] = {"limit": 7, "outcome": "approve"}
            page = http.get("/v1/decisions", params=params | ({"cursor": cursor} if cursor else {}))
            found += [
                each["id"] for each in page.json()["items"] if each["id"].startswith(topic.name)
            ]
            cursor = page.raise_for_status().json()["next_cursor"]
            if cursor is None:
                break
        approved = [each for each in indexed if each["fd"]["outcome"] == "approve"]
        assert len(found) == len(set(found)) == len(approved)

        personal = {name: record[name] for name in sorted(PERSONAL_FIELDS & record.keys())}
        assert personal.keys() >= {"email_address", "phone", "customer_name"}
        for name, value in personal.items():
            asked_for = {"entity_id": record["entity_id"], "fields": {name: value}}
            page = http.post("/v1/decisions/search", json=asked_for).raise_for_status()
            assert record["event_id"] in [each["event_id"] for each in page.json()["items"]], name
        nobody = {"fields": {"email_address": "nobody@example.com"}}
        assert http.post("/v1/decisions/search", json=nobody).json()["items"] == []

        sent = {"event_id": record["event_id"], "label": "fraud", "source": "chargeback"}
        for _ in range(3):
            answer = http.post("/v1/labels", json=sent, headers={"Idempotency-Key": "chargeback-1"})
            assert answer.raise_for_status().json() == {"accepted": 1}
        consumer = KafkaConsumer(
            labels,
            bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            batch = until(lambda: consumer.poll(500))
        finally:
            consumer.close()
        got = [each for records in batch.values() for each in records]
        assert [(each.key, orjson.loads(each.value)["label"]) for each in got] == [
            (record["event_id"].encode(), "fraud")
        ]

        # Rules and lists that name somebody, and answers that are kept to be given again.
        email, name = personal["email_address"], personal["customer_name"]
        rule = {
            "id": "R1",
            "when": f'$email_address == "{email}"',
            "outcome": "review",
            "reason": name,
        }
        once = {"Idempotency-Key": "rule-1"}
        for _ in range(2):
            http.post("/v1/rules", json={"rules": [rule]}, headers=once).raise_for_status()
        listed = {"name": "people", "type": "email", "description": name}
        http.post(
            "/v1/lists", json=listed, headers={"Idempotency-Key": "list-1"}
        ).raise_for_status()
        entries = {"add": [{"value": email, "reason": name}, {"value": "bo@example.com"}]}
        http.post("/v1/lists/people/entries", json=entries).raise_for_status()
        page = http.get("/v1/lists/people/entries", params={"limit": 1}).raise_for_status().json()
        http.get("/v1/lists/people/entries", params={"cursor": page["next_cursor"]})

        # Everything that could say too much: refusals, too.
        http.post("/v1/score", json=record | {"transaction_amt": "no"})
        http.post("/v1/labels", json=sent | {"source": personal["email_address"]})
        http.get("/v1/decisions", params={"entity_id": record["entity_id"]})
        http.get("/v1/audit").raise_for_status()
        _, output = asked.end(signal.SIGTERM)
    said = {f"the log: {asked.log.name}": output}
    for file in asked.state_dir.rglob("*"):
        if file.is_file():
            said[file.name] = file.read_text("utf-8", "replace")
    assert said.keys() >= {"audit.jsonl", "idempotency.sqlite"}
    for place, text in said.items():
        for name, value in personal.items():
            assert str(value) not in text, (place, name)


def test_scoring_goes_on_while_opensearch_is_away(env: dict[str, str]) -> None:
    with api({**env, "OPENSEARCH_URL": "http://127.0.0.1:1"}) as asked:
        answer = asked.http.get("/v1/decisions/e-1")
        assert (answer.status_code, answer.json()["code"]) == (503, "search_away")
        assert asked.http.post("/v1/score", json=a_record()).status_code == 200
