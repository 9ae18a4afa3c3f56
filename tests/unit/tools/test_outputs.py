"""Snapshots of equal outputs are equal, and whatever differs is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import orjson

from tools.outputs.__main__ import compare
from tools.outputs.comparing import differences
from tools.outputs.declared import declared
from tools.outputs.records import CODECS, make_records, read_records, write_records
from tools.outputs.running import lasting


def a_history(path: Path, count: int) -> Path:
    with path.open("w") as file:
        for number in range(count):
            record = {
                "event_id": f"e{number}",
                "entity_id": f"c{number % 40}",
                "event_time": "2026-02-27T10:00:00.000Z",
                "transaction_amt": 9.99,
                "transaction_currency": "USD",
                "label": 1,
            }
            file.write(json.dumps(record) + "\n")
    return path


def test_the_same_history_gives_the_same_records(tmp_path: Path) -> None:
    history = a_history(tmp_path / "history.jsonl", 3000)
    made = make_records(history)
    assert made == make_records(history)
    write_records(made, tmp_path / "records.jsonl")
    assert read_records(tmp_path / "records.jsonl") == made
    assert {record.codec for record in made} == set(CODECS)
    assert any(record.value is None for record in made)
    assert not any(b'"label"' in (record.value or b"") for record in made)


def test_every_kind_of_name_is_found_in_this_tree() -> None:
    assert [name for name, content in declared().items() if not content] == []


def test_fields_of_the_moment_are_left_out_at_any_depth() -> None:
    answer = {"fd": {"score": 1, "ttdf": 2.0, "source": {"offset": 3, "timestamp_ms": 4}}}
    assert lasting([answer]) == [{"fd": {"score": 1, "source": {"offset": 3}}}]


def test_a_difference_is_named_by_its_place_and_prose_is_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, score, text in zip(folders, (1, 2), ("Old.", "New."), strict=True):
        folder.mkdir()
        line = orjson.dumps({"offset": 0, "fd": {"score": score, "ids": [1]}})
        (folder / "stream.jsonl.gz").write_bytes(gzip.compress(line))
        (folder / "openapi.json").write_bytes(orjson.dumps({"info": {"description": text}}))
    (folders[1] / "more.json").write_bytes(b"1")
    found = {one.place: (one.before, one.after, one.is_text) for one in differences(*folders)}
    assert found == {
        "more.json": (None, "there", False),
        "openapi info description": ("Old.", "New.", True),
        "stream 0 fd score": (1, 2, False),
    }
    assert compare(*folders, with_texts=False) == 1
    assert compare(folders[0], folders[0], with_texts=True) == 0


def test_a_name_that_changed_is_gone_and_new(tmp_path: Path) -> None:
    for name, content in (("a", ["x", "y", "z"]), ("b", ["w", "x", "z"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "names.json").write_bytes(orjson.dumps(content))
    found = [one[1:3] for one in differences(tmp_path / "a", tmp_path / "b")]
    assert found == [("y", None), (None, "w")]


def test_an_order_of_keys_is_an_output(tmp_path: Path) -> None:
    for name, content in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stream.json").write_bytes(orjson.dumps(content))
    (found,) = differences(tmp_path / "a", tmp_path / "b")
    assert found.place == "stream (order)"
