"""The indexer between a real Kafka and a real OpenSearch.

- Each decided transaction is one document, soon after it was produced; a replay adds none.
- Fields have the types that the dashboards rely on.
- What OpenSearch refuses for good is kept with the reason; its neighbours pass.
- kill -9 of the indexer and outages of OpenSearch lose nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fraud.kit.clock import system_clock
from fraud.kit.settings import OpenSearchSettings
from indexer.documents import ALIAS, REJECTED, Document, index_name
from indexer.sink import Sink, connect
from tests.builders import START_MS, a_processed
from tests.service.door import Door
from tests.service.processes import OutputTopic, ServiceProcess, until

pytestmark = pytest.mark.service


class World:
    """A topic, a way to OpenSearch, and what is found there of this test."""

    def __init__(self, kafka: str, opensearch: str, folder: Path) -> None:
        self.topic = OutputTopic(kafka)
        self.input = f"input-of-{self.topic.name}"
        address = urlsplit(opensearch)
        assert address.hostname
        assert address.port
        self.door = Door(address.hostname, address.port)
        self.url = opensearch
        self.log = folder / "indexer.log"
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_PROCESSED_TRANSACTIONS": self.topic.name,
            "INDEXER_GROUP": f"indexer-of-{self.topic.name}",
            "OPENSEARCH_URL": f"http://127.0.0.1:{self.door.port}",
            "INDEXER_RETENTION_DAYS": "100000",
            "STATE_DIR": str(folder / "state"),
            "LOG_FORMAT": "json",
        }

    def indexer(self, **settings: str) -> ServiceProcess:
        return ServiceProcess("indexer", self._env | settings, self.log)

    def decided(self, numbers: Iterable[int], **record: Any) -> list[bytes]:
        """Make records whose inputs are all on one partition, a few days apart."""
        day_ms = 86_400_000
        return [
            a_processed(
                record | {"event_id": f"evt-{number}"},
                {
                    "source": {
                        "topic": self.input,
                        "partition": 0,
                        "offset": number,
                        "timestamp_ms": START_MS + number % 3 * day_ms,
                    }
                },
            )
            for number in numbers
        ]

    def search(self, query: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """Search this test's documents by the alias, as they are visible now."""
        mine = {"term": {"fd.source.topic": self.input}}
        whole = {"bool": {"filter": [mine, query] if query else [mine]}}
        answer = httpx.post(
            f"{self.url}/{ALIAS}/_search",
            params={"ignore_unavailable": "true"},
            json={"query": whole, "track_total_hits": True, "size": 0} | body,
            timeout=30,
        )
        if answer.status_code == 404:
            return {"hits": {"total": {"value": 0}, "hits": []}}
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def count(self, query: dict[str, Any] | None = None) -> int:
        return int(self.search(query)["hits"]["total"]["value"])


@pytest.fixture
def world(kafka: str, opensearch: str, tmp_path: Path) -> Iterator[World]:
    world = World(kafka, opensearch, tmp_path)
    with world.door:
        yield world


def test_each_decision_is_one_document(world: World) -> None:
    """Unreadable records and replays add none; the days of the inputs have an index each."""
    with world.indexer() as indexer:
        indexer.wait_ready()
        world.topic.produce([*world.decided(range(300)), None, b"{not json"])
        world.topic.produce(world.decided(range(150)))
        until(lambda: indexer.metric("fraudstream_records_consumed_total") == 452, "reading it all")
        until(lambda: world.count() == 300, "300 documents")
        assert indexer.ready() is None
        assert indexer.stop() == 0
    days = world.search(aggs={"days": {"terms": {"field": "_index"}}})["aggregations"]["days"]
    assert {bucket["key"] for bucket in days["buckets"]} == {
        "processed_transactions-2026.03.01",
        "processed_transactions-2026.03.02",
        "processed_transactions-2026.03.03",
    }
    hit = world.search({"term": {"event_id": "evt-7"}}, size=1)["hits"]["hits"][0]
    assert hit["_id"] == f"{world.input}-0-7"


def test_a_decision_is_searchable_within_three_seconds(world: World) -> None:
    """When traffic is small, nothing waits for a batch to fill."""
    with world.indexer() as indexer:
        indexer.wait_ready()
        world.topic.produce(world.decided([0]))
        until(lambda: world.count() == 1, "the first document")
        produced_s = time.monotonic()
        world.topic.produce(world.decided([1]))
        until(lambda: world.count() == 2, "the second document")
        assert time.monotonic() - produced_s < 3.0


def test_fields_have_the_types_that_searches_rely_on(world: World) -> None:
    """Places, amounts, times, addresses, features; unknown fields break nothing."""
    day_ms = 86_400_000
    with world.indexer() as indexer:
        world.topic.produce(
            world.decided(
                [0],
                transaction_amt="1816.33",
                shoe_size={"a": [1]},
                event_time="2026-03-02T12:00:00",
            )
        )
        world.topic.produce(world.decided([1], ip_address="not an address", shoe_size="forty"))
        until(lambda: world.count() == 2, "both documents")
        indexer.stop()
    found = [
        {"range": {"transaction_amt": {"gt": 1800}}},
        {"range": {"event_time": {"gte": "2026-03-02T11:59:59Z", "lt": START_MS + 2 * day_ms}}},
        {"term": {"ip_address.ip": "203.0.113.0/24"}},
        {"term": {"transaction_currency": "USD"}},
    ]
    for query in found:
        assert world.count(query) == 1 + (query == found[-1]), query
    near = {"geo_distance": {"distance": "50km", "billing_location": {"lat": 42.3, "lon": -79.4}}}
    assert world.count(near) == 2
    assert world.count({"range": {"fd.features.amount_base": {"gte": 24, "lte": 25}}}) == 2
    assert world.count({"term": {"fd.outcome": "block"}}) == 2
    assert world.count({"match": {"fd.reasons.text": "payments"}}) == 2
    stats = world.search(aggs={"mean": {"avg": {"field": "fd.ttdf"}}})["aggregations"]
    assert stats["mean"]["value"] == 22.5


@pytest.mark.slow
def test_a_killed_indexer_loses_nothing(world: World) -> None:
    """Kill -9 in mid-flow, twice; the next one goes on."""
    for round_number in range(2):
        with world.indexer(INDEXER_BATCH="50") as indexer:
            world.topic.produce(
                world.decided(range(round_number * 1000, round_number * 1000 + 1000))
            )
            until(lambda: indexer.metric("fraudstream_documents_indexed_total") > 100, "some")
            indexer.kill()
    with world.indexer() as indexer:
        until(lambda: world.count() == 2000, "all documents", 90)
        assert indexer.stop() == 0


def test_an_outage_of_opensearch_loses_nothing(world: World) -> None:
    """Cut off in mid-flow and not there at all: it waits, says so, keeps its partitions, and heals."""
    world.door.shut()
    with world.indexer(INDEXER_BATCH="20") as indexer:
        world.topic.produce(world.decided(range(400)))
        until(lambda: "OpenSearch" in (indexer.ready() or ""), "noticing that it is not there")
        world.door.open()
        until(lambda: indexer.metric("fraudstream_documents_indexed_total") > 50, "some documents")
        world.door.shut()
        world.topic.produce(world.decided(range(400, 500)))
        until(lambda: "OpenSearch" in (indexer.ready() or ""), "noticing the outage")
        until(lambda: indexer.metric("fraudstream_backpressure_total") >= 2, "trying again")
        world.door.open()
        until(lambda: world.count() == 500, "all documents")
        indexer.wait_ready()
        assert indexer.stop() == 0
    assert world.log.read_text().count("kafka.partitions_assigned") == 1


def test_a_refused_document_is_kept_with_the_reason(opensearch: str) -> None:
    """Its neighbours are indexed, and a replay of it changes nothing."""
    client = connect(OpenSearchSettings(opensearch_url=opensearch))
    sink = Sink(client, clock=system_clock, rng=random.Random(1), shards=1, replicas=0)
    name = f"refused-{system_clock()}"
    index = index_name(START_MS)
    good = Document(index, f"{name}-0-1", {"event_id": name})
    bad = Document(index, f"{name}-0-2", {"event_id": name, "event_time": "yesterday"})
    for _ in range(2):
        sink.write([good, bad])
    client.indices.refresh(index=f"{ALIAS}*")
    assert client.count(index=ALIAS, body={"query": {"term": {"event_id": name}}})["count"] == 1
    kept = client.get(index=REJECTED, id=bad.id)["_source"]
    assert kept["reason"] == "mapper_parsing_exception"
    assert "event_time" in kept["detail"]
    assert kept["document"] == bad.body
    client.close()


def test_expired_days_are_deleted_and_others_kept(opensearch: str) -> None:
    """By the day in the name; the rejected ones stay."""
    client = connect(OpenSearchSettings(opensearch_url=opensearch))
    today_ms = system_clock()
    sink = Sink(client, clock=lambda: today_ms, rng=random.Random(1), shards=1, replicas=0)
    old, kept = index_name(0), index_name(today_ms)
    sink.write([Document(old, "old", {}), Document(kept, "kept-by-retention", {})])
    assert old in sink.delete_expired(20_000)
    assert not client.indices.exists(index=old)
    assert client.indices.exists(index=kept)
    client.delete(index=kept, id="kept-by-retention")
    client.close()
