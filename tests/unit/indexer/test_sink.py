"""What OpenSearch answers becomes the right verdict, item by item."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
from opensearchpy.exceptions import ConnectionTimeout, NotFoundError, TransportError

from fraud.contracts.errors import Backpressure
from fraud.kit.pseudonyms import Pseudonyms
from indexer.documents import Document, to_document
from indexer.sink import Sink
from tests.builders import START_MS, a_processed

PSEUDONYMS = Pseudonyms(b"k" * 32)


class FakeIndices:
    """Templates, aliases and indexes."""

    def __init__(self) -> None:
        self.templates: dict[str, dict[str, Any]] = {}
        self.names: list[str] = []

    def get_index_template(self, name: str) -> dict[str, Any]:
        if name not in self.templates:
            raise NotFoundError(404, "resource_not_found_exception", {})
        return {"index_templates": [{"index_template": self.templates[name]}]}

    def put_index_template(self, name: str, body: dict[str, Any]) -> None:
        self.templates[name] = body

    def exists_alias(self, name: str) -> bool:
        return bool(self.names)

    def create(self, index: str, **_: Any) -> None:
        self.names.append(index)

    def get(self, index: str, params: dict[str, Any]) -> dict[str, Any]:
        return {name: {} for name in self.names}

    def delete(self, index: str, params: dict[str, Any]) -> None:
        self.names.remove(index)


class FakeClient:
    """Keeps documents; answers as told, per document id or for whole requests."""

    def __init__(self) -> None:
        self.indices = FakeIndices()
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.failures: list[Exception] = []
        self.item_errors: dict[str, tuple[int, str]] = {}
        self.bulks: list[int] = []

    def bulk(self, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.bulks.append(len(body))
        lines = body.split(b"\n")[:-1]
        items = []
        for action_line, document in zip(lines[::2], lines[1::2], strict=True):
            action = orjson.loads(action_line)["index"]
            index, key = action["_index"], action["_id"]
            error = self.item_errors.get(key) or self.item_errors.get(f"{index}/{key}")
            if error and not (index.endswith("rejected") and key in self.item_errors):
                status, kind = error
                reason = {"type": kind, "reason": "field of ada@example.com"}
                items.append({"index": {"status": status, "error": reason}})
            else:
                self.documents[index, key] = orjson.loads(document)
                items.append({"index": {"status": 201}})
        return {"items": items}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def sink(client: FakeClient) -> Sink:
    return Sink(
        client,
        clock=lambda: START_MS,
        rng=random.Random(1),
        shards=1,
        replicas=0,
    )


def documents(*offsets: int, **record: Any) -> list[Document]:
    return [to_document(a_processed(record, offset=offset), PSEUDONYMS) for offset in offsets]


def stored(client: FakeClient) -> set[str]:
    return {key for index, key in client.documents if not index.endswith("rejected")}


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


def test_writing_again_changes_nothing(client: FakeClient, sink: Sink) -> None:
    """A replay meets the same ids."""
    sink.write(documents(1, 2))
    before = dict(client.documents)
    sink.write(documents(2, 1))
    assert client.documents == before


def test_a_later_template_is_left_alone(client: FakeClient, sink: Sink) -> None:
    """An old process must not undo what a new one installed."""
    client.indices.templates["processed_transactions"] = {"version": 10_000}
    sink.prepare()
    assert client.indices.templates["processed_transactions"] == {"version": 10_000}


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


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (403, "cluster_block_exception"),
        (400, "validation_exception"),
        (404, "index_not_found_exception"),
    ],
)
def test_an_item_that_is_not_at_fault_is_waited_for(
    client: FakeClient, sink: Sink, status: int, kind: str
) -> None:
    """A full disk or too many shards must not turn good documents into rejected ones."""
    client.item_errors = {"transactions-0-2": (status, kind)}
    with pytest.raises(Backpressure, match=kind):
        sink.write(documents(1, 2))
    client.item_errors = {}
    sink.write(documents(1, 2))
    assert stored(client) == {"transactions-0-1", "transactions-0-2"}
    assert len(client.documents) == 2


def test_a_document_at_fault_is_kept_with_the_reason(client: FakeClient, sink: Sink) -> None:
    """Its neighbours pass, and it is found among the rejected, its quotes masked."""
    client.item_errors = {"transactions-0-2": (400, "mapper_parsing_exception")}
    sink.write(documents(1, 2, 3))
    assert stored(client) == {"transactions-0-1", "transactions-0-3"}
    kept = client.documents["processed_transactions_rejected", "transactions-0-2"]
    assert kept["reason"] == "mapper_parsing_exception"
    assert kept["detail"] == "field of [redacted]"
    assert kept["document"]["event_id"] == "evt-1"


def test_a_rejected_document_that_cannot_be_kept_is_waited_for(
    client: FakeClient, sink: Sink
) -> None:
    """Nothing is lost silently."""
    client.item_errors = {
        "transactions-0-2": (400, "mapper_parsing_exception"),
        "processed_transactions_rejected/transactions-0-2": (429, "busy"),
    }
    keep = client.bulk

    def refuse_rejected(body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        if b"_rejected" in body:
            return {"items": [{"index": {"status": 429, "error": {"type": "busy"}}}]}
        return keep(body, params)

    client.bulk = refuse_rejected  # type: ignore[method-assign]
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


def test_expired_days_are_deleted(client: FakeClient, sink: Sink) -> None:
    """What is kept stays searchable."""
    client.indices.names = [
        "processed_transactions-2026.02.27",
        "processed_transactions-2026.02.28",
    ]
    assert sink.delete_expired(1) == ["processed_transactions-2026.02.27"]
    assert client.indices.names == ["processed_transactions-2026.02.28"]


def test_retention_survives_an_outage(client: FakeClient, sink: Sink) -> None:
    """The next round will do; the indexer goes on."""

    def refuse(**_: Any) -> dict[str, Any]:
        raise OpenSearchConnectionError("N/A", "refused", Exception("refused"))

    client.indices.get = refuse  # type: ignore[method-assign]
    assert sink.delete_expired(1) == []
