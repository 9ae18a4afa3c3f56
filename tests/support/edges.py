"""Histories full of edges, and the comparison of features bit by bit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import utc_text
from fraud.contracts.transaction import Transaction
from fraud.features.vector import FEATURE_NAMES
from tests.support.naive import WINDOWS_MS, NaiveStream

NOW_MS = 1_772_323_200_000

# An event is one offset, or the sum of two, from now: many pairs are then exactly a window apart,
# or a millisecond less or more.
EDGES_MS = sorted(
    {0, 1, 999, 1000, 1001, 86_400_000 * 45}
    | {length_ms + step for length_ms in WINDOWS_MS.values() for step in (-1, 0, 1)}
)

CURRENCIES = ("USD", "usd", "EUR", "JPY", "RUB", "HRK", "ZWD", "XXX")

VALUES: dict[str, tuple[Any, ...]] = {
    "ip_address": (
        "203.0.113.7",
        "10.1.2.3",
        "8.8.8.8",
        "100.64.1.2",
        "224.0.0.1",
        "2001:db8::1",
        "2002::1",
        "::ffff:8.8.8.8",
        "not an address",
        "",
    ),
    "user_agent": (
        "Mozilla/5.0 (X11; Linux x86_64)",
        "Mozilla/5.0 (iPhone) Mobile",
        "Android",
        "Googlebot/2.1 (+http://www.google.com/bot.html)",
        "curl/8.0",
        "Mozilla/5.0 (X11; Linux x86_64)".ljust(1_100) + "Android Mobile",
    ),
    "email_address": (
        "ada7@gmail.com",
        "1234@Mailinator.COM",
        "x@y.example",
        "no-at",
        "@gmail.com",
    ),
    "phone": ("+1-202-555-0143", "+49 30 901820", "030 901820", "+999", "+"),
    "billing_country": ("US", "de", "CA", "UK", "001", ""),
    "device_id": ("d-1", "d-2", "d-3"),
    "merchant_id": ("m-1", "m-2", 7),
    "card_bin": ("411111", 555555, "37"),
    "product_category": ("shopping_net", "travel", "gas"),
    "billing_latitude": (39.8, -33.9, "90", 0, -90),
    "billing_longitude": (-89.65, 151.2, "180", 0, -180),
}

AMOUNTS = (0, 0.01, 5, 9.99, 9.99, 24.9, 100, "1e3", 1234.5678905, -20, 1e12, -1e12, 2.5e9)


def make(draw: random.Random, at: int) -> dict[str, Any]:
    """Draw one record."""
    offset_ms = draw.choice(EDGES_MS) + draw.choice((0, 0, *EDGES_MS))
    # A few ids for many records, so that some repeat; half of those are retries of the same payment.
    number = draw.choice((at, at, at, draw.randrange(at + 1)))
    retried = random.Random(number) if draw.random() < 0.5 else None
    record = {
        "event_id": f"e{number}",
        "entity_id": draw.choice(("ann", "ann", "ben", "cleo")),
        "event_time": utc_text(NOW_MS - offset_ms),
        "transaction_amt": draw.choice((*AMOUNTS, draw.randrange(1, 100_000) / 100)),
        "transaction_currency": draw.choice(CURRENCIES),
    }
    for name, values in VALUES.items():
        value = draw.choice((None, *values, values[0]))
        if value is not None:
            record[name] = value
    if retried:
        record |= {
            "entity_id": "ann",
            "transaction_amt": retried.choice(AMOUNTS),
            "transaction_currency": retried.choice(CURRENCIES),
            "card_bin": retried.choice(VALUES["card_bin"]),
            "merchant_id": retried.choice(VALUES["merchant_id"]),
        }
    return record


def naive_matrix(transactions: Sequence[Transaction]) -> NDArray[np.float32]:
    stream = NaiveStream()
    vectors = [stream.vector(one) for one in transactions]
    return np.array([[vector[name] for name in FEATURE_NAMES] for vector in vectors], np.float32)


def assert_same_bits(
    fast: NDArray[np.float32], naive: NDArray[np.float32], transactions: Sequence[Transaction]
) -> None:
    """Compare as bits, so that -0.0 is not 0.0; all NaN are the same NaN."""
    assert fast.shape == naive.shape
    differ = (fast.view(np.uint32) != naive.view(np.uint32)) & ~(np.isnan(fast) & np.isnan(naive))
    if differ.any():
        row, column = np.argwhere(differ)[0]
        raise AssertionError(
            f"{differ.sum()} values differ, first {FEATURE_NAMES[column]} of row {row}: "
            f"fast {fast[row, column]!r}, naive {naive[row, column]!r}, {transactions[row]}"
        )
