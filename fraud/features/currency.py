"""Amounts in the base currency, by a dated table of exchange rates."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

BASE_CURRENCY: Final = "USD"
EXCHANGE_RATE_FILE: Final = Path(__file__).with_name("exchange_rates.csv")

MICRO: Final = 1_000_000
"""Amounts are summed in whole millionths of the base currency, so that their order never matters."""

UNKNOWN_AMOUNT: Final = -(2**63)
"""Stands for an amount whose currency has no rate at its event_time."""

MAX_AMOUNT_MICRO: Final = 2**51
"""Amounts beyond about 2.25 billion in the base currency count as that much.

The limit keeps sums of up to 64 amounts, and an amount times their number, within an int64.
"""


@lru_cache(maxsize=1)
def _table() -> tuple[NDArray[np.int64], dict[str, int], NDArray[np.float64]]:
    """Load the start of each month in epoch milliseconds, the column of each currency, and the rates.

    The last column is NaN, for currencies without any rate.
    """
    with EXCHANGE_RATE_FILE.open(newline="", encoding="ascii") as file:
        (_, *codes), *rows = csv.reader(file)
    starts = [
        int(datetime.strptime(row[0], "%Y-%m").replace(tzinfo=UTC).timestamp() * 1000)
        for row in rows
    ]
    rates = [
        [1.0, *(float(cell) if cell else math.nan for cell in cells), math.nan]
        for _, *cells in rows
    ]
    columns = {code: column for column, code in enumerate([BASE_CURRENCY, *codes])}
    return np.array(starts, np.int64), columns, np.array(rates, np.float64)


def rates_to_base(
    currencies: Sequence[str], event_times_ms: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how many units of the base currency one unit of each currency was worth.

    The rate is the last one that the European Central Bank published before the month of the
    event_time began. Times outside the table get the rate of its first or last month.

    Args:
        currencies: Three upper-case letters each, length n.
        event_times_ms: UTC epoch milliseconds, shape (n,).

    Returns:
        The rates, shape (n,), above 0; NaN without a published rate.

    Example:
        >>> rates_to_base(["USD", "ZZZ"], np.array([0, 0]))
        array([ 1., nan])
    """
    starts, columns, rates = _table()
    unknown = len(columns)
    chosen = np.array([columns.get(currency, unknown) for currency in currencies], np.int64)
    months = np.maximum(np.searchsorted(starts, event_times_ms, side="right") - 1, 0)
    found: NDArray[np.float64] = rates[months, chosen]
    return found


def amounts_to_micro(
    amounts: NDArray[np.float64], currencies: Sequence[str], event_times_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Convert amounts to whole millionths of the base currency.

    Returns:
        Shape (n,): the amounts, at most `MAX_AMOUNT_MICRO` in size, or `UNKNOWN_AMOUNT`.

    Example:
        >>> amounts_to_micro(np.array([24.9, 1.0]), ["USD", "ZZZ"], np.array([0, 0])).tolist()
        [24900000, -9223372036854775808]
    """
    rates = rates_to_base(currencies, event_times_ms)
    micro = np.clip(np.rint(amounts * rates * MICRO), -MAX_AMOUNT_MICRO, MAX_AMOUNT_MICRO)
    unknown = np.isnan(rates)
    whole: NDArray[np.int64] = np.where(unknown, 0.0, micro).astype(np.int64)
    return np.where(unknown, UNKNOWN_AMOUNT, whole)
