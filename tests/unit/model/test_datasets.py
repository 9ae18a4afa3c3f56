"""Files and mappings of anyone's transactions."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from fraud.contracts.transaction import from_mapping
from model.datasets import ColumnMapping, Dataset, DatasetError
from model.reading import read_rows

FIELDS = {
    "event_id": "id",
    "entity_id": "who",
    "event_time": "at",
    "transaction_amt": "price",
    "transaction_currency": "money",
    "label": "bad",
}
MAPPING = ColumnMapping(FIELDS)
EXAMPLES = Path(__file__).parents[3] / "examples"


def records(path: Path, mapping: ColumnMapping = MAPPING, **options) -> list:
    return list(Dataset(path, **options).records(mapping))


def a_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def read_all(path: Path) -> None:
    dataset = Dataset(path)
    dataset.columns()
    list(dataset.rows())


def test_the_example_maps_whole() -> None:
    """1,611 rows: 95 fraud, 715 legitimate, 801 not known; every row obeys the contract."""
    mapping = ColumnMapping.read(EXAMPLES / "transactions_2k.toml")
    rows = records(EXAMPLES / "transactions_2k.csv", mapping)
    labels = [row.label for row in rows]
    assert len(rows) == 1_611
    assert (labels.count(True), labels.count(False), labels.count(None)) == (95, 715, 801)
    for row in rows:
        from_mapping(row.record)
    assert rows[0].record["transaction_amt"] == "7.53"
    assert rows[0].label_time == "2022-12-24T15:53:30Z"
    assert "ENTITY_TYPE" not in rows[0].record


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    content = "id,who,at,price,money,bad\n1,c1,2026-01-01T00:00:00,9.99,EUR,1\n".replace(
        ",", delimiter
    )
    (row,) = records(a_file(tmp_path, "a.csv", content.encode()))
    assert row.record["transaction_currency"] == "EUR"
    assert row.label is True


def test_a_csv_is_read_as_it_stands(tmp_path: Path) -> None:
    """A byte-order mark, quotes, line breaks in quotes, leading zeros, empty and missing cells."""
    content = (
        b'\xef\xbb\xbfid,who,at,price,money,bad\r\n007,"a, ""b""\nc",,1e3,usd,\r\n8,c2\r\n\r\n'
    )
    first, second = records(a_file(tmp_path, "a.csv", content))
    assert first.record == {
        "event_id": "007",
        "entity_id": 'a, "b"\nc',
        "transaction_amt": "1e3",
        "transaction_currency": "usd",
    }
    assert first.label is None
    assert second.record == {"event_id": "8", "entity_id": "c2"}


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    csv = b"id,who,at,price,money,bad\na,c1,2026-01-01T00:00:00Z,1.5,EUR,0\nb,c2,2026-01-01T00:00:01Z,2.5,EUR,1\nc,c3,2026-01-01T00:00:02Z,3.5,EUR,\n"
    lines = b"".join(
        b'{"id":"%s","who":"c%d","at":"2026-01-01T00:00:0%dZ","price":"%d.5","money":"EUR","bad":%s}\n'
        % (b"abc"[i : i + 1], i + 1, i, i + 1, (b"0", b"1", b"null")[i])
        for i in range(3)
    )
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "who": ["c1", "c2", "c3"],
            "at": [f"2026-01-01T00:00:0{i}Z" for i in range(3)],
            "price": ["1.5", "2.5", "3.5"],
            "money": ["EUR"] * 3,
            "bad": pa.array([0, 1, None], pa.int64()),
        }
    )
    parquet.write_table(table, str(tmp_path / "a.parquet"))
    expected = records(a_file(tmp_path, "a.csv", csv))
    assert [row.label for row in expected] == [False, True, None]
    for path in (
        a_file(tmp_path, "a.csv.gz", csv),
        a_file(tmp_path, "a.jsonl", lines),
        a_file(tmp_path, "a.ndjson.gz", lines),
        tmp_path / "a.parquet",
    ):
        assert records(path) == expected, path.name


def test_typed_values_become_what_json_has(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": [1, 2],
            "who": pa.array([10, None], pa.int64()),
            "at": pa.array([datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 2)], pa.timestamp("us")),  # noqa: DTZ001 - a file without zones
            "price": [Decimal("9.90"), Decimal("1.00")],
            "money": ["EUR", "EUR"],
            "bad": [1.0, float("nan")],
        }
    )  # fmt: skip
    parquet.write_table(table, str(tmp_path / "a.parquet"))
    first, second = records(tmp_path / "a.parquet")
    assert first.record == {
        "event_id": "1",
        "entity_id": "10",
        "event_time": "2026-01-01T12:00:00.000Z",
        "transaction_amt": "9.90",
        "transaction_currency": "EUR",
    }
    assert (first.label, second.label) == (True, None)
    assert "entity_id" not in second.record


def test_a_line_that_is_no_json_is_kept_as_it_is(tmp_path: Path) -> None:
    good = b'{"id":"a","who":"c","at":"x","price":1,"money":"EUR","bad":1}'
    rows = records(a_file(tmp_path, "a.jsonl", good + b"\n{broken\n[1]\r\n\n"))
    assert [row.record for row in rows][1:] == [b"{broken", b"[1]"]
    assert len(rows) == 3


def test_labels_mean_what_the_mapping_says() -> None:
    mapping = ColumnMapping(FIELDS, fraud=frozenset({"yes", "true"}), legitimate=frozenset({"no"}))
    said = [
        mapping.apply({"bad": bad}).label for bad in ("yes", True, " No ", "maybe", "", None, 0)
    ]
    assert said == [True, True, False, None, None, None, None]


@pytest.mark.parametrize("named", ["['True']", "[true]", "['1.0']", "[1]", "['TRUE', 'x']"])
def test_a_label_is_the_same_however_it_is_written(tmp_path: Path, named: str) -> None:
    """As text, number or truth value, in the mapping and in the file."""
    fields = "".join(f"{ours} = '{theirs}'\n" for ours, theirs in FIELDS.items())
    text = f"[fields]\n{fields}[labels]\nfraud = {named}\nlegitimate = [false]\n"
    mapping = ColumnMapping.read(a_file(tmp_path, "m.toml", text.encode()))
    for value in (True, "True", "true", 1, 1.0, "1", "1.0", "1.00"):
        assert mapping.label_of(value) is True, value
    for value in (False, "FALSE", 0, 0.0, "0.0"):
        assert mapping.label_of(value) is False, value
    assert mapping.label_of("10") is None


def test_a_date_is_over_when_its_label_is_known() -> None:
    mapping = ColumnMapping(FIELDS | {"label_time": "known"})
    for value in ("2026-03-01", date(2026, 3, 1)):
        row = mapping.apply({"bad": 1, "known": value})
        assert row.label_time == "2026-03-01T23:59:59.999Z"
    (verdict,) = read_rows(mapping, {"id": ["1"], "who": ["c"], "at": [date(2026, 3, 1)]}, 1).transactions  # fmt: skip
    assert "event_time: expected an ISO 8601 date and time; it has no time of day" in str(verdict)


def test_a_stray_quote_is_said_with_its_line(tmp_path: Path) -> None:
    """It would swallow all rows up to the next quote."""
    row = b"%d,c,2026-01-01T00:00:00,1,EUR,%s\n"
    rows = [row % (at, b"0") for at in range(40)]
    for stray in (b'"0', b'"0" x'):
        content = b"id,who,at,price,money,bad\n" + b"".join(
            [*rows[:7], row % (7, stray), *rows[8:]]
        )
        with pytest.raises(DatasetError, match=r"a\.csv: line 9: a row begins here with a quote"):
            records(a_file(tmp_path, "a.csv", content))
    many = b'id,who,at,price,money,bad\n1,"' + b"x\n" * 120 + b'",,,,\n'
    with pytest.raises(DatasetError, match=r"line 2: .*: it takes 121 lines"):
        records(a_file(tmp_path, "a.csv", many))


def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    """Its values belong to no column for certain; empty cells at its end are nothing."""
    content = b"id,who,at,price,money,bad\n1,c,2026-01-01T00:00:00,1,00,EUR,1\n2,c,2026-01-01T00:00:00,1,EUR,1,, \n"
    path = a_file(tmp_path, "a.csv", content)
    first, second = records(path)
    assert first.record == b"1,c,2026-01-01T00:00:00,1,00,EUR,1"
    assert second.label is True
    (batch,) = Dataset(path).batches(["id"])
    assert (batch.rows, batch.columns["id"]) == (1, ["2"])
    assert batch.broken == {"expected no more cells than the header has": 1}


def test_whole_floats_are_the_text_of_their_digits() -> None:
    """As data frames keep numbers in a column with gaps."""
    mapping = ColumnMapping(FIELDS | {"card_bin": "bin"})
    row = {
        "id": 7.0,
        "who": 12.0,
        "at": "2026-01-01T00:00:00",
        "price": 1.0,
        "money": "EUR",
        "bin": 411111.0,
    }
    record = mapping.apply(row).record
    assert (record["event_id"], record["entity_id"], record["card_bin"]) == ("7", "12", "411111")
    (read,) = read_rows(mapping, {name: [value] for name, value in row.items()}, 1).transactions
    assert read == from_mapping(record)
    (broken,) = read_rows(mapping, {**{n: [v] for n, v in row.items()}, "who": [1.5]}, 1).transactions  # fmt: skip
    assert "entity_id: expected text" in str(broken)


def test_a_column_of_json_lines_may_come_late(tmp_path: Path) -> None:
    """Labels of the oldest rows may not be known; a column in no row at all is a mistake."""
    row = b'{"id":"%d","who":"c","at":"2026-01-01T00:00:00","price":1,"money":"EUR"%s}\n'
    early = b"".join(row % (at, b"") for at in range(1_200))
    rows = records(a_file(tmp_path, "a.jsonl", early + row % (1_200, b',"bad":1')))
    assert [one.label for one in rows[-2:]] == [None, True]
    path = a_file(tmp_path, "b.jsonl", early)
    with pytest.raises(DatasetError, match=r"label = .bad.: b\.jsonl has no such column"):
        records(path)
    other = ColumnMapping({**FIELDS, "event_id": "nr"})
    with pytest.raises(DatasetError, match="event_id = 'nr'"):
        Dataset(path).check(other)


@pytest.mark.parametrize(
    ("constants", "complaint"),
    [
        ({"transaction_currency": "EURO"}, "m: [constants] transaction_currency: expected a currency code"),
        ({"transaction_currency": 978}, "m: [constants] transaction_currency: expected a currency code"),
        ({"transaction_currency": ""}, "m: [constants] transaction_currency: expected a value"),
    ],
)  # fmt: skip
def test_a_constant_at_fault_is_the_mappings(constants: dict[str, Any], complaint: str) -> None:
    fields = {ours: theirs for ours, theirs in FIELDS.items() if ours != "transaction_currency"}
    with pytest.raises(DatasetError) as refusal:
        ColumnMapping(fields, constants, name="m")
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[fields]\nentty_id = 'x'\n", "fields.entty_id: there is no such field of ours; did you mean entity_id?"),
        ("[fields]\nevent_id = 'x'\n", "entity_id, event_time, transaction_amt, transaction_currency"),
        ("[feilds]\n", "unknown section [feilds]; did you mean fields?"),
        ("[fields]\nevent_id = 3\n", "expected the name of a column in quotes"),
        ("[constants]\nchannel = true\n", "[constants] channel: expected text or a number"),
        ("[constants]\nevent_id = 'x'\n", "would be the same for every row"),
        ("[fields]\nchannel = 'a'\n[constants]\nchannel = 'x'\n", "channel is in [fields] and in [constants]"),
        ("[labels]\nfruad = ['1']\n", "[labels] fruad: expected fraud or legitimate"),
        ("[labels]\nfraud = ['0']\n", "label '0' means both"),
        ("[fields]\nlabel_time = 'x'\n", "label_time is mapped and label is not"),
        ("[fields\n", "not TOML"),
        ("fields = 3\n", "[fields] must be a table"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        ColumnMapping.read(a_file(tmp_path, "m.toml", text.encode()))
    assert complaint in str(refusal.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = a_file(tmp_path, "m.toml", b"[fields]\nfoo = 'x'\nbar = 'y'\n")
    with pytest.raises(DatasetError) as refusal:
        ColumnMapping.read(path)
    assert len(refusal.value.problems) == 3


def test_a_missing_column_is_named_beside_those_there_are(tmp_path: Path) -> None:
    path = a_file(tmp_path, "a.csv", b"ID,who,at,amount,money,bad\n")
    with pytest.raises(DatasetError) as refusal:
        records(path)
    assert "event_id = 'id': a.csv has no such column; did you mean ID?" in str(refusal.value)
    assert "transaction_amt = 'price'" in str(refusal.value)
    assert "a.csv has the columns: ID, who, at, amount, money, bad" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"", "expected a header line"),
        ("a.csv", b"id,id\n", "columns named twice: id"),
        ("a.csv", b"id,who\n\xff,1\n", "not in the encoding utf-8-sig"),
        ("a.jsonl", b"[1]\n", "expected one JSON object a line"),
        ("a.json", b'[{"id": 1}]', r"by: jq -c '\.\[\]' a\.json > lines\.jsonl"),
        ("a.json", b'{\n "id": 1\n}\n', r"by: jq -c \. a\.json > lines\.jsonl"),
        ("a.parquet", b"PAR1 or not", "not readable as Parquet"),
        ("a.xlsx", b"", "expected a name ending in"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = a_file(tmp_path, name, content)
    with pytest.raises(DatasetError, match=complaint):
        read_all(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,who,at,price,money,bad\n" + b"1,2,3,4,5,6\n" * 5_000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[:-20])
    with pytest.raises(DatasetError, match="cannot be read"):
        records(path)


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    path = a_file(tmp_path, "a.csv", "id,who,at,price,money,bad\n1,Zoë,3,4,5,6\n".encode("latin-1"))
    assert records(path, encoding="latin-1")[0].record["entity_id"] == "Zoë"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        Dataset(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="is a folder; name its files"):
        Dataset(tmp_path)


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    dataset = Dataset(EXAMPLES / "transactions_2k.csv")
    shares = [dataset.progress.done / dataset.progress.total for _ in dataset.rows()]
    assert shares == sorted(shares)
    assert shares[0] < 1
    assert dataset.progress.done == dataset.progress.total
