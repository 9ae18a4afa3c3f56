"""Replay of files, on a Kafka of its own."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import orjson

from model.datasets import ColumnMapping, Dataset
from producer.replay import ReplaySummary, Spool, read_into, send_all

MAPPING = ColumnMapping(
    {name: name for name in ("event_id", "entity_id", "event_time", "transaction_amt", "label", "label_time")},
    {"transaction_currency": "EUR"},
)  # fmt: skip
HEADER = "event_id,entity_id,event_time,transaction_amt,label,label_time\n"


class MemoryWriter:
    """Keeps records; may ask to stop after some."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.sent: list[tuple[str, bytes | None, bytes]] = []
        self.stop_after = stop_after

    def send(self, topic, key, value, stop, _on_acknowledged=None) -> bool:
        """Keep a record."""
        if len(self.sent) >= self.stop_after:
            stop.set()
            return False
        self.sent.append((topic, key, value))
        self.acknowledged[topic] += 1
        return True

    def poll(self) -> None:
        """Do nothing: all is acknowledged."""


def replay(
    folder: Path,
    rows: str,
    *,
    by_time: bool = True,
    name: str = "a.csv",
    writer: MemoryWriter | None = None,
    **reading,
) -> tuple[list, ReplaySummary]:
    path = folder / name
    path.write_text(rows, "utf-8")
    writer = writer or MemoryWriter()
    with Spool() as spool:
        summary = read_into(spool, Dataset(path), MAPPING, **reading)
        send_all(
            spool, summary, writer, transactions="tx", labels="lb", by_time=by_time, rate=None, stop=threading.Event()
        )  # fmt: skip
    return writer.sent, summary


def ids(sent: list, topic: str = "tx") -> list[str]:
    return [orjson.loads(value)["event_id"] for to, _, value in sent if to == topic]


SHUFFLED = (
    HEADER
    + "c,1,2026-01-03T00:00:00,1,,\n"
    + "a,1,2026-01-01T00:00:00Z,1,,\n"
    + "b2,1,2026-01-02T00:00:00,1,,\n"
    + "b1,1,2026-01-02T01:00:00+01:00,1,,\n"
)


def test_rows_go_out_by_event_time_and_ties_by_place(tmp_path: Path) -> None:
    sent, _ = replay(tmp_path, SHUFFLED)
    assert ids(sent) == ["a", "b2", "b1", "c"]


def test_rows_go_out_as_in_the_file_when_asked(tmp_path: Path) -> None:
    sent, _ = replay(tmp_path, SHUFFLED, by_time=False)
    assert ids(sent) == ["c", "a", "b2", "b1"]


def test_values_are_sent_as_they_are(tmp_path: Path) -> None:
    sent, summary = replay(tmp_path, HEADER + "007,Zoë,2026-01-01 00:00:00,09.90,,\n")
    ((topic, key, value),) = sent
    assert (topic, key) == ("tx", "Zoë".encode())
    assert orjson.loads(value) == {
        "event_id": "007",
        "entity_id": "Zoë",
        "event_time": "2026-01-01 00:00:00",
        "transaction_amt": "09.90",
        "transaction_currency": "EUR",
    }
    assert not summary.refused


def test_a_label_goes_out_when_it_became_known(tmp_path: Path) -> None:
    """Between the transactions before and after that time; without one, after its own."""
    sent, summary = replay(
        tmp_path,
        HEADER
        + "a,1,2026-01-01T00:00:00Z,1,1,2026-01-02T12:00:00Z\n"
        + "b,1,2026-01-02T00:00:00Z,1,0,\n"
        + "c,1,2026-01-03T00:00:00Z,1,,\n",
    )
    assert [(topic, orjson.loads(value)["event_id"]) for topic, _, value in sent] == [
        ("tx", "a"),
        ("tx", "b"),
        ("lb", "b"),
        ("lb", "a"),
        ("tx", "c"),
    ]
    assert orjson.loads(sent[3][2]) == {
        "event_id": "a",
        "label": "fraud",
        "label_time": "2026-01-02T12:00:00Z",
        "source": "replay",
    }
    assert sent[3][1] == b"a"
    assert (summary.rows, summary.sent, summary.labels) == (3, 3, 2)


def test_no_row_is_dropped(tmp_path: Path) -> None:
    """What the contract refuses goes to Kafka too, in its place, and is counted by reason."""
    sent, summary = replay(
        tmp_path,
        HEADER
        + "a,1,2026-01-02T00:00:00Z,1,,\n"
        + "b,,2026-01-01T00:00:00Z,1,,\n"
        + "c,1,yesterday,1,,\n"
        + ",1,2026-01-03T00:00:00Z,1,1,\n"
        + "e,1,2026-01-04T00:00:00Z,much,,\n",
    )
    assert summary.rows == summary.sent == len(sent) == 5
    assert dict(summary.refused) == {"missing_field": 2, "wrong_type": 2}
    assert summary.unlabelled == 1
    # c has no readable time: it stays behind b, the row before it.
    assert [orjson.loads(value).get("event_id") for _, _, value in sent] == [
        "b",
        "c",
        "a",
        None,
        "e",
    ]
    assert sent[0][1] is None


def test_a_broken_line_goes_out_byte_for_byte(tmp_path: Path) -> None:
    good = '{"event_id":"a","entity_id":"1","event_time":"2026-01-01T00:00:00Z","transaction_amt":1,"label":null,"label_time":null}'
    sent, summary = replay(tmp_path, good + "\n{half a\n", name="a.jsonl")
    assert sent[1] == ("tx", None, b"{half a")
    assert summary.refused["not_json"] == 1


def test_labels_and_rows_can_be_limited(tmp_path: Path) -> None:
    rows = HEADER + "".join(f"e{i},1,2026-01-01T00:00:00Z,1,1,\n" for i in range(9))
    sent, summary = replay(tmp_path, rows, with_labels=False, limit=4)
    assert ids(sent) == ["e0", "e1", "e2", "e3"]
    assert (summary.rows, summary.labels) == (4, 0)


def test_a_stop_ends_it_and_the_summary_says_how_far(tmp_path: Path) -> None:
    rows = HEADER + "".join(f"e{i},1,2026-01-01T00:00:00Z,1,,\n" for i in range(9))
    sent, summary = replay(tmp_path, rows, writer=MemoryWriter(stop_after=5))
    assert (len(sent), summary.sent, summary.rows) == (5, 5, 9)


def test_an_empty_file_sends_nothing(tmp_path: Path) -> None:
    sent, summary = replay(tmp_path, HEADER)
    assert (sent, summary.rows) == ([], 0)
