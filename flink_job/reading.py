"""The pandas function before the history: from raw records to packed ones.

It runs in a Python worker of its own, which never loads a model (docs/decisions/0004). It does not
raise for a bad row, because Flink would restart and read the row again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog
from pyflink.table import DataTypes
from pyflink.table.types import RowType
from pyflink.table.udf import FunctionContext, ScalarFunction

from flink_job.isolation import SOUND_RECORD, Columns, isolated, place_of
from fraud.contracts.dead_letter import INTERNAL
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import EventTimeLimits, Transaction, decode
from fraud.features.catalogue import KEYS
from fraud.features.history import Records
from fraud.features.packing import OWN_DTYPE, pack
from fraud.runtime.clock import system_clock
from fraud.runtime.logs import configure_worker_logs

_THROWAWAY_KEYS: Final = 16
_ANY_EVENT_TIME: Final = EventTimeLimits()

OWN_DTYPE_AND_TIME: Final = np.dtype([("own", OWN_DTYPE), ("event_time", "u1")])
"""Layout of the column `own`: the features that need no history, and the `EventTime`."""

log = structlog.get_logger()


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


def read_batch(
    values: Sequence[bytes | None],
    arrived_ms: Sequence[int],
    limits: EventTimeLimits = _ANY_EVENT_TIME,
) -> pd.DataFrame:
    """Read, check and pack raw records.

    Args:
        values: Raw values of the records.
        arrived_ms: Kafka's timestamps, UTC epoch milliseconds; 0 if the record has none.
        limits: How far an event_time may be from it.

    Returns:
        One row each, of `read_type`. An invalid record has a null record per key and one of a few
        placeholder keys, so that it passes the history without being remembered.
    """
    count = len(values)
    columns: dict[str, list[Any]] = {field.name: [None] * count for field in read_type().fields}
    transactions: list[Transaction] = []
    valid: list[int] = []
    for at, value in enumerate(values):
        try:
            transactions.append(limits.apply(decode(value), arrived_ms[at]))
        except InvalidMessage as verdict:
            columns["error_code"][at] = str(verdict.reason)
            columns["error_message"][at] = verdict.detail
            columns["failed_at"][at] = utc_text(system_clock())
        else:
            valid.append(at)
    packed = pack(transactions)
    own_rows = np.empty(len(packed), OWN_DTYPE_AND_TIME)
    own_rows["own"] = packed.own
    own_rows["event_time"] = np.frombuffer(packed.event_times, np.uint8)
    for at, own in zip(valid, _slices(own_rows), strict=True):
        columns["own"][at] = own
    for key in KEYS:
        key_column, record_column = columns[f"{key.name}_key"], columns[f"{key.name}_record"]
        for at, text, record in zip(
            valid, packed.keys[key.name], _slices(packed.records[key.name]), strict=True
        ):
            if text is not None:
                key_column[at], record_column[at] = text, record
        for at, text in enumerate(key_column):
            if text is None:
                key_column[at] = f"none-{at % _THROWAWAY_KEYS}"
    return pd.DataFrame(columns)


def _failed(_columns: Columns, error: Exception) -> pd.DataFrame:
    log.error("flink_job.record_failed", step="read", place=place_of(error))
    refused = read_batch([None], [0])
    refused["error_code"], refused["error_message"] = str(ErrorCode.INTERNAL), INTERNAL
    return refused


def _sound() -> Columns:
    return [pd.Series([SOUND_RECORD], dtype=object), pd.Series([0])]


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
        configure_worker_logs("flink_job")
        self._dead_letters = function_context.get_metric_group().counter("dead_letters")

    def eval(self, values: pd.Series[Any], timestamps: pd.Series[Any]) -> pd.DataFrame:
        """Read one batch of raw records, see `read_batch`.

        Args:
            values: Raw values of the records, bytes or None.
            timestamps: Kafka's timestamps, UTC epoch milliseconds; missing if the record has none.

        Raises:
            EveryRecordFails: Not even a record that is certainly valid can be read.
        """
        read = isolated(self._read, _failed, _sound, [values, timestamps])
        if self._dead_letters is not None:
            # Also by 0: a counter is exported from its first call on, and one that begins above 0
            # has not increased for whoever watches it.
            self._dead_letters.inc(len(read) - read["error_code"].tolist().count(None))
        return read

    def _read(self, columns: Columns) -> pd.DataFrame:
        values, timestamps = columns
        # Integers unless one is missing. Series.fillna would take longer than all else for few rows.
        arrived = timestamps.to_numpy()
        if arrived.dtype != np.int64:
            arrived = np.nan_to_num(arrived.astype(np.float64)).astype(np.int64)
        return read_batch(values.tolist(), arrived.tolist(), self._limits)
