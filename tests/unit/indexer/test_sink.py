"""What OpenSearch answers becomes the right verdict, item by item."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
from opensearchpy.exceptions import ConnectionTimeout, RequestError, TransportError
from prometheus_client import REGISTRY

from fraud.contracts.errors import Backpressure
from fraud.contracts.times import utc_text
from fraud.runtime.metrics import DECIDED_BY, DOCUMENTS_REFUSED
from fraud.security.pseudonyms import Pseudonyms
from indexer.bulk import MAX_TRIES, MIN_ITEMS
from indexer.documents import Document, to_document
from indexer.sink import Sink
from indexer.template import VERSION, templates
from tests.support.builders import START_MS, a_processed
from tests.support.fake_opensearch import FakeClient

PSEUDONYMS = Pseudonyms(b"k" * 32)
REJECTED = "processed_transactions_rejected"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def sink(client: FakeClient, pauses: list[float]) -> Sink:
    return Sink(
        client,
        clock=lambda: START_MS,
        rng=random.Random(1),
        shards=1,
        replicas=0,
        pause=pauses.append,
    )


def documents(*offsets: int, **record: Any) -> list[Document]:
    return [to_document(a_processed(record, offset=offset), PSEUDONYMS) for offset in offsets]


def stored(client: FakeClient) -> set[str]:
    return {key for index, key in client.documents if index != REJECTED}


def test_a_batch_is_written_after_the_templates(client: FakeClient, sink: Sink) -> None:
    """An index made without its template would guess the mapping."""
    sink.write(documents(1, 2))
    assert stored(client) == {"transactions-0-1", "transactions-0-2"}
    assert set(client.indices.templates) == {
        "processed_transactions",
        "processed_transactions_rejected",
        "transaction_labels",
        "dead_letters",
    }
    assert sink.problem is None


def test_refusals_are_counted_from_0_on(client: FakeClient) -> None:
    """A first one is an increase only of a series that was there before."""
    DOCUMENTS_REFUSED.clear()
    Sink(client, clock=lambda: START_MS, rng=random.Random(1), shards=1, replicas=0)
    labels = {"reason": "mapper_parsing_exception"}
    assert REGISTRY.get_sample_value("fraudstream_documents_refused_total", labels) == 0


def test_how_soon_it_was_decided_and_written_and_by_what_is_told(client: FakeClient) -> None:
    """Of the newest decision only: the switch of a model shows when the stream decides by it."""
    now_ms = START_MS + 5_000
    sink = Sink(client, clock=lambda: now_ms, rng=random.Random(1), shards=1, replicas=0)
    names = ("arrival_to_decision", "decision_to_index")

    def told(part: str) -> list[float]:
        values = (REGISTRY.get_sample_value(f"fraudstream_{one}_seconds_{part}") for one in names)
        return [value or 0.0 for value in values]

    def decided(offset: int, version: str, scored_at: str) -> Document:
        changes = {
            "model": {"name": "m", "version": version},
            "policy_version": "p",
            "scored_at": scored_at,
        }
        return to_document(a_processed({}, changes, offset=offset), PSEUDONYMS)

    def current() -> list[str]:
        found = next(one for one in REGISTRY.collect() if one.name == "fraudstream_decided_by")
        return [sample.labels["version"] for sample in found.samples if sample.value == 1]

    DECIDED_BY.clear()
    before = told("sum"), told("count")
    first, second, third = (utc_text(START_MS + ms) for ms in (250, 1_250, 2_250))
    sink.write([decided(1, "new", second), decided(2, "old", first)])
    assert current() == ["new"]
    sink.write([decided(3, "newer", third)])
    assert current() == ["newer"]
    now = told("sum"), told("count")
    sums, counts = (
        [b - a for a, b in zip(*pair, strict=True)] for pair in zip(before, now, strict=True)
    )
    assert counts == [3, 3]
    assert sums == pytest.approx([0.25 + 1.25 + 2.25, 4.75 + 3.75 + 2.75])


def test_writing_again_changes_nothing(client: FakeClient, sink: Sink) -> None:
    """A replay meets the same ids."""
    sink.write(documents(1, 2))
    before = dict(client.documents)
    sink.write(documents(2, 1))
    assert client.documents == before


def test_of_a_document_that_is_in_a_batch_twice_the_last_one_holds(
    client: FakeClient, sink: Sink
) -> None:
    """Whichever of them a busy cluster takes first."""
    twice = documents(1, product_category="first") + documents(1, product_category="last")
    client.item_errors = {"transactions-0-1": [(429, "rejected_execution_exception")]}
    sink.write(twice)
    assert [d["product_category"] for d in client.documents.values()] == ["last"]


def test_a_later_template_is_left_alone(client: FakeClient, sink: Sink) -> None:
    """An old process must not undo what a new one installed."""
    client.indices.templates["processed_transactions"] = {"version": 10_000}
    sink.prepare()
    assert client.indices.templates["processed_transactions"] == {"version": 10_000}


def test_other_settings_reach_the_template_without_another_version(
    client: FakeClient, sink: Sink
) -> None:
    """Such as the number of shards."""
    other = templates(shards=3, replicas=1)
    client.indices.templates = dict(other)
    sink.prepare()
    assert client.indices.templates == templates(shards=1, replicas=0)


def test_indexes_of_an_earlier_version_get_the_new_fields(client: FakeClient, sink: Sink) -> None:
    """So that what is written to them from now on is found; later ones are left alone."""
    client.indices.versions = {
        "processed_transactions-2026.02.27": 1,
        "processed_transactions-2026.02.28": VERSION,
        "processed_transactions-2026.03.01": VERSION + 1,
    }
    sink.prepare()
    assert client.indices.new_mappings == ["processed_transactions-2026.02.27"]


def test_a_day_whose_migration_was_killed_is_written_again(client: FakeClient, sink: Sink) -> None:
    """Not one that is being migrated, nor one that somebody else made read-only."""
    day = "processed_transactions-2026.02.2"
    until = {5: START_MS - 1, 6: START_MS + 1, 7: START_MS - 1, 8: 0}
    client.indices.copies = {
        f"migrated-{day}{number}-v2-1": {
            "aliases": {"processed_transactions": {}} if number == 7 else {},
            "mappings": {"_meta": {"version": 2, "copying_until_ms": until_ms}},
        }
        for number, until_ms in until.items()
    }
    sink.prepare()
    sink.prepare()
    assert client.indices.settings == [(f"{day}5", {"index.blocks.write": None})]
    told = client.indices.copies[f"migrated-{day}5-v2-1"]["mappings"]["_meta"]
    assert told == {"version": 2, "copying_until_ms": 0}


def test_a_cluster_that_refuses_the_template_is_waited_for_with_its_reason(
    client: FakeClient, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log or the health must see what to mend."""

    def refuse(**_: Any) -> None:
        cause = {"type": "x", "reason": "Failed to build analyzers: [thai]"}
        error = {"type": "x", "reason": "the template is invalid", "caused_by": cause}
        raise RequestError(400, "illegal_argument_exception", {"error": error})

    monkeypatch.setattr(client.indices, "put_index_template", refuse)
    with pytest.raises(Backpressure):
        sink.prepare()
    expected = "OpenSearch (400 illegal_argument_exception: Failed to build analyzers: [thai])"
    assert sink.problem == expected


@pytest.mark.parametrize(
    "failure",
    [
        OpenSearchConnectionError("N/A", "refused", Exception("refused")),
        ConnectionTimeout("TIMEOUT", "slow", Exception("slow")),
        TransportError(429, "rejected_execution_exception", {}),
        TransportError(503, "service unavailable", {}),
        TransportError(403, "security_exception", {}),
    ],
)
def test_a_cluster_that_cannot_is_waited_for(
    client: FakeClient, sink: Sink, failure: Exception
) -> None:
    """The whole batch comes again, after growing waits, and then passes."""
    sink.prepare()
    waits = []
    for _ in range(4):
        client.failures = [failure]
        with pytest.raises(Backpressure) as verdict:
            sink.write(documents(1))
        waits.append(verdict.value.retry_after_s)
        assert sink.problem is not None
    # Preparing anew succeeds before each try here; that must not shorten the waits.
    assert 0.25 <= waits[0] <= 0.5
    assert 2 <= waits[3] <= 4
    sink.write(documents(1))
    assert stored(client) == {"transactions-0-1"}
    assert sink.problem is None


NOT_AT_FAULT = [
    (429, "rejected_execution_exception"),
    (503, "unavailable_shards_exception"),
    (403, "cluster_block_exception"),
    (400, "validation_exception"),
    (404, "index_not_found_exception"),
]


@pytest.mark.parametrize("error", NOT_AT_FAULT)
def test_an_item_that_is_not_at_fault_is_sent_again_by_itself(
    client: FakeClient, sink: Sink, pauses: list[float], error: tuple[int, str]
) -> None:
    """Its neighbours are not; pauses grow."""
    client.item_errors = {"transactions-0-2": [error, error]}
    sink.write(documents(1, 2, 3))
    assert stored(client) == {f"transactions-0-{number}" for number in (1, 2, 3)}
    assert client.items == [3, 1, 1]
    assert len(pauses) == 2
    assert 0 < pauses[0] < pauses[1] < 1
    assert sink.problem is None


@pytest.mark.parametrize("error", NOT_AT_FAULT)
def test_an_item_that_keeps_failing_is_waited_for(
    client: FakeClient, sink: Sink, pauses: list[float], error: tuple[int, str]
) -> None:
    """A full disk or too many shards must not turn good documents into rejected ones."""
    client.item_errors = {"transactions-0-2": error}
    with pytest.raises(Backpressure, match=error[1]):
        sink.write(documents(1, 2))
    assert client.items == [2, *[1] * (MAX_TRIES - 1)]
    assert sum(pauses) < 3
    client.item_errors = {}
    sink.write(documents(1, 2))
    assert stored(client) == {"transactions-0-1", "transactions-0-2"}
    assert len(client.documents) == 2


def test_one_in_twenty_failing_at_random_loses_nothing(client: FakeClient, sink: Sink) -> None:
    """And needs no batch to come again."""
    rng = random.Random(5)
    errors = {
        f"transactions-0-{number}": [
            rng.choice(NOT_AT_FAULT) for _ in range(10) if rng.random() < 0.05
        ][:3]
        for number in range(3000)
    }
    client.item_errors = dict(errors)
    sink.write(documents(*range(3000)))
    assert len(stored(client)) == len(client.documents) == 3000
    assert sum(client.items) > 3000


def test_requests_shrink_while_there_is_too_much_to_do(client: FakeClient, sink: Sink) -> None:
    """By half each time, and grow again afterwards."""
    busy = (429, "rejected_execution_exception")
    client.item_errors = {"transactions-0-0": [busy] * 4}
    sink.write(documents(*range(1000)))
    client.items.clear()
    sink.write(documents(*range(1000)))
    first = client.items[0]
    assert MIN_ITEMS <= first < 500
    assert sum(client.items) == 1000
    client.items.clear()
    sink.write(documents(*range(1000)))
    assert first < client.items[0] < 500


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionTimeout("TIMEOUT", "slow", Exception("slow")),
        TransportError(429, "rejected_execution_exception", {}),
    ],
)
def test_requests_shrink_when_a_whole_one_is_too_much(
    client: FakeClient, sink: Sink, failure: Exception
) -> None:
    """Sent again as it is, it might time out for ever."""
    sink.prepare()
    keep = client.bulk

    def refuse_long(body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        if body.count(b"\n") > 2 * 200:
            raise failure
        return keep(body, params)

    client.bulk = refuse_long  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Backpressure):
            sink.write(documents(*range(1000)))
    sink.write(documents(*range(1000)))
    assert len(stored(client)) == 1000


def test_a_request_that_is_too_large_is_cut(client: FakeClient, sink: Sink) -> None:
    """As by a proxy with a lower limit; a single document that is too large is refused."""
    sink.prepare()
    limit = 20_000
    keep = client.bulk

    def refuse_large(body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        if len(body) > limit:
            raise TransportError(413, "too large", {})
        return keep(body, params)

    client.bulk = refuse_large  # type: ignore[method-assign]
    huge = Document("processed_transactions-2026.03.01", "huge", {"x": "y" * 50_000})
    sink.write([*documents(*range(100)), huge])
    assert len(stored(client)) == 100
    kept = client.documents[REJECTED, "huge"]
    assert kept["reason"] == "request_entity_too_large"
    assert "document" not in kept


def test_a_document_at_fault_is_kept_with_the_reason(client: FakeClient, sink: Sink) -> None:
    """Its neighbours pass, and it is found among the rejected, its quotes masked."""
    client.item_errors = {"transactions-0-2": (400, "mapper_parsing_exception")}
    sink.write(documents(1, 2, 3))
    assert stored(client) == {"transactions-0-1", "transactions-0-3"}
    kept = client.documents[REJECTED, "transactions-0-2"]
    assert kept["reason"] == "mapper_parsing_exception"
    assert kept["detail"] == "field of [redacted]"
    assert kept["document"]["event_id"] == "evt-1"


def test_a_rejected_document_that_cannot_be_kept_is_waited_for(
    client: FakeClient, sink: Sink
) -> None:
    """Nothing is lost silently."""
    client.item_errors = {
        "transactions-0-2": (400, "mapper_parsing_exception"),
        f"{REJECTED}/transactions-0-2": (429, "busy"),
    }
    with pytest.raises(Backpressure, match="busy"):
        sink.write(documents(1, 2))


def test_large_batches_are_split(client: FakeClient, sink: Sink) -> None:
    """No request grows beyond 8 MiB, and every document arrives once."""
    many = [
        Document("processed_transactions-2026.03.01", str(number), {"x": "y" * 100_000})
        for number in range(200)
    ]
    sink.write(many)
    assert len(stored(client)) == 200
    assert len(client.bulks) == 3
    assert max(client.bulks) < 8.1 * 1_048_576
