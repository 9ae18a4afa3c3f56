"""Reads mapped files by column; the result is that of `ColumnMapping.apply` row by row.

A column whose values all have the usual type is parsed at once; any other goes through the
contract's own reader, value by value. A row with a faulty value is read again as a row, so that
its error is the contract's. `tests/unit/model/test_reading.py` compares both ways.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import (
    EVENT_TIME_END_MS,
    EVENT_TIME_FIRST_MS,
    FIELD_BY_NAME,
    FIELDS,
    MAX_ID_LENGTH,
    Field,
    Kind,
    Transaction,
    event_time_to_ms,
    from_mapping,
    read_field,
)
from model.datasets import LABEL, LABEL_TIME, ColumnMapping, digits, label_time_text, plain_value

_ODD: Final = object()
"""Marks a faulty value; its row is read again as a whole."""

_NOTHING: Final = type(None)
_DATE_LENGTH: Final = 10
_REQUIRED: Final = tuple(field.name for field in FIELDS if field.required)
_OPTIONAL: Final = tuple(field.name for field in FIELDS if not field.required)


@dataclass(frozen=True, slots=True)
class Rows:
    """Mapped rows in the file's order; all of length n.

    Attributes:
        transactions: Transaction, or the contract's error, for each row.
        label: True for fraud, False for legitimate, None if unknown.
        label_time: Time at which the label became known, as text; None if unknown.
        other_labels: Number of labels that mean neither, by their text.
    """

    transactions: list[Transaction | InvalidMessage]
    label: list[bool | None]
    label_time: list[str | None]
    other_labels: Counter[str] = dataclasses.field(default_factory=Counter)


def read_rows(mapping: ColumnMapping, columns: Mapping[str, Sequence[Any]], count: int) -> Rows:
    """Read rows that are stored by column.

    Args:
        mapping: Mapping of the columns.
        columns: Values by column, each of length `count`; columns that all rows lack may be missing.
        count: Number of rows.
    """
    absent = [None] * count
    by_field: dict[str, Sequence[Any]] = {
        target: columns.get(column, absent) for target, column in mapping.fields.items()
    }
    for target, constant in mapping.constants.items():
        by_field[target] = [constant] * count
    read = {
        name: _READERS[FIELD_BY_NAME[name].kind](FIELD_BY_NAME[name], values)
        for name, values in by_field.items()
        if name in FIELD_BY_NAME
    }
    names = [name for name in _OPTIONAL if name in read]
    clean = all(column.clean for column in read.values())
    parts: list[Iterable[Any]] = [
        read[name].values if name in read else absent for name in _REQUIRED
    ]
    optional: Iterable[tuple[Any, ...]] = (
        zip(*(read[name].values for name in names), strict=True) if names else repeat((), count)
    )
    transactions: list[Transaction | InvalidMessage] = []
    for row, (required, others) in enumerate(zip(zip(*parts, strict=True), optional, strict=True)):
        # Doubtful rows take the slow path, which returns the contract's own error.
        if None in required or not (clean or (_ODD not in required and _ODD not in others)):
            transactions.append(_alone(mapping, by_field, row))
        else:
            event_id, entity_id, event_time_ms, amount, currency = required
            fields = {
                name: value for name, value in zip(names, others, strict=True) if value is not None
            }
            transactions.append(
                Transaction(event_id, entity_id, event_time_ms, amount, currency, fields)
            )
    labels, other_labels = _labels(mapping, by_field.get(LABEL, absent))
    return Rows(
        transactions,
        labels,
        [
            value if type(value) is str and len(value) > _DATE_LENGTH else label_time_text(value)
            for value in by_field.get(LABEL_TIME, absent)
        ],
        other_labels,
    )


def _alone(
    mapping: ColumnMapping, by_field: Mapping[str, Sequence[Any]], index: int
) -> Transaction | InvalidMessage:
    """Read one row with the contract's own parser."""
    row = {column: by_field[target][index] for target, column in mapping.fields.items()}
    record = mapping.apply(row).record
    try:
        return from_mapping(record)  # type: ignore[arg-type]  # a mapped row is never bytes
    except InvalidMessage as verdict:
        return verdict


def _labels(
    mapping: ColumnMapping, values: Sequence[Any]
) -> tuple[list[bool | None], Counter[str]]:
    # The type is part of the key, as 1, 1.0 and True are equal in Python.
    known: dict[tuple[type, Any], bool | None] = {}
    labels = []
    for value in values:
        key = (type(value), value)
        try:
            labels.append(known[key])
        except KeyError:
            labels.append(known.setdefault(key, mapping.label_of(plain_value(value))))
        except TypeError:  # lists and objects of JSON lines are not hashable
            labels.append(mapping.label_of(value))
    others = Counter(
        str(plain_value(value)).strip()
        for value, meaning in zip(values, labels, strict=True)
        if meaning is None and value is not None
    )
    for empty in ("", "None"):
        others.pop(empty, None)
    return labels, others


@dataclass(frozen=True, slots=True)
class _Column:
    """Values as `Transaction` has them, None if missing; `clean` if none of them is `_ODD`."""

    values: Sequence[Any]
    clean: bool = False


def _read(field: Field, value: Any) -> Any:
    value = plain_value(value)
    if value is None or value == "":
        return None
    if field.kind in (Kind.ID, Kind.TEXT):
        value = digits(value)
    try:
        return read_field(field, value)
    except InvalidMessage:
        return _ODD


def _one_by_one(field: Field, values: Sequence[Any]) -> _Column:
    return _Column([_read(field, value) for value in values])


def _texts(field: Field, values: Sequence[Any]) -> _Column:
    if set(map(type, values)) <= {str, _NOTHING}:
        return _Column([value or None for value in values], clean=True)
    return _one_by_one(field, values)


def _ids(field: Field, values: Sequence[Any]) -> _Column:
    kinds = set(map(type, values))
    if (
        kinds == {str}
        and all(values)
        and max(map(len, values)) <= MAX_ID_LENGTH
        and not any(map(str.isspace, values))
    ):
        return _Column(values, clean=True)
    return _one_by_one(field, values)


def _numbers(field: Field, values: Sequence[Any]) -> _Column:
    if set(map(type, values)) <= {float, _NOTHING}:
        numbers = np.array(values, np.float64)
        known = np.isfinite(numbers)
        finite = numbers[known]
        if not len(finite) or (finite.min() >= field.low and finite.max() <= field.high):
            if len(finite) == len(values):
                return _Column(values, clean=True)
            paired = zip(values, known.tolist(), strict=True)
            return _Column([value if good else None for value, good in paired], clean=True)
    return _one_by_one(field, values)


def _times(field: Field, values: Sequence[Any]) -> _Column:
    if set(map(type, values)) == {str}:
        try:
            times = [event_time_to_ms(value) for value in values]
        except (ValueError, OverflowError):
            return _one_by_one(field, values)
        if min(times) >= EVENT_TIME_FIRST_MS and max(times) < EVENT_TIME_END_MS:
            return _Column(times, clean=True)
    return _one_by_one(field, values)


def _currencies(field: Field, values: Sequence[Any]) -> _Column:
    if set(map(type, values)) == {str}:
        known = {value: _read(field, value) for value in set(values)}
        return _Column([known[value] for value in values], _ODD not in known.values())
    return _one_by_one(field, values)


_Reader = Callable[[Field, Sequence[Any]], _Column]
_READERS: Final[dict[Kind, _Reader]] = {
    Kind.ID: _ids,
    Kind.TEXT: _texts,
    Kind.NUMBER: _numbers,
    Kind.TIME: _times,
    Kind.CURRENCY: _currencies,
}
