"""Amounts in the base currency, by a dated table of exchange rates."""

from __future__ import annotations

import csv
from bisect import bisect_right
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

BASE_CURRENCY: Final = "USD"
EXCHANGE_RATE_FILE: Final = Path(__file__).with_name("exchange_rates.csv")

MICRO: Final = 1_000_000
"""Money is summed in whole millionths of the base currency, so that no order of addition matters."""

UNKNOWN_AMOUNT: Final = -(2**63)
"""Stands for an amount whose currency has no rate at its event_time."""

MAX_AMOUNT_MICRO: Final = 2**51
"""Amounts beyond about 2.25 billion in the base currency count as that much.

It keeps the sums and the products of up to 64 of them within an int64.
"""


@lru_cache(maxsize=1)
def _table() -> tuple[list[int], dict[str, list[float]]]:
    with EXCHANGE_RATE_FILE.open(newline="", encoding="ascii") as file:
        header, *rows = csv.reader(file)
    starts = [
        int(datetime.strptime(row[0], "%Y-%m").replace(tzinfo=UTC).timestamp() * 1000)
        for row in rows
    ]
    rates = {
        code: [float(row[column]) if row[column] else float("nan") for row in rows]
        for column, code in enumerate(header)
        if column
    }
    return starts, rates


def rate_to_base(currency: str, event_time_ms: int) -> float | None:
    """Give the units of the base currency that one unit of `currency` bought.

    The rate is the last one that the European Central Bank published before the month of
    `event_time_ms` began; before the first and after the last month of the table, that month's.

    Args:
        currency: Three upper-case letters.
        event_time_ms: UTC epoch milliseconds.

    Returns:
        The rate, above 0, or None when none was published then.

    Example:
        >>> rate_to_base("USD", 0)
        1.0
        >>> rate_to_base("ZZZ", 0) is None
        True
    """
    if currency == BASE_CURRENCY:
        return 1.0
    starts, rates = _table()
    row = rates.get(currency)
    if row is None:
        return None
    month = max(bisect_right(starts, event_time_ms) - 1, 0)
    rate = row[month]
    return None if rate != rate else rate


def amount_to_micro(amount: float, currency: str, event_time_ms: int) -> int:
    """Turn an amount into whole millionths of the base currency.

    Returns:
        The amount, at most `MAX_AMOUNT_MICRO` in size, or `UNKNOWN_AMOUNT`.

    Example:
        >>> amount_to_micro(24.9, "USD", 0)
        24900000
    """
    rate = rate_to_base(currency, event_time_ms)
    if rate is None:
        return UNKNOWN_AMOUNT
    micro = round(amount * rate * MICRO)
    return max(-MAX_AMOUNT_MICRO, min(MAX_AMOUNT_MICRO, micro))
