"""Whenever a label comes, its documents end with the one that holds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from fraud.contracts.errors import InvalidMessage
from fraud.kafka.group_consumer import Message
from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import ALIAS, Document, to_document
from indexer.labels import KnownLabel, label_id, to_label
from indexer.sink import Sink
from tests.support.builders import START_MS, a_processed
from tests.support.fake_opensearch import FakeClient

PSEUDONYMS = Pseudonyms(b"k" * 32)


def a_message(**changes: Any) -> Message:
    label = {
        "event_id": "evt-1",
        "label": "fraud",
        "label_time": "2026-03-05T00:00:00Z",
        "source": "chargeback",
    } | changes
    return Message("labels", 0, 7, START_MS, None, orjson.dumps(label))


def a_label(value: str = "fraud", day: int = 5, event_id: str = "evt-1") -> KnownLabel:
    return to_label(
        a_message(label=value, label_time=f"2026-03-{day:02}T00:00:00Z", event_id=event_id)
    )


def a_document(offset: int = 1, event_id: str = "evt-1", **record: Any) -> Document:
    return to_document(a_processed({"event_id": event_id} | record, offset=offset), PSEUDONYMS)


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def sink(client: FakeClient) -> Sink:
    return a_sink(client)


def a_sink(client: FakeClient) -> Sink:
    return Sink(
        client,
        clock=lambda: START_MS,
        rng=random.Random(1),
        shards=1,
        replicas=0,
        pause=lambda _: None,
    )


def labels_of(client: FakeClient) -> dict[str, Any]:
    return {
        key: document.get("label", {}).get("label")
        for (index, key), document in client.documents.items()
        if index.startswith("processed_transactions-")
    }


FRAUD, CORRECTED, LATE = a_label(), a_label("legitimate", day=9), a_label("legitimate", day=2)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_of_arrival_does_not_matter(order: tuple[int, ...]) -> None:
    """Decision, label, its correction and a late one of an earlier time, twice over."""
    client = FakeClient()
    sink = a_sink(client)
    steps = [
        lambda: sink.write([a_document()]),
        lambda: sink.write_labels([FRAUD]),
        lambda: sink.write_labels([CORRECTED]),
        lambda: sink.write_labels([LATE]),
    ]
    for place in (*order, *order):
        steps[place]()
    assert labels_of(client) == {"transactions-0-1": "legitimate"}
    (document,) = (d for (i, _), d in client.documents.items() if i.startswith("processed"))
    assert document["label"] == {
        "label": "legitimate",
        "label_time": "2026-03-09T00:00:00.000Z",
        "source": "chargeback",
    }


def test_of_the_same_time_the_last_one_holds(client: FakeClient, sink: Sink) -> None:
    """In one batch and in two."""
    sink.write([a_document()])
    sink.write_labels([a_label("fraud"), a_label("legitimate")])
    assert labels_of(client) == {"transactions-0-1": "legitimate"}
    sink.write_labels([a_label("fraud")])
    assert labels_of(client) == {"transactions-0-1": "fraud"}


def test_every_document_of_the_event_is_labelled(client: FakeClient, sink: Sink) -> None:
    """Repeats and other entities' events of the same id: a label says nothing of the entity."""
    sink.write([a_document(1), a_document(2, entity_id="c-2"), a_document(3, event_id="evt-2")])
    sink.write_labels([FRAUD])
    assert labels_of(client) == {
        "transactions-0-1": "fraud",
        "transactions-0-2": "fraud",
        "transactions-0-3": None,
    }


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(lambda name: name, id="a day as it was made"),
        # OpenSearch answers with the index behind the name that was asked for.
        pytest.param(
            lambda name: f"migrated-{name}-v2-1" if name.startswith(ALIAS) else name,
            id="a migrated day",
        ),
    ],
)
def test_a_label_that_comes_while_its_decision_is_written_is_seen(
    client: FakeClient, sink: Sink, behind: Callable[[str], str]
) -> None:
    """Between asking what is known and writing, another one's search finds nothing yet."""
    client.behind = behind
    other = a_sink(client)
    other.prepare()
    sink.prepare()
    client.before_bulk = lambda: (
        setattr(client, "before_bulk", lambda: None),
        other.write_labels([FRAUD]),
    )
    sink.write([a_document()])
    assert labels_of(client) == {"transactions-0-1": "fraud"}


def test_a_correction_that_comes_while_a_label_is_applied_holds(
    client: FakeClient, sink: Sink
) -> None:
    """The older label's update meets another state of the document, and looks again."""
    sink.write([a_document()])
    other = a_sink(client)
    other.prepare()
    calls = itertools.count()

    def correct() -> None:
        # The second write is that of the document; the correction's own writes do not count.
        if next(calls) == 1:
            client.before_bulk = lambda: None
            other.write_labels([CORRECTED])

    client.before_bulk = correct
    sink.write_labels([FRAUD])
    assert labels_of(client) == {"transactions-0-1": "legitimate"}


def test_a_label_without_a_decision_is_kept_for_it(client: FakeClient, sink: Sink) -> None:
    sink.write_labels([FRAUD])
    assert client.documents["transaction_labels", label_id("evt-1")]["label"] == "fraud"
    assert client.indices.refreshed == 1
    assert labels_of(client) == {}


def test_who_says_so_is_not_shown_by_address() -> None:
    assert to_label(a_message(source="ada@example.com")).body["source"] == "[redacted]"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"label": "maybe"}, "label"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": None}, "event_id"),
        ({"label_time": "yesterday at noon"}, "label_time"),
        ({"label_time": "1969-12-31T23:59:59Z"}, "label_time"),
        ({"label_time": "0001-01-01T00:00:00+23:00"}, "label_time"),
        ({"source": 5}, "source"),
    ],
)
def test_a_label_at_fault_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidMessage) as verdict:
        to_label(a_message(**changes))
    assert verdict.value.field == field


@pytest.mark.parametrize(
    ("written", "read"),
    [("FRAUD", "fraud"), (1, "fraud"), (True, "fraud"), ("1.0", "fraud"), (" Legitimate ", "legitimate"), (0, "legitimate"), (False, "legitimate")],
)  # fmt: skip
def test_a_label_may_be_written_as_in_files(written: object, read: str) -> None:
    assert to_label(a_message(label=written)).body["label"] == read


def test_a_label_may_leave_out_its_time_and_its_source() -> None:
    """It became known when it arrived."""
    label = to_label(a_message(label_time=None, source=None))
    assert (label.time_ms, label.body["source"]) == (START_MS, "unnamed")


@pytest.mark.parametrize(
    ("label_time", "time_ms"),
    [
        ("2026-02-28", START_MS - 1),
        ("2026-03-01", START_MS),  # the end of the day is yet to come
        ("2026-03-01T00:05:00Z", START_MS + 300_000),
    ],
)
def test_a_date_alone_is_its_end_but_never_after_its_arrival(label_time: str, time_ms: int) -> None:
    assert START_MS % 86_400_000 == 0
    assert to_label(a_message(label_time=label_time), ahead_s=300).time_ms == time_ms


@pytest.mark.parametrize(
    "label_time", ["2090-01-01T00:00:00Z", "2026-03-01T00:05:00.001Z", "2026-03-02"]
)
def test_a_label_from_the_future_is_refused(label_time: str) -> None:
    """Else it would win against every later one, for ever."""
    with pytest.raises(InvalidMessage) as verdict:
        to_label(a_message(label_time=label_time), ahead_s=300)
    assert (verdict.value.reason, verdict.value.field) == ("out_of_range", "label_time")
    assert to_label(a_message(label_time=label_time)).time_ms > START_MS


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff", b'{"event_id":"e"}'])
def test_what_is_no_label_is_refused(value: bytes | None) -> None:
    with pytest.raises(InvalidMessage):
        to_label(Message("labels", 0, 1, 0, None, value))
