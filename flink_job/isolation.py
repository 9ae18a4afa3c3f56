"""Keeps one bad record from failing its batch, and a fault of ours from refusing every record."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import orjson
import pandas as pd

T = TypeVar("T", pd.DataFrame, "pd.Series[Any]")
Columns = Sequence["pd.Series[Any]"]

SOUND_RECORD: Final = orjson.dumps(
    {
        "event_id": "sound",
        "entity_id": "sound",
        "event_time": "2026-03-01T00:00:00Z",
        "transaction_amt": 1,
        "transaction_currency": "USD",
    }
)
"""A record that is certainly valid: if it fails, too, the fault is not the record's."""


class EveryRecordFails(Exception):
    """A function fails for any record, so none of them is to blame: the job must not go on."""


def isolated(
    compute: Callable[[Columns], T],
    failed: Callable[[Columns, Exception], T],
    sound: Callable[[], Columns],
    columns: Columns,
) -> T:
    """Compute a batch; if that raises, compute its halves, down to the records that fail alone.

    Args:
        compute: Returns the result of rows, in their order.
        failed: Returns the result of one row that cannot be computed.
        sound: Returns the columns of `SOUND_RECORD`.
        columns: The batch, at least one row.

    Raises:
        EveryRecordFails: `SOUND_RECORD` cannot be computed either.
    """
    try:
        return compute(columns)
    except Exception as error:
        count = len(columns[0])
        if count == 1:
            try:
                compute(sound())
            except Exception as fault:
                raise EveryRecordFails(
                    f"a valid record fails, too, so nothing is refused: {place_of(fault)}"
                ) from fault
            return failed(columns, error)
    half = count // 2
    parts = [
        isolated(compute, failed, sound, [column.iloc[rows] for column in columns])
        for rows in (slice(half), slice(half, None))
    ]
    joined: T = pd.concat(parts, ignore_index=True)
    return joined


def place_of(error: Exception) -> str:
    """Return the type of an error and where it was raised, without its text.

    The text may quote personal values.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {frame.filename}"
