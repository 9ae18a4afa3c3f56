"""The pandas function before the history: from raw records to packed ones.

It runs in a Python worker of its own, which never loads a model (docs/decisions/0004). It does not
raise for a bad row, because Flink would restart and read the row again.
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.types import RowType
from pyflink.table.udf import FunctionContext, ScalarFunction

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import Transaction, decode
from fraud.features.catalogue import KEYS
from fraud.features.history import Records
from fraud.features.packing import pack
from fraud.runtime.clock import system_clock

_THROWAWAY_KEYS: Final = 16


def read_type() -> RowType:
    """Return the columns that `ReadTransactions` adds: the packed record, or its error."""
    text, data = DataTypes.STRING(), DataTypes.BYTES()
    fields = [("own", data), ("error_code", text), ("error_message", text), ("failed_at", text)]
    for key in KEYS:
        fields += [(f"{key.name}_key", text), (f"{key.name}_record", data)]
    return DataTypes.ROW([DataTypes.FIELD(name, kind) for name, kind in fields])


def _slices(rows: Records) -> list[bytes]:
    size, data = rows.dtype.itemsize, rows.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


class ReadTransactions(ScalarFunction):  # type: ignore[misc]
    """Reads, checks and packs raw records: the first function of the job."""

    _dead_letters: Any = None

    def open(self, function_context: FunctionContext) -> None:
        """Create the counter of refused records."""
        self._dead_letters = function_context.get_metric_group().counter("dead_letters")

    def eval(self, values: pd.Series[Any]) -> pd.DataFrame:
        """Read one batch of raw records.

        Args:
            values: Raw values of the records, bytes or None.

        Returns:
            One row each, of `read_type`. An invalid record has a null record per key and one of a
            few placeholder keys, so that it passes the history without being remembered.
        """
        count = len(values)
        columns: dict[str, list[Any]] = {field.name: [None] * count for field in read_type().fields}
        transactions: list[Transaction] = []
        valid: list[int] = []
        for at, value in enumerate(values):
            try:
                transactions.append(decode(value))
            except InvalidMessage as verdict:
                columns["error_code"][at] = str(verdict.reason)
                columns["error_message"][at] = verdict.detail
                columns["failed_at"][at] = utc_text(system_clock())
            else:
                valid.append(at)
        if self._dead_letters is not None:
            # Also by 0: a counter is exported from its first call on, and one that begins above 0
            # has not increased for whoever watches it.
            self._dead_letters.inc(count - len(valid))
        packed = pack(transactions)
        for at, own in zip(valid, _slices(packed.own), strict=True):
            columns["own"][at] = own
        for key in KEYS:
            key_column, record_column = columns[f"{key.name}_key"], columns[f"{key.name}_record"]
            for at, value, record in zip(
                valid, packed.keys[key.name], _slices(packed.records[key.name]), strict=True
            ):
                if value is not None:
                    key_column[at], record_column[at] = value, record
            for at, value in enumerate(key_column):
                if value is None:
                    key_column[at] = f"none-{at % _THROWAWAY_KEYS}"
        return pd.DataFrame(columns)
