"""Examples: what is read, in which order, and what of it may be learnt from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from fraud.contracts.errors import ErrorCode
from fraud.contracts.transaction import event_time_to_ms
from model.datasets import SIMULATOR, TARGETS, ColumnMapping, Dataset
from model.examples import UNKNOWN, History, MappedDataset, feature_rows, read_history
from model.report import data_warnings
from tests.support.histories import START_MS, labelled_rows, write_rows


def read(path: Path, rows: list[dict[str, Any]]) -> History:
    dataset = Dataset(write_rows(path / "rows.jsonl", rows))
    columns = dataset.columns()
    mapping = ColumnMapping({name: name for name in TARGETS if name in columns})
    return read_history([MappedDataset(dataset, mapping)])


def test_a_history_comes_in_event_time_order_with_ties_as_read(tmp_path: Path) -> None:
    rows = labelled_rows(6)
    for row in rows[2:5]:
        row["event_time"] = rows[2]["event_time"]
    history = read(tmp_path, [rows[4], rows[5], rows[2], rows[0], rows[3], rows[1]])
    assert history.event_ids == ["e0", "e1", "e4", "e2", "e3", "e5"]
    assert (np.diff(history.event_time_ms) >= 0).all()
    assert history.packed.keys["entity"] == [rows[at]["entity_id"] for at in (0, 1, 4, 2, 3, 5)]


def test_features_do_not_hang_on_the_order_of_the_file(tmp_path: Path) -> None:
    """They are those of the stream: each transaction after all that happened before it."""
    rows = labelled_rows(400)
    in_order = feature_rows(read(tmp_path, rows))
    random.Random(3).shuffle(rows)
    np.testing.assert_array_equal(feature_rows(read(tmp_path, rows)), in_order)


def test_refused_rows_are_counted_and_passed_over(tmp_path: Path) -> None:
    rows = labelled_rows(5)
    del rows[1]["transaction_currency"]
    rows[3]["transaction_amt"] = "a lot"
    history = read(tmp_path, rows)
    assert history.event_ids == ["e0", "e2", "e4"]
    assert history.refused == {ErrorCode.MISSING_FIELD: 1, ErrorCode.WRONG_TYPE: 1}


def test_lines_that_are_no_objects_are_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", labelled_rows(3))
    path.write_bytes(path.read_bytes() + b'{"event_id": "e9"\n[1]\n')
    dataset = Dataset(path)
    mapping = ColumnMapping({name: name for name in dataset.columns()})
    history = read_history([MappedDataset(dataset, mapping)])
    assert len(history) == 3
    assert history.refused == {ErrorCode.NOT_JSON: 2}


def test_only_the_first_of_repeated_events_is_an_example(tmp_path: Path) -> None:
    """Also when more transactions lie between than are remembered."""
    rows = labelled_rows(4) + [dict(row, entity_id="busy") for row in labelled_rows(80)[4:]]
    again = [dict(rows[at], event_time="2030-01-01T00:00:00Z") for at in (0, 5)]
    other = dict(rows[1], entity_id="someone else", event_time="2030-01-01T00:00:01Z")
    history = read(tmp_path, [*again, *rows, other])
    assert history.repeated[-3:].tolist() == [True, True, False]
    assert not history.repeated[:-3].any()


def test_labels_and_their_times(tmp_path: Path) -> None:
    """Without a label time it counts as known at once; other values mean not known yet."""
    rows = labelled_rows(5)
    for row, label, label_time in zip(
        rows,
        (1, "0", "", "pending", None),
        ("2026-05-01T00:00:00Z", None, "2026-05-01T00:00:00Z", None, None),
        strict=True,
    ):
        row["label"], row["label_time"] = label, label_time
    history = read(tmp_path, rows)
    assert history.label.tolist() == [1, 0, UNKNOWN, UNKNOWN, UNKNOWN]
    assert history.label_time_ms.tolist() == [1_777_593_600_000, START_MS + 1_800_000, 0, 0, 0]


def test_a_label_whose_time_is_none_is_not_known_and_counted(tmp_path: Path) -> None:
    """Counted as known at once it might be learnt from too early."""
    rows = labelled_rows(3)
    rows[1]["label_time"] = "01/02/2026"
    rows[2]["label_time"] = "2026-03-05"
    history = read(tmp_path, rows)
    assert history.label.tolist() == [rows[0]["label"], UNKNOWN, rows[2]["label"]]
    assert history.label_time_ms[2] == event_time_to_ms("2026-03-05T23:59:59.999Z")
    assert history.told()["bad_label_times"] == {"rows.jsonl": 1}


def test_only_a_file_that_says_so_is_the_simulators(tmp_path: Path) -> None:
    """A shop's own columns may have the names of the truth, and mean its marketing."""
    rows = [dict(row, campaign="card_testing", is_fraud=1) for row in labelled_rows(2)]
    plain = read(tmp_path, rows)
    assert (plain.campaign, plain.has_truth) == (["", ""], False)
    marked = [dict(rows[0], made_by=SIMULATOR), rows[1]]
    simulated = read(tmp_path, marked)
    assert (simulated.campaign, simulated.has_truth) == (["card_testing"] * 2, True)
    dataset = Dataset(write_rows(tmp_path / "rows.jsonl", marked))
    fields = {name: name for name in TARGETS if name in dataset.columns()} | {"label": "is_fraud"}
    assert not MappedDataset(dataset, ColumnMapping(fields)).has_truth
    del marked[0]["campaign"], marked[1]["campaign"]
    assert not read(tmp_path, marked).has_truth


def test_what_is_lost_of_a_file_is_told(tmp_path: Path) -> None:
    """Amounts without a rate, labels that mean nothing, and rows that were refused."""
    rows = labelled_rows(6)
    for row, currency in zip(rows, ("XXX", "AED", "XXX"), strict=False):
        row["transaction_currency"] = currency
    rows[3]["label"] = rows[4]["label"] = "pending"
    rows[5]["transaction_amt"] = "1,50"
    told = read(tmp_path, rows).told()
    assert (told["rows"], told["amounts_without_rate"]) == (5, 3)
    assert told["currencies_without_rate"] == {"XXX": 2, "AED": 1}
    assert told["other_labels"] == {"pending": 2}
    assert told["refused"] == {"wrong_type": 1}
    said = "\n".join(data_warnings(told))
    assert "3 of 5 amounts have no exchange rate (XXX, AED)" in said
    assert "1 of 6 rows (17%) were refused" in said
    assert "write 1.50, not 1,50" in said
    assert "'pending' (2)" in said
    assert data_warnings(read(tmp_path, labelled_rows(6)).told()) == []


def test_the_data_hash_is_that_of_the_content(tmp_path: Path) -> None:
    rows = labelled_rows(50)
    first = read(tmp_path, rows).data_hash
    assert read(tmp_path, rows).data_hash == first
    changed = {first}
    for at, (name, value) in enumerate(
        (("transaction_amt", 1), ("label", 2), ("ip_address", "8.8.4.4"), ("event_id", "x"))
    ):
        other = [dict(row) for row in rows]
        other[at][name] = value
        changed.add(read(tmp_path, other).data_hash)
    assert len(changed) == 5
