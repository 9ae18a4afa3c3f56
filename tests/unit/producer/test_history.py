"""The batch driver."""

from __future__ import annotations

from pathlib import Path

import orjson
import pandas as pd
import pytest

from fraud.contracts.times import DAY_MS
from fraud.contracts.transaction import event_time_to_ms
from model.datasets import SIMULATOR, Dataset
from producer.__main__ import main
from producer.history import write_history
from producer.records import COLUMNS
from producer.simulation import SimulationPlan, World

T0 = 20_700 * DAY_MS


def test_both_formats_say_the_same(world: World, tmp_path: Path) -> None:
    plan = SimulationPlan(customers=200, prevalence=0.05)
    for name in ("h.jsonl", "h.parquet"):
        summary = write_history(world, 7, plan, T0, T0 + 10 * DAY_MS, tmp_path / name)
    lines = [orjson.loads(line) for line in (tmp_path / "h.jsonl").read_bytes().splitlines()]
    table = pd.read_parquet(tmp_path / "h.parquet")
    assert list(table.columns) == [*COLUMNS, "label", "label_time", "is_fraud", "campaign"]
    assert len(lines) == len(table) == summary.transactions
    assert all(Dataset(tmp_path / name).made_by() == SIMULATOR for name in ("h.jsonl", "h.parquet"))
    assert lines[0].pop("made_by") == SIMULATOR
    assert not any("made_by" in line for line in lines)
    assert summary.frauds == sum(line["is_fraud"] for line in lines) > 0
    assert summary.labelled == sum("label" in line for line in lines)
    for line, row in zip(lines, table.to_dict("records"), strict=True):
        assert line == {name: value for name, value in row.items() if not pd.isna(value)}


def test_a_label_is_known_only_after_its_time(world: World, tmp_path: Path) -> None:
    end = T0 + 20 * DAY_MS
    write_history(world, 7, SimulationPlan(customers=200), T0, end, tmp_path / "h.jsonl")
    lines = [orjson.loads(line) for line in (tmp_path / "h.jsonl").read_bytes().splitlines()]
    known = [line for line in lines if "label" in line]
    assert 0 < len(known) < len(lines)
    for line in known:
        label_ms = event_time_to_ms(line["label_time"])
        assert event_time_to_ms(line["event_time"]) < label_ms < end
    assert all("label_time" not in line for line in lines if "label" not in line)


def test_half_a_file_never_looks_like_a_whole_one(world: World, tmp_path: Path) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_history(
            world, 7, SimulationPlan(customers=50), T0, T0 + DAY_MS, tmp_path / "h.jsonl", fail
        )
    assert not (tmp_path / "h.jsonl").exists()


def test_the_command_writes_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    asked = ["history", "--days", "1", "--customers", "50", "--until", "2026-03-01", "--seed", "3"]
    assert main([*asked, "--output", str(tmp_path / "a" / "h.jsonl")]) == 0
    assert main([*asked, "--output", str(tmp_path / "h.csv")]) == 2
    for more in (("--until", "1960-01-01"), ("--days", "30000"), ("--days", "0")):
        assert main([*asked, *more, "--output", str(tmp_path / "never.jsonl")]) == 2
    assert not list(tmp_path.glob("never*"))
    first = (tmp_path / "a" / "h.jsonl").read_bytes()
    assert b'"event_time":"2026-02-28T' in first
    assert main([*asked, "--output", str(tmp_path / "again.jsonl")]) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == first
