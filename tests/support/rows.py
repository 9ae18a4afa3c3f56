"""Transactions as plain rows, and what an expression says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud.rules import Type, compile_expression

VARIABLES = {
    "amount": Type.NUMBER,
    "score": Type.NUMBER,
    "ratio": Type.SINGLE,
    "count": Type.SINGLE,
    "country": Type.TEXT,
    "email": Type.TEXT,
    "ip": Type.IP,
    "flag": Type.BOOLEAN,
    "time": Type.TIME,
    "scored_at": Type.TIME,
}

Row = Mapping[str, Any]


class Rows:
    """Columns of rows; what a row lacks, or has as None, is not known."""

    def __init__(
        self, rows: Sequence[Row], lists: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self._rows = rows
        self._lists = lists or {}
        self.asked: list[str] = []

    def number(self, name: str) -> NDArray[np.float64]:
        self.asked.append(name)
        values = [row.get(name) for row in self._rows]
        return np.array([math.nan if value is None else float(value) for value in values])

    def text(self, name: str) -> list[str | None]:
        self.asked.append(name)
        return [row.get(name) for row in self._rows]

    def member(
        self, name: str, values: Sequence[str | None], variable: str | None
    ) -> NDArray[np.bool_]:
        self.asked.append(f"@{name}")
        if variable is not None:
            assert list(values) == [row.get(variable) for row in self._rows]
        # Whatever it says of a None does not matter.
        return np.array([value is None or value in self._lists[name] for value in values], bool)


def answers(
    text: str, rows: Sequence[Row], lists: Mapping[str, frozenset[str]] | None = None
) -> list[bool | None]:
    """Return whether the expression is true of each row; None means unknown."""
    columns = Rows(rows, lists)
    true = compile_expression(text, VARIABLES).evaluate(columns, len(rows))
    false = compile_expression(f"not ({text}\n)", VARIABLES).evaluate(columns, len(rows))
    assert not (true & false).any()
    return [True if yes else False if no else None for yes, no in zip(true, false, strict=True)]
