"""The indexer between a real Kafka and a real OpenSearch.

- Each decided transaction is one document, soon after it was produced; a replay adds none.
- Labels come into their documents, whenever they come; dead letters are found by their reasons.
- A rebuild from the topics ends in the same documents; so does a migration, in a new index.
- Fields have the types that the dashboards rely on.
- What OpenSearch refuses for good is kept with the reason; its neighbours pass.
- kill -9 of the indexer, outages of OpenSearch and items that fail at random lose nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from devstack.ports import free_ports
from fraud.contracts.errors import Backpressure
from fraud.runtime.clock import system_clock
from fraud.runtime.settings import OpenSearchSettings
from fraud.security.pseudonyms import Pseudonyms
from fraudstream.cli import app
from indexer.bulk import Write, connect
from indexer.documents import (
    ALIAS,
    DEAD_LETTERS,
    LABELS,
    REJECTED,
    Document,
    index_name,
    to_document,
)
from indexer.migration import MigrationFailed, due
from indexer.retention import ClockDoubted, delete_expired, find_expired
from indexer.template import DEAD_LETTER_INDEX, VERSION
from tests.support.builders import START_MS, a_processed
from tests.support.faulty import FaultyProxy
from tests.support.gate import Gate
from tests.support.processes import OutputTopic, ServiceProcess, until
from tests.support.sinks import a_sink

pytestmark = pytest.mark.service


class World:
    """A topic, a way to OpenSearch, and what is found there of this test."""

    def __init__(self, kafka: str, opensearch: str, folder: Path) -> None:
        self.topic = OutputTopic(kafka)
        self.labels = OutputTopic(kafka, "labels", partitions=1)
        self.dead_letters = OutputTopic(kafka, "dead-letters", partitions=1)
        self.input = f"input-of-{self.topic.name}"
        address = urlsplit(opensearch)
        assert address.hostname
        assert address.port
        self.gate = Gate(address.hostname, address.port)
        self.url = opensearch
        self.log = folder / "indexer.log"
        self.env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_PROCESSED_TRANSACTIONS": self.topic.name,
            "TOPIC_LABELS": self.labels.name,
            "TOPIC_TRANSACTIONS_DLQ": self.dead_letters.name,
            "INDEXER_GROUP": f"indexer-of-{self.topic.name}",
            "OPENSEARCH_URL": f"http://127.0.0.1:{self.gate.port}",
            "INDEXER_RETENTION_DAYS": "100000",
            "STATE_DIR": str(folder / "state"),
            "LOG_FORMAT": "json",
        }

    def indexer(self, **settings: str) -> ServiceProcess:
        return ServiceProcess("indexer", self.env | settings, self.log)

    def decided(self, numbers: Iterable[int], **record: Any) -> list[bytes]:
        """Make records whose inputs are all on one partition, a few days apart."""
        day_ms = 86_400_000
        return [
            a_processed(
                {"event_id": f"evt-{number}"} | record,
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

    def documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return all of this test's documents by index and id."""
        hits = self.search(size=10_000)["hits"]["hits"]
        return {(hit["_index"], hit["_id"]): hit["_source"] for hit in hits}

    def label(self, event_id: str, value: str, day: int) -> bytes:
        """Make a label of one of this test's events, which others' are not to get."""
        return orjson.dumps(
            {
                "event_id": f"{self.input}-{event_id}",
                "label": value,
                "label_time": f"2026-04-{day:02}T00:00:00Z",
                "source": "chargeback",
            }
        )

    def events(self, numbers: Iterable[int]) -> list[bytes]:
        """Make records whose event_ids no other test has."""
        return [self.decided([number], event_id=f"{self.input}-{number}")[0] for number in numbers]


@pytest.fixture
def world(kafka: str, opensearch: str, tmp_path: Path) -> Iterator[World]:
    world = World(kafka, opensearch, tmp_path)
    with world.gate:
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
    for feature, value in (("amount_base", 24.9), ("entity_tx_count_1h", 3)):
        near_it = {"gte": value - 0.01, "lte": value + 0.01}
        assert world.count({"range": {f"fd.features.{feature}": near_it}}) == 2
        assert world.count({"exists": {"field": f"fd.features.{feature}"}}) == 2
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
    world.gate.shut()
    with world.indexer(INDEXER_BATCH="20") as indexer:
        world.topic.produce(world.decided(range(400)))
        until(lambda: "OpenSearch" in (indexer.ready() or ""), "noticing that it is not there")
        world.gate.open()
        until(lambda: indexer.metric("fraudstream_documents_indexed_total") > 50, "some documents")
        world.gate.shut()
        world.topic.produce(world.decided(range(400, 500)))
        until(lambda: "OpenSearch" in (indexer.ready() or ""), "noticing the outage")
        until(lambda: indexer.metric("fraudstream_backpressure_total") >= 2, "trying again")
        world.gate.open()
        until(lambda: world.count() == 500, "all documents")
        indexer.wait_ready()
        assert indexer.stop() == 0
    assigned = [
        line for line in world.log.read_text().splitlines() if "partitions_assigned" in line
    ]
    assert len([line for line in assigned if world.topic.name in line]) == 1


def test_a_refused_document_is_kept_with_the_reason(opensearch: str) -> None:
    """Its neighbours are indexed, and a replay of it changes nothing."""
    client = connect(OpenSearchSettings(opensearch_url=opensearch))
    sink = a_sink(opensearch)
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


def test_labels_come_into_their_documents_whenever_they_come(world: World) -> None:
    """Before the decision, after it, corrected, late, and again."""
    with world.indexer() as indexer:
        indexer.wait_ready()
        world.labels.produce([world.label("0", "fraud", 1), b"{not json"])
        until(
            lambda: (
                indexer.metric("fraudstream_records_consumed_total", service="indexer_labels") == 2
            ),
            "reading the early label",
        )
        world.topic.produce(world.events(range(300)))
        until(lambda: world.count() == 300, "300 documents")
        world.labels.produce(
            [world.label(str(number), "legitimate", 2) for number in range(1, 250)]
            + [world.label("1", "fraud", 9), world.label("2", "fraud", 1)]
        )
        until(lambda: world.count({"exists": {"field": "label.label"}}) == 250, "the labels")
        until(lambda: world.count({"term": {"label.label": "fraud"}}) == 2, "the correction")
        world.topic.produce(world.events(range(300)))
        until(
            lambda: indexer.metric("fraudstream_records_consumed_total", service="indexer") == 600,
            "reading it again",
        )
        until(lambda: world.count({"exists": {"field": "label.label"}}) == 250, "the labels again")
        assert indexer.stop() == 0
    fraud = world.search({"term": {"label.label": "fraud"}}, size=10)["hits"]["hits"]
    assert {hit["_source"]["event_id"] for hit in fraud} == {
        f"{world.input}-0",
        f"{world.input}-1",
    }
    assert fraud[0]["_source"]["label"]["source"] == "chargeback"


def test_dead_letters_are_found_by_their_reasons(world: World) -> None:
    """Once each, and without what is in them."""
    headers = {
        "error_code": b"wrong_type",
        "error_message": b"transaction_amt: expected a number or numeric text",
        "source_topic": world.input.encode(),
        "source_partition": b"1",
        "source_offset": b"77",
        "failed_at": b"2026-03-01T00:00:00.000Z",
    }
    client = connect(OpenSearchSettings(opensearch_url=world.url))
    query = {"query": {"term": {"dead_letter.topic": world.dead_letters.name}}}

    def found() -> list[dict[str, Any]]:
        hits = client.search(index=DEAD_LETTERS, body=query, ignore=404).get("hits", {"hits": []})
        return [hit["_source"] for hit in hits["hits"]]

    with world.indexer() as indexer:
        world.dead_letters.produce([b'{"phone": "+1-021-436-2616"}'] * 2, headers)
        world.dead_letters.produce([b"garbage"])
        until(lambda: len(found()) == 2, "both dead letters")
        assert indexer.stop() == 0
    letters = {letter["error_code"]: letter for letter in found()}
    client.close()
    assert letters.keys() == {"wrong_type", "unknown"}
    assert letters["wrong_type"]["source"]["offset"] == 77
    assert letters["wrong_type"]["value_bytes"] == 28
    assert "436-2616" not in str(letters)


def test_items_that_fail_at_random_lose_nothing(world: World, opensearch: str) -> None:
    """One in twenty, of which half are written although the answer says otherwise."""
    with (
        FaultyProxy(opensearch, rate=0.05, seed=3) as proxy,
        world.indexer(OPENSEARCH_URL=proxy.url) as indexer,
    ):
        indexer.wait_ready()
        world.topic.produce(world.events(range(3000)))
        world.labels.produce([world.label(str(number), "fraud", 1) for number in range(500)])
        until(lambda: world.count() == 3000, "all documents")
        until(lambda: world.count({"exists": {"field": "label.label"}}) == 500, "all labels")
        assert proxy.failed > 100
        assert indexer.metric("fraudstream_documents_retried_total") > 100
        assert indexer.metric("fraudstream_documents_refused_total") == 0
        assert indexer.stop() == 0
    assert len(world.documents()) == 3000


def test_a_rebuild_ends_in_the_same_documents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what came in any order and more than once, across midnights; whatever was lost or wrong."""
    with world.indexer() as indexer:
        world.topic.produce(world.events(range(300)))
        until(lambda: world.count() == 300, "the documents")
        world.labels.produce([world.label(str(number), "fraud", 3) for number in range(0, 300, 2)])
        world.labels.produce([world.label(str(number), "legitimate", 2) for number in range(100)])
        world.topic.produce([*world.events(range(100)), None])
        until(lambda: indexer.metric("fraudstream_consumer_lag") == 0, "reading it all")
        until(lambda: world.count({"term": {"label.label": "fraud"}}) == 150, "fraud")
        until(lambda: world.count({"term": {"label.label": "legitimate"}}) == 50, "legitimate")
        assert indexer.stop() == 0
    before = world.documents()
    client = connect(OpenSearchSettings(opensearch_url=world.url))
    lost = {"query": {"term": {"fd.source.topic": world.input}}}
    client.delete_by_query(index=ALIAS, body=lost, params={"refresh": "true"})
    labels = {"query": {"prefix": {"event_id": world.input}}}
    client.delete_by_query(index=LABELS, body=labels, params={"refresh": "true"})
    assert world.documents() == {}

    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        result = CliRunner().invoke(app, ["index", "rebuild"])
        assert result.exit_code == 0, result.output
        assert "processed_transactions: 401 records, 1 of them unreadable" in result.output
        assert "labels: 250 records" in result.output
        client.indices.refresh(index=ALIAS)
        assert world.documents() == before
    client.close()


def test_a_migrated_day_is_the_same_day_in_a_new_index(world: World) -> None:
    """Found and written by its name as before, each document once, its values as they are today."""
    client = connect(OpenSearchSettings(opensearch_url=world.url))
    pseudonyms = Pseudonyms(b"k" * 32)
    sink = a_sink(world.url)
    day = f"processed_transactions-1999.12.{1 + system_clock() % 30:02}"
    client.indices.create(index=day, body={"mappings": {"_meta": {"version": 1}}})
    clear = Pseudonyms(b"k" * 32, clear=True)
    old = [to_document(raw, clear) for raw in world.events(range(2500))]
    assert sink.bulk.write([Write(day, one.id, one.body) for one in old]).refused == []
    client.indices.refresh(index=day)
    assert [
        (one.version, one.documents) for one in due(client, clear=False) if one.name == day
    ] == [(1, 2500)]

    copy = sink.migrate(day, pseudonyms, lambda _: None)
    assert client.indices.get_alias(index=copy)[copy]["aliases"].keys() == {ALIAS, day}
    assert world.count() == 2500
    entity = {"term": {"entity_id": pseudonyms.hash("entity_id", "070-69-2161")}}
    assert world.count(entity) == 2500
    assert not [one for one in due(client, clear=False) if one.name in (day, copy)]
    sink.write([Document(day, f"{world.input}-0-1", {"fd": {"source": {"topic": world.input}}})])
    client.indices.refresh(index=ALIAS)
    assert world.count() == 2500
    assert world.count(entity) == 2499
    again = sink.migrate(copy, pseudonyms, lambda _: None)
    assert world.count() == 2500
    expired = find_expired(client, now_ms=system_clock(), keep_days=9000)
    assert again in {one.name for one in expired}
    delete_expired(client, now_ms=system_clock(), keep_days=9000)
    assert not client.indices.exists(index=day)
    client.close()


def test_a_migration_that_fails_leaves_the_day_as_it_was(world: World) -> None:
    """It can be written to, and nothing of the copy is left."""
    client = connect(OpenSearchSettings(opensearch_url=world.url))
    sink = a_sink(world.url)
    day = "processed_transactions-1999.11.30"
    client.indices.create(index=day, body={"mappings": {"_meta": {"version": 1}}})
    client.index(index=day, id="odd", body={"event_time": "2026-03-01T00:00:00Z", "x": "y"})
    client.indices.refresh(index=day)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sink.migrate(day, Pseudonyms(b"k" * 32), interrupt)
    assert client.indices.exists(index=day)
    assert client.indices.get(index=f"migrated-{day}-*") == {}
    client.index(index=day, id="later", body={"x": "z"})
    client.indices.delete(index=day)
    client.close()


_KILLED: Final = """
import os, signal, sys
from fraud.security.pseudonyms import Pseudonyms
from tests.support.sinks import a_sink
a_sink(sys.argv[1]).migrate(sys.argv[2], Pseudonyms(b"k" * 32), lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_migration_that_is_killed_keeps_nobody_waiting_for_long(world: World) -> None:
    """The day can be written again, a maker that only slept replaces nothing, and the next one does."""
    client = connect(OpenSearchSettings(opensearch_url=world.url))
    day = "processed_transactions-1999.11.29"
    pseudonyms = Pseudonyms(b"k" * 32)
    later_ms = [0]
    sink = a_sink(world.url, clock=lambda: system_clock() + later_ms[0])
    client.indices.create(index=day, body={"mappings": {"_meta": {"version": 1}}})
    client.index(index=day, id="odd", body={"x": "y"}, params={"refresh": "true"})
    killed = subprocess.run([sys.executable, "-c", _KILLED, world.url, day], check=False)
    assert killed.returncode == -signal.SIGKILL
    document = Document(day, "late", {"x": "z"})
    with pytest.raises(Backpressure, match="cluster_block_exception"):
        sink.write([document])
    with pytest.raises(MigrationFailed, match="try again in"):
        sink.migrate(day, pseudonyms, lambda _: None)
    later_ms[0] = 301_000
    sink.write([document])

    def sleep(_: int) -> None:
        other = a_sink(world.url, clock=lambda: system_clock() + 1_000_000)
        other.write([document])

    with pytest.raises(MigrationFailed, match="given up"):
        sink.migrate(day, pseudonyms, sleep)
    assert client.indices.get(index=f"migrated-{day}-*") == {}
    copy = sink.migrate(day, pseudonyms, lambda _: None)
    meta = client.indices.get_mapping(index=copy)[copy]["mappings"]["_meta"]
    assert meta == {"version": VERSION, "personal_fields": "hashed"}
    assert client.count(index=day)["count"] == 2
    sink.write([document])
    client.indices.delete(index=copy)
    client.close()


def test_retention_says_what_it_would_delete_and_deletes_it(
    opensearch: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the day in the name, and by the age of labels and dead letters; the rest stays."""
    client = connect(OpenSearchSettings(opensearch_url=opensearch))
    sink = a_sink(opensearch)
    old, kept = index_name(0), index_name(system_clock())
    sink.write([Document(old, "old", {}), Document(kept, "kept-by-retention", {})])
    letters = [
        Document(DEAD_LETTER_INDEX, f"retention-{year}", {"failed_at": f"{year}-01-01T00:00:00Z"})
        for year in (1970, 2026)
    ]
    sink.write_dead_letters(letters)
    client.indices.refresh(index=f"{ALIAS},{DEAD_LETTERS}")
    monkeypatch.setenv("OPENSEARCH_URL", opensearch)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    command = ["index", "retention", "--days", "15000"]
    said = CliRunner().invoke(app, [*command, "--dry-run"])
    assert said.exit_code == 0, said.output
    assert f"{old}: 1 documents" in said.output
    assert "dead_letters: 1 documents would be deleted" in said.output
    assert client.indices.exists(index=old)
    with pytest.raises(ClockDoubted, match="1970-01-01 should have been deleted"):
        delete_expired(client, now_ms=system_clock(), keep_days=15_000, careful=True)
    assert client.indices.exists(index=old)
    assert client.exists(index=DEAD_LETTERS, id="retention-1970")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert not client.indices.exists(index=old)
    assert client.indices.exists(index=kept)
    assert not client.exists(index=DEAD_LETTERS, id="retention-1970")
    assert client.exists(index=DEAD_LETTERS, id="retention-2026")
    client.indices.refresh(index=DEAD_LETTERS)
    assert "Nothing is older" in CliRunner().invoke(app, command).output
    client.delete(index=kept, id="kept-by-retention")
    client.delete(index=DEAD_LETTER_INDEX, id="retention-2026")
    client.close()


def test_what_is_asked_of_an_opensearch_that_is_not_there_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENSEARCH_URL", f"http://127.0.0.1:{free_ports(1, '127.0.0.1')[0]}")
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    for command in ("retention", "migrate", "rebuild"):
        result = CliRunner().invoke(app, ["index", command])
        assert result.exit_code == 1
        assert "OpenSearch" in result.output or "ConnectionError" in result.output
