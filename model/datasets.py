"""Transactions in CSV, JSON lines and Parquet files, and the mapping of their columns to fields.

A mapping is a TOML file:

    [fields]                      # field of the contract = "column of the file"
    event_id = "EVENT_ID"
    label = "EVENT_LABEL"         # beside the record's fields: label, label_time

    [constants]                   # field of the contract = a value for every row
    transaction_currency = "USD"

    [labels]                      # meanings of label values; the defaults are:
    fraud = ["1"]                 # also 1.0, true, TRUE
    legitimate = ["0"]            # also 0.0, false

Values are kept as they stand in the file; empty ones are absent. Rows that the contract refuses
are not dropped here: callers decide (the stream dead-letters them, so that every row is accounted
for).
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import itertools
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, NamedTuple

import orjson

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.label import LabelValue, end_of_date, label_key
from fraud.contracts.transaction import FIELD_BY_NAME, FIELDS, Kind, read_field

LABEL: Final = "label"
LABEL_TIME: Final = "label_time"
TARGETS: Final = (*FIELD_BY_NAME, LABEL, LABEL_TIME)
"""Fields that a mapping can fill: those of the record, the label and its time."""
MADE_BY: Final = "made_by"
"""Key in a Parquet file's metadata, or in the first JSON line, for the program that wrote the file."""

SIMULATOR: Final = "fraudstream simulate"
"""Value of `MADE_BY` in the simulator's files."""

_SECTIONS: Final = ("fields", "constants", "labels")
_DELIMITERS: Final = ",;\t|"
_MOST_LINES: Final = 100
"""Most lines of one CSV row: a stray quote swallows hundreds, no remark is as long."""
_SAMPLED_ROWS: Final = 1_000
_BATCH_ROWS: Final = 5_000
_BUFFER_BYTES: Final = 1 << 18


class DatasetError(ValueError):
    """Unusable file or mapping, explained for the person who wrote it.

    Attributes:
        problems: All problems that were found, one sentence each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _nearest(name: str, known: Sequence[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[found[0]]}?" if found else ""


class LabelledRecord(NamedTuple):
    """One row of a file after the mapping.

    Attributes:
        record: Values as they stand in the file, by field of the contract; or the bytes of a line that
            could not be parsed.
        label: True for fraud, False for legitimate, None if unknown.
        label_time: Time at which the label became known, as text; None if unknown.
    """

    record: dict[str, Any] | bytes
    label: bool | None
    label_time: str | None


@dataclass(frozen=True)
class ColumnMapping:
    """Mapping from the columns of a file to the fields of the contract.

    Attributes:
        fields: Column of the file by field.
        constants: Value for every row by field.
        fraud: Label values, as text, that mean fraud.
        legitimate: Label values, as text, that mean legitimate.
        name: Name of the mapping file, for messages.
    """

    fields: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    fraud: frozenset[str] = frozenset({"1"})
    legitimate: frozenset[str] = frozenset({"0"})
    name: str = "mapping"

    def __post_init__(self) -> None:
        problems = [
            f"{self.name}: {section}.{target}: there is no such field of ours{_nearest(target, TARGETS)}"
            for section, targets in (("fields", self.fields), ("constants", self.constants))
            for target in targets
            if target not in TARGETS
        ]
        problems += [
            f"{self.name}: {target} is in [fields] and in [constants]; it can come from one only"
            for target in self.fields
            if target in self.constants
        ]
        missing = [
            f.name
            for f in FIELDS
            if f.required and f.name not in self.fields and f.name not in self.constants
        ]
        if missing:
            problems.append(
                f"{self.name}: required and mapped by neither [fields] nor [constants]: {', '.join(missing)}"
            )
        problems += [
            f"{self.name}: [constants] {target} would be the same for every row; map a column"
            for target in ("event_id", "event_time")
            if target in self.constants
        ]
        problems += [
            f"{self.name}: label {value!r} means both fraud and legitimate"
            for value in sorted(self.fraud)
            if label_key(value) in {label_key(other) for other in self.legitimate}
        ]
        for target, value in self.constants.items():
            # Otherwise every row would be refused, and the message would blame the rows.
            try:
                if target in FIELD_BY_NAME and read_field(FIELD_BY_NAME[target], value) is None:
                    problems.append(f"{self.name}: [constants] {target}: expected a value")
            except InvalidMessage as verdict:
                problems.append(f"{self.name}: [constants] {verdict.detail}")
        if LABEL_TIME in self.fields and LABEL not in self.fields and LABEL not in self.constants:
            problems.append(f"{self.name}: label_time is mapped and label is not")
        if problems:
            raise DatasetError(*problems)

    @classmethod
    def read(cls, path: Path) -> ColumnMapping:
        """Read a mapping file.

        Raises:
            DatasetError: The file does not exist, is not TOML, or its mapping is invalid; the message
                lists all problems.
        """
        try:
            document = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path.name}: not TOML in UTF-8: {error}") from None
        problems = [
            f"{path.name}: unknown section [{name}]{_nearest(name, _SECTIONS)}"
            for name in document
            if name not in _SECTIONS
        ]
        problems += [
            f"{path.name}: [{name}] must be a table"
            for name in _SECTIONS
            if not isinstance(document.get(name, {}), dict)
        ]
        if problems:
            raise DatasetError(*problems)
        fields, constants = document.get("fields", {}), document.get("constants", {})
        labels = document.get("labels", {})
        problems += [
            f"{path.name}: [fields] {target}: expected the name of a column in quotes"
            for target, column in fields.items()
            if not isinstance(column, str)
        ]
        problems += [
            f"{path.name}: [constants] {target}: expected text or a number"
            for target, value in constants.items()
            if isinstance(value, bool) or not isinstance(value, str | int | float)
        ]
        problems += [
            f"{path.name}: [labels] {meaning}: expected fraud or legitimate, each a list of values"
            for meaning, values in labels.items()
            if meaning not in ("fraud", "legitimate") or not isinstance(values, list)
        ]
        if problems:
            raise DatasetError(*problems)
        return cls(
            fields=fields,
            constants=constants,
            fraud=frozenset(_as_text(value) for value in labels.get("fraud", ["1"])),
            legitimate=frozenset(_as_text(value) for value in labels.get("legitimate", ["0"])),
            name=path.name,
        )

    @property
    def is_ours(self) -> bool:
        """Whether columns are named like the fields, so that nothing is mapped."""
        return not self.constants and all(name == column for name, column in self.fields.items())

    def without_labels(self) -> ColumnMapping:
        """Return the same mapping without labels, for files that lack them or are only scored."""
        labels = (LABEL, LABEL_TIME)
        return replace(
            self,
            fields={name: one for name, one in self.fields.items() if name not in labels},
            constants={name: one for name, one in self.constants.items() if name not in labels},
        )

    def check(
        self, columns: Sequence[str], file: str = "the file", *, required_only: bool = False
    ) -> None:
        """Check that a file has the mapped columns.

        Args:
            columns: Columns of the file.
            file: Name of the file.
            required_only: Whether columns of optional fields and labels may be missing.

        Raises:
            DatasetError: A column is missing; the message lists the existing ones.
        """
        missing = [
            f"{self.name}: {target} = {column!r}: {file} has no such column{_nearest(column, columns)}"
            for target, column in self.fields.items()
            if column not in columns
            and not (required_only and (target not in FIELD_BY_NAME or not FIELD_BY_NAME[target].required))
        ]  # fmt: skip
        if missing:
            raise DatasetError(*missing, f"{file} has the columns: {', '.join(columns)}")

    def apply(self, row: Mapping[str, Any]) -> LabelledRecord:
        """Map one row; empty values are absent, unmapped columns are left out.

        Example:
            >>> mapping = ColumnMapping(
            ...     {"event_id": "id", "entity_id": "who", "event_time": "at",
            ...      "transaction_amt": "price", "label": "bad"},
            ...     {"transaction_currency": "EUR"},
            ... )
            >>> mapping.apply({"id": 7, "who": "c1", "at": "2026-03-01 10:00:00", "price": "9.99", "bad": "1"})
            LabelledRecord(record={'event_id': '7', 'entity_id': 'c1', 'event_time': \
'2026-03-01 10:00:00', 'transaction_amt': '9.99', 'transaction_currency': 'EUR'}, label=True, label_time=None)
        """
        record: dict[str, Any] = {}
        for target, column in self.fields.items():
            value = plain_value(row.get(column))
            if value is None or value == "":
                continue
            record[target] = digits(value) if target in _TEXTUAL else value
        record.update(self.constants)
        label = record.pop(LABEL, None)
        label_time = record.pop(LABEL_TIME, None)
        return LabelledRecord(record, self.label_of(label), label_time_text(label_time))

    def label_of(self, value: Any) -> bool | None:
        """Return the meaning of a label: True for fraud, False for legitimate, None if unknown.

        Example:
            >>> mapping = ColumnMapping({f.name: f.name for f in FIELDS})
            >>> [mapping.label_of(value) for value in (1, "1.0", True, "FALSE", "pending")]
            [True, True, True, False, None]
        """
        return None if value is None else self._meaning.get(label_key(value))

    @cached_property
    def _meaning(self) -> dict[str, bool]:
        meant = ((True, self.fraud), (False, self.legitimate))
        return {label_key(value): meaning for meaning, values in meant for value in values}


_TEXTUAL: Final = frozenset(f.name for f in FIELDS if f.kind in (Kind.ID, Kind.TEXT))
_EXACT: Final = 2.0**53
"""Whole numbers below it are exact in a float; larger ones may not be."""


def digits(value: Any) -> Any:
    """Return a whole number as text, any other value unchanged.

    Text fields, such as ids, are numbers in many files, and floats in columns with gaps.

    Example:
        >>> [digits(value) for value in (411111, 411111.0, 1.5, "7")]
        ['411111', '411111', 1.5, '7']
    """
    if type(value) is int or (
        type(value) is float and value.is_integer() and -_EXACT < value < _EXACT
    ):
        return str(int(value))
    return value


def label_time_text(value: Any) -> str | None:
    """Return a label's time as text; a date becomes its end, when the label was known for certain.

    Example:
        >>> label_time_text("2026-03-01")
        '2026-03-01T23:59:59.999Z'
    """
    value = plain_value(value)
    if value is None or value == "":
        return None
    return end_of_date(str(value))


def label_value(label: bool) -> LabelValue:
    """Return a label's value on the topic `labels`."""
    return LabelValue.FRAUD if label else LabelValue.LEGITIMATE


def _as_text(value: Any) -> str:
    """Return a label as text; 1.0, which 1 becomes in columns with gaps, is again 1.

    Example:
        >>> [_as_text(value) for value in (1, 1.0, " 1 ", True)]
        ['1', '1', '1', 'true']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def plain_value(value: Any) -> Any:
    """Convert a file's typed value to a JSON value; NaN and infinity become None."""
    if value is None or type(value) is str or type(value) is int or type(value) is bool:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


class ColumnBatch(NamedTuple):
    """Batch of rows, stored by column.

    Attributes:
        columns: Values as they stand in the file, by column; None means absent.
        rows: Number of rows.
        broken: Further rows that could not be parsed, counted by what was expected.
    """

    columns: dict[str, list[Any]]
    rows: int
    broken: Counter[str]


class Progress(NamedTuple):
    """How far a file has been read; only the ratio of both numbers means something."""

    done: int
    total: int


@dataclass
class Dataset:
    """A file of transactions.

    Attributes:
        path: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json` (lines) or `.parquet`; all but the last
            also with `.gz`.
        delimiter: Delimiter of a CSV; None detects comma, semicolon, tab or bar from the header.
        encoding: Encoding of a CSV; None means UTF-8, or UTF-16 if the file begins with its mark.
        progress: How far it has been read.
        seen: Columns found in rows of JSON lines so far.
    """

    path: Path
    delimiter: str | None = None
    encoding: str | None = None
    progress: Progress = field(default_factory=lambda: Progress(0, 1))
    seen: dict[str, None] = field(default_factory=dict)
    _sample_is_all: bool = False

    def __post_init__(self) -> None:
        if self.path.is_dir():
            raise DatasetError(f"{self.path}: is a folder; name its files, each by itself")
        if not self.path.is_file():
            raise DatasetError(f"{self.path}: no such file")
        if self.kind not in ("csv", "jsonl", "parquet"):
            raise DatasetError(
                f"{self.path.name}: expected a name ending in .csv, .tsv, .jsonl, .ndjson, .json, .parquet, or one of these and .gz"
            )

    @property
    def kind(self) -> str:
        """Format by the file's name: `csv`, `jsonl`, `parquet`, or an unknown suffix."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes.pop()
        known = {
            ".csv": "csv",
            ".tsv": "csv",
            ".jsonl": "jsonl",
            ".ndjson": "jsonl",
            ".json": "jsonl",
            ".parquet": "parquet",
        }
        last = suffixes[-1] if suffixes else ""
        return known.get(last, last)

    def columns(self) -> list[str]:
        """Return the names of the columns; for JSON lines, those in the first thousand rows.

        Raises:
            DatasetError: The file cannot be read.
        """
        if self.kind == "parquet":
            with self._parquet() as file:
                return list(file.schema_arrow.names)
        if self.kind == "csv":
            with self._csv() as (header, _):
                return header
        sample = list(itertools.islice(self._json_rows(), _SAMPLED_ROWS))
        for row in sample:
            if isinstance(row, dict):
                self.seen.update(dict.fromkeys(row))
        self._sample_is_all = len(sample) < _SAMPLED_ROWS
        if not self.seen:
            first = sample[0] if sample and isinstance(sample[0], bytes) else b""
            said = f"{self.path.name}: {_ONE_A_LINE}"
            if first.lstrip().startswith((b"[", b"{")):
                each = "'.[]'" if first.lstrip().startswith(b"[") else "."
                said += f"; make such a file by: jq -c {each} {self.path.name} > lines.jsonl"
            raise DatasetError(said)
        return list(self.seen)

    def check(self, mapping: ColumnMapping) -> None:
        """Check that the file has the mapped columns.

        Rows of JSON lines may differ in their columns: in long files only the required ones are checked
        here, the others by `check_seen` after all rows were read.

        Raises:
            DatasetError: A column is missing, or the file cannot be read.
        """
        columns = self.columns()
        late = self.kind == "jsonl" and not self._sample_is_all
        mapping.check(columns, self.path.name, required_only=late or self._own_names(mapping))

    def check_seen(self, mapping: ColumnMapping) -> None:
        """Check, after reading JSON lines, that every mapped column occurred in some row.

        Raises:
            DatasetError: A column never occurred.
        """
        if self.kind == "jsonl" and not self._own_names(mapping):
            mapping.check(list(self.seen), self.path.name)

    def _own_names(self, mapping: ColumnMapping) -> bool:
        """Return whether columns of JSON lines are read under the fields' names, where they occur."""
        return self.kind == "jsonl" and mapping.is_ours

    def made_by(self) -> str:
        """Return the program that wrote the file, empty if the file does not name it.

        Raises:
            DatasetError: The file cannot be read.
        """
        if self.kind == "parquet":
            with self._parquet() as file:
                said: bytes = (file.schema_arrow.metadata or {}).get(MADE_BY.encode(), b"")
                return said.decode("utf-8", "replace")
        first = next(self._json_rows(), None) if self.kind == "jsonl" else None
        return str(first.get(MADE_BY, "")) if isinstance(first, dict) else ""

    def _note(self, wanted: Iterable[str], rows: Sequence[dict[str, Any] | bytes]) -> None:
        for name in wanted:
            if name not in self.seen and any(isinstance(row, dict) and name in row for row in rows):
                self.seen[name] = None

    def rows(self, only: Sequence[str] | None = None) -> Iterator[dict[str, Any] | bytes]:
        """Return the rows in the file's order; a row that could not be parsed is bytes.

        Args:
            only: Wanted columns; others may be returned too. None wants all.

        Raises:
            DatasetError: The file cannot be read to its end.
        """
        if self.kind == "csv":
            return self._csv_rows()
        return self._parquet_rows(only) if self.kind == "parquet" else self._json_rows()

    def batches(self, only: Sequence[str]) -> Iterator[ColumnBatch]:
        """Yield the rows in the file's order, a few thousand at a time, stored by column.

        Args:
            only: Wanted columns.

        Raises:
            DatasetError: The file cannot be read to its end.
        """
        if self.kind == "parquet":
            for batch in self._parquet_batches(only):
                values = [_python_values(column) for column in batch.columns]
                named = dict(zip(batch.schema.names, values, strict=True))
                yield ColumnBatch(named, batch.num_rows, Counter())
        elif self.kind == "csv":
            yield from self._csv_batches(only)
        else:
            lines = self._json_rows()
            while taken := list(itertools.islice(lines, _BATCH_ROWS)):
                rows = [row for row in taken if isinstance(row, dict)]
                broken = Counter(
                    f"{_ONE_A_LINE}{_NAN_HINT if _NAN.search(row) else ''}"
                    for row in taken
                    if isinstance(row, bytes)
                )
                columns = {name: [row.get(name) for row in rows] for name in only}
                self._note(only, rows)
                yield ColumnBatch(columns, len(rows), broken)

    def _csv_batches(self, only: Sequence[str]) -> Iterator[ColumnBatch]:
        with self._csv() as (header, rows):
            wanted = [(name, header.index(name)) for name in dict.fromkeys(only) if name in header]
            width = len(header)
            while taken := list(itertools.islice(rows, _BATCH_ROWS)):
                # Missing cells count as empty ones.
                whole = [
                    cells if len(cells) >= width else cells + [""] * (width - len(cells))
                    for cells in taken
                    if not _too_many(cells, width)
                ]
                columns = {name: [cells[at] for cells in whole] for name, at in wanted}
                broken = Counter({_MORE_CELLS: len(taken) - len(whole)})
                yield ColumnBatch(columns, len(whole), +broken)

    def records(self, mapping: ColumnMapping) -> Iterator[LabelledRecord]:
        """Return the mapped rows in the file's order.

        Raises:
            DatasetError: The file lacks a mapped column or cannot be read.
        """
        self.check(mapping)
        return self._mapped(mapping)

    def _mapped(self, mapping: ColumnMapping) -> Iterator[LabelledRecord]:
        columns = [*mapping.fields.values()]
        for row in self.rows(columns):
            if self.kind == "jsonl" and not mapping.is_ours:
                self._note(columns, [row])
            yield LabelledRecord(row, None, None) if isinstance(row, bytes) else mapping.apply(row)
        self.check_seen(mapping)

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        total = max(self.path.stat().st_size, 1)
        try:
            with self.path.open("rb") as file:
                self.progress = Progress(0, total)
                if self.path.suffix.lower() == ".gz":
                    with gzip.open(file) as unpacked:
                        yield io.BufferedReader(_Watched(unpacked, file, self), _BUFFER_BYTES)
                else:
                    yield io.BufferedReader(_Watched(file, file, self), _BUFFER_BYTES)
                self.progress = Progress(total, total)
        except (OSError, EOFError) as error:
            raise DatasetError(f"{self.path.name}: cannot be read: {error}") from None

    @contextmanager
    def _csv(self) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
        with self._opened() as file:
            start = file.peek(2)[:2]
            marked = (
                "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
            )
            encoding = self.encoding or marked
            try:
                text = io.TextIOWrapper(file, encoding=encoding, newline="")
            except LookupError:
                raise DatasetError(
                    f"encoding {encoding!r}: expected a name that Python knows"
                ) from None
            try:
                first = text.readline()
                delimiter = self.delimiter or max(_DELIMITERS, key=first.count)
                # The header may continue on further lines: a quoted name may contain line breaks.
                lines = itertools.chain([first], text)
                rows = self._csv_cells(lines, delimiter)
                header = next(rows, None)
                if not header or not any(header):
                    raise DatasetError(f"{self.path.name}: expected a header line")
                twice = sorted({name for name in header if header.count(name) > 1})
                if twice:
                    raise DatasetError(f"{self.path.name}: columns named twice: {', '.join(twice)}")
                yield header, rows
            except UnicodeError:
                raise DatasetError(
                    f"{self.path.name}: not in the encoding {encoding}; name another, such as --encoding latin-1"
                ) from None
            finally:
                text.detach()

    def _csv_cells(self, lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
        """Yield the cells of each non-empty row; parse strictly, as a stray quote would hide rows."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            began = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DatasetError(f"{self.path.name}: line {began}: {_QUOTES}: {error}") from None
            if cells is None:
                return
            if reader.line_num - began >= _MOST_LINES:
                raise DatasetError(
                    f"{self.path.name}: line {began}: {_QUOTES}: it takes {reader.line_num - began + 1} lines"
                )
            if cells:
                yield cells

    def _csv_rows(self) -> Iterator[dict[str, Any] | bytes]:
        with self._csv() as (header, rows):
            for cells in rows:
                if _too_many(cells, len(header)):
                    line = io.StringIO()
                    csv.writer(line, lineterminator="").writerow(cells)
                    yield line.getvalue().encode("utf-8", "replace")
                else:
                    yield dict(zip(header, cells, strict=False))

    def _json_rows(self) -> Iterator[dict[str, Any] | bytes]:
        with self._opened() as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = None
                yield row if isinstance(row, dict) else line.rstrip(b"\r\n")

    @contextmanager
    def _parquet(self) -> Iterator[Any]:
        import pyarrow as pa  # takes half a second, which readers of text are spared
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                yield file
        except pa.ArrowException as error:
            raise DatasetError(f"{self.path.name}: not readable as Parquet: {error}") from None

    def _parquet_batches(self, only: Sequence[str] | None) -> Iterator[Any]:
        with self._parquet() as file:
            total, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=only):
                yield batch
                done += batch.num_rows
                self.progress = Progress(done, total)

    def _parquet_rows(self, only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        for batch in self._parquet_batches(only):
            values = [_python_values(column) for column in batch.columns]
            for row in zip(*values, strict=True):
                yield dict(zip(batch.schema.names, row, strict=True))


_ONE_A_LINE: Final = "expected one JSON object a line"
_NAN: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity)\b")
_NAN_HINT: Final = ", in which NaN and Infinity are no numbers; write null"
_MORE_CELLS: Final = "expected no more cells than the header has"
_QUOTES: Final = (
    "a row begins here with a quote too many or too few (inside quotes, write one as two)"
)


def _too_many(cells: list[str], width: int) -> bool:
    """Return whether a row has values beyond the last column; trailing empty cells do not count."""
    return len(cells) > width and any(map(str.strip, cells[width:]))


def _python_values(column: Any) -> list[Any]:
    """Convert an Arrow column to Python values.

    NumPy does it ten times as fast as Arrow, and is used where it loses nothing.
    """
    kind = str(column.type)
    if kind in ("string", "large_string", "double", "float") or (
        column.null_count == 0 and kind.startswith(("int", "uint"))
    ):
        return list(column.to_numpy(zero_copy_only=False).tolist())
    return list(column.to_pylist())


class _Watched(io.RawIOBase):
    """Reads a file and records how many of its bytes on disk have been read."""

    def __init__(
        self, source: IO[bytes] | gzip.GzipFile, disk: IO[bytes], dataset: Dataset
    ) -> None:
        super().__init__()
        self._source = source
        self._disk = disk
        self._dataset = dataset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._source.read(len(buffer))
        buffer[: len(block)] = block
        self._dataset.progress = Progress(self._disk.tell(), self._dataset.progress.total)
        return len(block)
