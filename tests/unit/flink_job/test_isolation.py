"""Failures of our functions: one record never fails the job, a fault of ours never refuses them all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_job import deciding, reading
from flink_job.deciding import DecideTransactions
from flink_job.isolation import SOUND_RECORD, Columns, EveryRecordFails, isolated
from flink_job.reading import ReadTransactions, read_batch
from fraud.contracts import dead_letter
from fraud.contracts.transaction import decode
from fraud.features.catalogue import KEYS
from tests.support.builders import a_registry, a_value


class Counters:
    """Flink's context of a function: keeps its counters by name."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def get_metric_group(self) -> Counters:
        """See Flink."""
        return self

    def counter(self, name: str) -> Any:
        """See Flink."""

        def inc(count: int = 1) -> None:
            self.counts[name] = self.counts.get(name, 0) + count

        return SimpleNamespace(inc=inc)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_every_record_that_fails_alone_is_refused_and_no_other(bad: list[bool]) -> None:
    """In order, whatever lies where in the batch."""

    def compute(columns: Columns) -> pd.Series[Any]:
        if columns[0].any():
            raise ValueError
        return pd.Series(["fine"] * len(columns[0]))

    results = isolated(
        compute,
        lambda _row, _error: pd.Series(["refused"]),
        lambda: [pd.Series([False])],
        [pd.Series(bad)],
    )
    assert results.tolist() == ["refused" if one else "fine" for one in bad]


def test_reading_refuses_the_record_that_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its own check or the packing of the whole batch raises."""

    def decoded(raw: bytes | None) -> Any:
        if raw and b"unparsed" in raw:
            raise RecursionError("of a value")
        return decode(raw)

    def packed(transactions: list[Any]) -> Any:
        if any(one.event_id == "unpacked" for one in transactions):
            raise OverflowError("of a value")
        return pack(transactions)

    pack = reading.pack
    monkeypatch.setattr(reading, "decode", decoded)
    monkeypatch.setattr(reading, "pack", packed)
    ids = ["a", "unpacked", "b", "c", "unparsed", "d"]
    function, context = ReadTransactions(), Counters()
    function.open(context)
    values = [*(a_value(event_id=one) for one in ids), b"{"]
    rows = function.eval(pd.Series(values, dtype=object), pd.Series([0] * len(values)))
    assert rows["error_code"].tolist() == [None, "internal", None, None, "internal", None, "not_json"]  # fmt: skip
    assert rows["error_message"].tolist()[1] == dead_letter.INTERNAL
    assert [own is None for own in rows["own"]] == [code is not None for code in rows["error_code"]]
    assert rows["entity_key"].notna().all()
    assert context.counts == {"dead_letters": 3}


def test_reading_refuses_nothing_when_every_record_would_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job restarts, and says why, instead of emptying the topic into the dead letters."""

    def packed(_transactions: object) -> Any:
        raise ImportError("x")

    monkeypatch.setattr(reading, "pack", packed)
    with pytest.raises(EveryRecordFails, match="ImportError in packed"):
        ReadTransactions().eval(pd.Series([a_value(), a_value()], dtype=object), pd.Series([0, 0]))


def columns_of(values: list[bytes | None]) -> list[pd.Series[Any]]:
    """Return what `decide_transaction` gets for records without history."""
    rows = read_batch(values, [0] * len(values))
    count = len(values)
    columns: list[Any] = [values, ["t"] * count, [3] * count, range(count), [0] * count, rows["own"]]  # fmt: skip
    for key in KEYS:
        records = rows[f"{key.name}_record"]
        columns += [records, [(record or b"") + b"\0" for record in records]]
    return [pd.Series(column, dtype=object) for column in columns]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion."""
    return a_registry(tmp_path_factory.mktemp("models"))


def test_deciding_leaves_out_the_record_that_makes_it_fail(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no decision, and so becomes a dead letter; the log names its place."""

    def decided(raw: bytes, decision: bytes) -> bytes:
        if b"undecided" in raw:
            raise MemoryError
        return with_decision(raw, decision)

    with_decision = deciding.with_decision
    monkeypatch.setattr(deciding, "with_decision", decided)
    function, context = DecideTransactions(registry), Counters()
    function.open(context)
    ids = ["a", "undecided", "b"]
    values = [*(a_value(event_id=one) for one in ids), b"{"]
    bodies = function.eval(*columns_of(values)).tolist()
    function.close()
    assert [body and orjson.loads(body)["event_id"] for body in bodies] == ["a", None, "b", None]
    assert context.counts["dead_letters"] == 1
    assert context.counts["scoring_failed"] == 0


def test_deciding_refuses_nothing_when_every_record_would_fail(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a defect of ours, or packages that do not fit each other."""

    def decided(_raw: bytes, _decision: bytes) -> bytes:
        raise TypeError

    monkeypatch.setattr(deciding, "with_decision", decided)
    function = DecideTransactions(registry)
    function.open(Counters())
    with pytest.raises(EveryRecordFails, match="TypeError in decided"):
        function.eval(*columns_of([a_value(), a_value()]))
    function.close()


def test_the_sound_record_is_valid() -> None:
    """Else a single bad record would stop the job."""
    assert decode(SOUND_RECORD).event_id == "sound"
