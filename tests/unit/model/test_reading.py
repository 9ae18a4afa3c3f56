"""Reading in columns gives what reading row by row gives, whatever is in the file."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import FIELDS, Kind, Transaction, from_mapping
from model.datasets import ColumnMapping, Dataset, LabelledRecord
from model.reading import Rows, read_rows

EXAMPLES = Path(__file__).parents[3] / "examples"

USUAL: dict[Kind, list[Any]] = {
    Kind.ID: ["e1", "e2", 7],
    Kind.TEXT: ["a", "b", 12, None],
    Kind.NUMBER: [1.5, -2.0, 3, "4.5", None],
    Kind.TIME: ["2026-03-01T00:00:00Z", "2026-03-01 00:00:00.5+02:00"],
    Kind.CURRENCY: ["USD", "eur"],
}
ODD: list[Any] = [
    None, "", " ", "x" * 300, 0, -1, 10**18, 2**63, True, False, 1.0, math.nan, math.inf, 1e300, "1e400",
    "1,5", "tomorrow", "1969-01-01T00:00:00", "2026-01-01", "9999-12-31T23:59:59-14:00", "EURO", "e", [], {"a": 1},
    datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), Decimal("9.90"), Decimal("NaN"), b"\xff", "\ud800", "\x00",
]  # fmt: skip
MAPPING = ColumnMapping(
    {field.name: field.name for field in FIELDS} | {"label": "label", "label_time": "label_time"},
    fraud=frozenset({"1", "true"}),
)


def same(one: Transaction | InvalidMessage, other: Transaction | InvalidMessage) -> bool:
    if isinstance(one, InvalidMessage) and isinstance(other, InvalidMessage):
        return (one.reason, one.detail) == (other.reason, other.detail)
    return one == other


def row_by_row(mapping: ColumnMapping, rows: list[LabelledRecord]) -> Rows:
    transactions: list[Transaction | InvalidMessage] = []
    for record, _, _ in rows:
        try:
            transactions.append(from_mapping(record))
        except InvalidMessage as verdict:
            transactions.append(verdict)
    return Rows(transactions, [row.label for row in rows], [row.label_time for row in rows])


def check(read: Rows, expected: Rows) -> None:
    assert len(read.transactions) == len(expected.transactions)
    for one, other in zip(read.transactions, expected.transactions, strict=True):
        assert same(one, other), (one, other)
    assert read.label == expected.label
    assert read.label_time == expected.label_time


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Draw a few rows: most columns of the usual types, some with anything at all."""
    count = draw(st.integers(1, 6))
    columns = {}
    for field in FIELDS:
        usual = st.sampled_from(USUAL[field.kind])
        value = draw(st.sampled_from([usual, usual, usual, st.one_of(usual, st.sampled_from(ODD))]))
        columns[field.name] = draw(st.lists(value, min_size=count, max_size=count))
    said = st.sampled_from([0, 1, "1", 1.0, True, "maybe", *ODD])
    columns["label"] = draw(st.lists(said, min_size=count, max_size=count))
    columns["label_time"] = draw(st.lists(st.sampled_from(ODD), min_size=count, max_size=count))
    return columns


@given(tables())
def test_columns_give_what_rows_give(columns: dict[str, list[Any]]) -> None:
    count = len(columns["label"])
    rows = [{name: values[at] for name, values in columns.items()} for at in range(count)]
    check(
        read_rows(MAPPING, columns, count),
        row_by_row(MAPPING, [MAPPING.apply(row) for row in rows]),
    )


def read_both(path: Path, mapping: ColumnMapping) -> tuple[Rows, Rows]:
    batches = [
        read_rows(mapping, columns, count)
        for columns, count, _ in Dataset(path).batches([*mapping.fields.values()])
    ]
    read = Rows(
        [one for batch in batches for one in batch.transactions],
        [one for batch in batches for one in batch.label],
        [one for batch in batches for one in batch.label_time],
    )
    rows = [row for row in Dataset(path).records(mapping) if not isinstance(row.record, bytes)]
    return read, row_by_row(mapping, rows)


def test_the_example_reads_the_same() -> None:
    mapping = ColumnMapping.read(EXAMPLES / "transactions_2k.toml")
    read, expected = read_both(EXAMPLES / "transactions_2k.csv", mapping)
    check(read, expected)
    assert len(read.transactions) == 1611


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_reads_the_same(tmp_path: Path, suffix: str) -> None:
    """Short rows, long ones, empty lines, broken ones, columns of nothing."""
    path = tmp_path / f"a.{suffix}"
    head = ["event_id", "entity_id", "event_time", "transaction_amt", "channel", "label"]
    if suffix == "csv":
        path.write_text(
            ",".join(head)
            + "\n1,c,2026-03-01T00:00:00,9.9,web,1\n2,c\n\n3,c,2026-03-01T00:00:00,1e999,,\n4,c,2026-03-01T00:00:00,5,web,0,more\n"
        )
    elif suffix == "jsonl":
        rows: list[Any] = [
            dict(zip(head, ("1", "c", "2026-03-01T00:00:00", 9.9, None, 1), strict=True)),
            {"event_id": 2},
            [1],
        ]
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n{broken\n")
    else:
        table = {
            "event_id": [1, 2, 3],
            "entity_id": ["c", None, "d"],
            "event_time": [datetime(2026, 3, 1, tzinfo=UTC)] * 3,
            "transaction_amt": pa.array([Decimal("1.50"), None, Decimal("2.50")]),
            "channel": pa.nulls(3),
            "label": pa.array([1.0, float("nan"), None]),
        }
        parquet.write_table(pa.table(table), str(path))
    mapping = ColumnMapping({name: name for name in head}, {"transaction_currency": "usd"})
    read, expected = read_both(path, mapping)
    check(read, expected)
    assert isinstance(read.transactions[0], Transaction)
    assert isinstance(read.transactions[1], InvalidMessage)


def test_labels_that_mean_nothing_are_counted() -> None:
    """Counted by their text; an empty cell does not count."""
    said = ["chargeback", 1, "chargeback", None, "", math.nan, 2.0, " "]
    found = read_rows(MAPPING, {"label": said}, len(said)).other_labels
    assert found == {"chargeback": 2, "2.0": 1}
