"""The pandas function before the history: from raw records to packed ones.

It runs in a Python worker of its own, which never loads a model (docs/decisions/0004). It does not
raise for a bad row, because Flink would restart and read the row again.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.types import RowType
from pyflink.table.udf import FunctionContext, ScalarFunction

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import EventTimeLimits, Transaction, decode
from fraud.features.catalogue import KEYS
from fraud.features.history import Records
from fraud.features.packing import OWN_DTYPE, pack
from fraud.runtime.clock import system_clock

_THROWAWAY_KEYS: Final = 16
_ANY_EVENT_TIME: Final = EventTimeLimits()

OWN_DTYPE_AND_TIME: Final = np.dtype([("own", OWN_DTYPE), ("event_time", "u1")])
"""Layout of the column `own`: the features that need no history, and the `EventTime`."""


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
    """Reads, checks and packs raw records: the first function of the job.

    Args:
        limits: How far an event_time may be from Kafka's timestamp.
    """

    _dead_letters: Any = None

    def __init__(self, limits: EventTimeLimits = _ANY_EVENT_TIME) -> None:
        self._limits = limits

    def open(self, function_context: FunctionContext) -> None:
        """Create the counter of refused records."""
        self._dead_letters = function_context.get_metric_group().counter("dead_letters")

    def eval(self, values: pd.Series[Any], timestamps: pd.Series[Any]) -> pd.DataFrame:
        """Read one batch of raw records.

        Args:
            values: Raw values of the records, bytes or None.
            timestamps: Kafka's timestamps, UTC epoch milliseconds; missing if the record has none.

        Returns:
            One row each, of `read_type`. An invalid record has a null record per key and one of a
            few placeholder keys, so that it passes the history without being remembered.
        """
        count = len(values)
        columns: dict[str, list[Any]] = {field.name: [None] * count for field in read_type().fields}
        transactions: list[Transaction] = []
        valid: list[int] = []
        # Integers unless one is missing. Series.fillna would take longer than all else for few rows.
        arrived = timestamps.to_numpy()
        if arrived.dtype != np.int64:
            arrived = np.nan_to_num(arrived.astype(np.float64)).astype(np.int64)
        arrived_ms = arrived.tolist()
        apply = self._limits.apply
        for at, value in enumerate(values):
            try:
                transactions.append(apply(decode(value), arrived_ms[at]))
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
        own_rows = np.empty(len(packed), OWN_DTYPE_AND_TIME)
        own_rows["own"] = packed.own
        own_rows["event_time"] = np.frombuffer(packed.event_times, np.uint8)
        for at, own in zip(valid, _slices(own_rows), strict=True):
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
