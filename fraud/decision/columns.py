"""Columns of a batch for rules and lists, built when one is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.json_values import loads
from fraud.contracts.transaction import FIELD_BY_NAME, Field, Kind, Transaction, read_field
from fraud.decision.lists import Lookup
from fraud.features.vector import FEATURE_AT
from fraud.rules import SCORED_AT

Floats = NDArray[np.float64]


class Fields(Protocol):
    """Declared fields of a batch of transactions, with values as in `Transaction`."""

    def column(self, name: str) -> Sequence[Any]:
        """Return one field of all transactions, in their order; None where it is missing."""


class FieldsOfTransactions:
    """Fields of transactions that are already parsed, as over REST."""

    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self._transactions = transactions

    def column(self, name: str) -> Sequence[Any]:
        """Return one field of all transactions, see `Fields`."""
        field = FIELD_BY_NAME[name]
        if field.required:
            attribute = "event_time_ms" if field.kind is Kind.TIME else name
            return [getattr(transaction, attribute) for transaction in self._transactions]
        return [transaction.fields.get(name) for transaction in self._transactions]


class FieldsOfRecords:
    """Fields of valid Kafka records, parsed once, when a rule or list first needs one.

    Args:
        records: Returns the fields of each record as JSON values.
    """

    def __init__(self, records: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self._make = records

    @classmethod
    def of_values(cls, values: Sequence[bytes]) -> FieldsOfRecords:
        """Create from the values of records that `decode` accepted."""
        return cls(lambda: [loads(value) for value in values])

    @cached_property
    def _records(self) -> Sequence[Mapping[str, Any]]:
        return self._make()

    def column(self, name: str) -> Sequence[Any]:
        """Return one field of all records, see `Fields`."""
        return read_values(FIELD_BY_NAME[name], [record.get(name) for record in self._records])


def read_values(field: Field, values: Sequence[Any]) -> Sequence[Any]:
    """Convert the JSON values of a field of valid records to values as in `Transaction`."""
    if field.kind is Kind.TEXT:
        # Text as text, the usual case, needs no function call; empty text counts as missing.
        return [(value or None) if type(value) is str else _read(field, value) for value in values]
    return [_read(field, value) for value in values]


def _read(field: Field, value: Any) -> Any:
    return None if value is None else read_field(field, value)


class BatchColumns:
    """Values of n transactions for rules; implements `fraud.rules.Columns`.

    Args:
        matrix: Feature vectors, shape (n, features).
        scores: 0-1000, length n.
        probabilities: 0-1, shape (n,).
        fields: Fields of the transactions.
        lists: All lists by name.
        at_ms: Time of the decision, UTC epoch milliseconds, one for all or shape (n,); list entries
            count until they expire.
    """

    def __init__(
        self,
        matrix: NDArray[np.float32],
        scores: Sequence[int],
        probabilities: Floats,
        fields: Fields,
        lists: Mapping[str, Lookup],
        at_ms: int | NDArray[np.int64],
    ) -> None:
        self._matrix = matrix
        self._scores = scores
        self._probabilities = probabilities
        self._fields = fields
        self._lists = lists
        self._at_ms = at_ms
        self._numbers: dict[str, Floats] = {}
        self._texts: dict[str, Sequence[str | None]] = {}
        self._members: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return len(self._matrix)

    def rescored(self, scores: Sequence[int], probabilities: Floats) -> BatchColumns:
        """Return the same transactions with the scores of another model; other columns are reused."""
        other = BatchColumns(
            self._matrix, scores, probabilities, self._fields, self._lists, self._at_ms
        )
        other._texts, other._members = self._texts, self._members
        other._numbers = {
            name: column
            for name, column in self._numbers.items()
            if name not in ("score", "probability")
        }
        return other

    def number(self, name: str) -> Floats:
        """Return the values of a numeric variable, shape (n,); NaN means unknown.

        Features are float32 widened to float64, the same bits as when read from a decision's JSON.
        """
        column = self._numbers.get(name)
        if column is None:
            column = self._numbers[name] = self._number(name)
        return column

    def _number(self, name: str) -> Floats:
        if name in FEATURE_AT:
            return self._matrix[:, FEATURE_AT[name]].astype(np.float64)
        if name == "score":
            return np.asarray(self._scores, np.float64)
        if name == "probability":
            return self._probabilities
        if name == SCORED_AT:
            return np.broadcast_to(np.asarray(self._at_ms, np.float64), len(self))
        values = self._fields.column(name)
        return np.array([np.nan if value is None else value for value in values], np.float64)

    def text(self, name: str) -> Sequence[str | None]:
        """Return the values of a text variable, length n; None means unknown."""
        column = self._texts.get(name)
        if column is None:
            column = self._texts[name] = self._fields.column(name)
        return column

    def member(
        self, name: str, values: Sequence[str | None], variable: str | None
    ) -> NDArray[np.bool_]:
        """Return which values are on a list, shape (n,); an unknown list counts as empty.

        Args:
            name: Name of the list.
            values: Values to look up, length n.
            variable: Field whose whole column the values are, if any; its result is cached.
        """
        lookup = self._lists.get(name)
        if lookup is None:
            return np.zeros(len(values), np.bool_)
        if variable is None:
            return lookup.members(values, self._at_ms)
        found = self._members.get((name, variable))
        if found is None:
            found = self._members[name, variable] = lookup.members(values, self._at_ms)
        return found

    def on_list(self, lookup: Lookup) -> NDArray[np.bool_]:
        """Return which transactions are on a list by the field that its type names, shape (n,)."""
        field = lookup.type.field
        if field is None:
            return np.zeros(len(self), np.bool_)
        return self.member(lookup.name, self.text(field), field)
