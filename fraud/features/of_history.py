"""Features of a key's recent transactions, vectorised over a batch.

The window convention, for all of them: `[t - w, t]`, closed on both sides, with t the event_time
of the transaction being scored, which counts itself. History with an event time after t is not
counted, whenever it arrived. *Prior* is the same without the transaction itself.

Arithmetic is exact (int64, or one correctly rounded float64 operation on exact values), so that
neither the order of rows nor the size of a batch can change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.features.currency import MICRO, UNKNOWN_AMOUNT
from fraud.features.history import Key

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Column = NDArray[Any]

WINDOWS_MS: Final = {
    "10m": 600_000,
    "1h": 3_600_000,
    "24h": 86_400_000,
    "7d": 7 * 86_400_000,
    "30d": 30 * 86_400_000,
}
"""Window lengths by the suffix that names them."""

EARTH_RADIUS_KM: Final = 6371.0088  # mean radius, IUGG
_HOUR_MS: Final = 3_600_000
_SHORTEST_MS: Final = 1000


class KeyView:
    """A batch of n transactions with the history of one key, as padded columns.

    Args:
        key: Whose history.
        records: The transactions' own records, shape (n,), of `Key.dtype`.
        rings: Their rings, shape (n,). A ring may hold the transaction itself or a repeat of it:
            neither counts as prior.
    """

    def __init__(self, key: Key, records: NDArray[np.void], rings: Sequence[bytes]) -> None:
        self.n = len(records)
        lengths = np.fromiter(map(len, rings), np.int64, self.n) // key.dtype.itemsize
        rows = np.frombuffer(b"".join(rings), key.dtype)
        width = max(int(lengths.max(initial=0)), 1)
        self._filled = np.arange(width) < lengths[:, None]
        self._rows = rows
        self._records = records
        self._columns: dict[str, Column] = {}
        self._windows: dict[int, Mask] = {}
        self.at_ms: Ints = np.ascontiguousarray(records["event_time_ms"])
        self.age_ms: Ints = self.at_ms[:, None] - self.prior("event_time_ms")
        self.remembered: Mask = self._filled & (self.prior("event") != self.now("event")[:, None])
        """Rows of another event, whenever it happened. Shape (n, width)."""
        self.known: Mask = self.remembered & (self.age_ms >= 0)
        """Prior rows: of another event, and not after t. Shape (n, width)."""
        self.amount: Ints = np.ascontiguousarray(records["amount_micro"])
        self.has_amount: Mask = self.amount != UNKNOWN_AMOUNT
        self.prior_amount: Ints = self.prior("amount_micro")
        self.priced: Mask = self.known & (self.prior_amount != UNKNOWN_AMOUNT)
        """Prior rows with an amount in the base currency."""

    def now(self, column: str) -> Column:
        """Give a column of the transactions themselves, shape (n,)."""
        return np.ascontiguousarray(self._records[column])

    def prior(self, column: str) -> Column:
        """Give a column of the history, shape (n, width), 0 where there is none."""
        padded = self._columns.get(column)
        if padded is None:
            values = self._rows[column]
            padded = np.zeros(self._filled.shape, values.dtype)
            padded[self._filled] = values
            self._columns[column] = padded
        return padded

    def within(self, window_ms: int) -> Mask:
        """Say which prior rows are in the window, shape (n, width)."""
        mask = self._windows.get(window_ms)
        if mask is None:
            mask = self._windows[window_ms] = self.known & (self.age_ms <= window_ms)
        return mask

    def priced_within(self, window_ms: int) -> Mask:
        """Say which prior rows in the window have an amount, shape (n, width)."""
        mask = self._windows.get(-window_ms)
        if mask is None:
            mask = self._windows[-window_ms] = self.priced & (self.age_ms <= window_ms)
        return mask

    def sum_within(self, window_ms: int) -> Ints:
        """Sum the prior amounts in the window, micro-units, shape (n,)."""
        total: Ints = np.where(self.priced_within(window_ms), self.prior_amount, 0).sum(axis=1)
        return total

    def latest(self) -> tuple[Ints, Mask]:
        """Find the prior row with the latest event_time, of equals the latest arrival.

        Returns:
            Its position and whether there is one, both of shape (n,).
        """
        backwards = np.where(self.known, self.age_ms, np.iinfo(np.int64).max)[:, ::-1]
        return self.known.shape[1] - 1 - backwards.argmin(axis=1), self.known.any(axis=1)


Operation = Callable[[KeyView], Floats]


@dataclass(frozen=True, slots=True)
class HistoryFeature:
    """One number about a key's recent transactions; see `TransactionFeature` for the texts."""

    name: str
    key: str
    unit: str
    meaning: str
    reason: str
    of: Operation
    reason_when_0: str = ""


def _only_where(known: Mask, values: Floats) -> Floats:
    chosen: Floats = np.where(known, values, np.nan)
    return chosen


def _count(window_ms: int) -> Operation:
    return lambda view: 1.0 + view.within(window_ms).sum(axis=1)


def _amount_sum(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        total: Ints = view.sum_within(window_ms) + np.where(view.has_amount, view.amount, 0)
        return total / MICRO

    return of


def _amount_mean(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        total = view.sum_within(window_ms) + np.where(view.has_amount, view.amount, 0)
        count = view.priced_within(window_ms).sum(axis=1) + view.has_amount
        return _only_where(count > 0, total / np.maximum(count, 1) / MICRO)

    return of


def _amount_max(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        # UNKNOWN_AMOUNT is the smallest int64, so it never is the largest amount.
        prior = np.where(view.priced_within(window_ms), view.prior_amount, UNKNOWN_AMOUNT).max(
            axis=1
        )
        highest = np.maximum(prior, view.amount)
        return _only_where(highest != UNKNOWN_AMOUNT, highest / MICRO)

    return of


def _amount_ratio(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        total = view.sum_within(window_ms)
        count = view.priced_within(window_ms).sum(axis=1)
        known = view.has_amount & (total > 0)
        return _only_where(known, view.amount / (np.where(known, total, 1) / np.maximum(count, 1)))

    return of


def _amount_deviation(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        mask = view.priced_within(window_ms)
        count = mask.sum(axis=1)
        total = view.sum_within(window_ms)
        # n times each distance from the mean, so that all stays in whole numbers.
        spread = np.abs(np.where(mask, view.prior_amount * count[:, None] - total[:, None], 0))
        spread_sum = _exact_sum(spread)
        known = view.has_amount & (spread_sum > 0)
        own = np.where(view.has_amount, view.amount, 0) * count - total
        return _only_where(known, own * count / np.where(known, spread_sum, 1.0))

    return of


def _exact_sum(values: Ints) -> Floats:
    """Sum whole numbers of up to 2**58 each along a row: exactly, then rounded once."""
    low = (values & 0xFFFFFFFF).sum(axis=1)
    high = (values >> 32).sum(axis=1)
    total: Floats = high * 4294967296.0 + low
    return total


def _distinct(column: str, window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        codes = np.empty((view.n, view.known.shape[1] + 1), np.uint32)
        np.multiply(view.prior(column), view.within(window_ms), out=codes[:, :-1], casting="unsafe")
        codes[:, -1] = view.now(column)
        codes.sort(axis=1)
        rises = (codes[:, 1:] != codes[:, :-1]).sum(axis=1)
        count: Floats = rises + (codes[:, 0] != 0) * 1.0
        return count

    return of


def _is_new(column: str) -> Operation:
    def of(view: KeyView) -> Floats:
        now = view.now(column)
        earlier = view.known & (view.prior(column) != 0)
        met = (earlier & (view.prior(column) == now[:, None])).any(axis=1)
        return _only_where((now != 0) & earlier.any(axis=1), (~met).astype(np.float64))

    return of


def _equal_amounts(window_ms: int) -> Operation:
    def of(view: KeyView) -> Floats:
        equal = view.priced_within(window_ms) & (view.prior_amount == view.amount[:, None])
        return _only_where(view.has_amount, 1.0 + equal.sum(axis=1))

    return of


def _seconds_since_last(view: KeyView) -> Floats:
    at, known = view.latest()
    return _only_where(known, np.take_along_axis(view.age_ms, at[:, None], axis=1)[:, 0] / 1000)


def _distance_km(view: KeyView) -> Floats:
    at, known = view.latest()
    square = np.zeros(view.n)
    for axis in ("x", "y", "z"):
        last = np.take_along_axis(view.prior(axis), at[:, None], axis=1)[:, 0].astype(np.float64)
        step = view.now(axis).astype(np.float64) - last
        square = square + step * step
    return _only_where(known, np.sqrt(square) * EARTH_RADIUS_KM)


def _speed_kmh(view: KeyView) -> Floats:
    at, _ = view.latest()
    age_ms = np.take_along_axis(view.age_ms, at[:, None], axis=1)[:, 0]
    hours: Floats = np.maximum(age_ms, _SHORTEST_MS) / _HOUR_MS
    return _distance_km(view) / hours


def _known_rows(view: KeyView) -> Floats:
    rows: Floats = view.known.sum(axis=1).astype(np.float64)
    return rows


_WORDS: Final = {
    "10m": "10 minutes",
    "1h": "hour",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
}
_THINGS: Final = {
    "ip_address": ("ip", "IP address", "IP addresses"),
    "user_agent": ("user_agent", "browser or app", "browsers or apps"),
    "email_address": ("email", "e-mail address", "e-mail addresses"),
    "phone": ("phone", "phone number", "phone numbers"),
    "card_bin": ("bin", "card BIN", "card BINs"),
    "product_category": ("category", "product category", "product categories"),
    "transaction_currency": ("currency", "currency", "currencies"),
}


def _entity_features() -> list[HistoryFeature]:
    features = []

    def add(
        measure: str, unit: str, meaning: str, reason: str, of: Operation, reason_when_0: str = ""
    ) -> None:
        features.append(
            HistoryFeature(f"entity_{measure}", "entity", unit, meaning, reason, of, reason_when_0)
        )

    for window, length_ms in WINDOWS_MS.items():
        words = _WORDS[window]
        add(
            f"tx_count_{window}",
            "transactions",
            f"Transactions in the last {words}.",
            f"{{value:.0f}} transactions in the last {words}.",
            _count(length_ms),
        )
        add(
            f"amount_sum_{window}",
            "USD",
            f"Amount spent in the last {words}.",
            f"{{value:,.2f}} USD spent in the last {words}.",
            _amount_sum(length_ms),
        )
    for window in ("24h", "30d"):
        length_ms, words = WINDOWS_MS[window], _WORDS[window]
        add(
            f"amount_mean_{window}",
            "USD",
            f"Mean amount in the last {words}.",
            f"The mean amount in the last {words} is {{value:,.2f}} USD.",
            _amount_mean(length_ms),
        )
        add(
            f"amount_max_{window}",
            "USD",
            f"Largest amount in the last {words}.",
            f"The largest amount in the last {words} is {{value:,.2f}} USD.",
            _amount_max(length_ms),
        )
    add(
        "amount_ratio_30d",
        "ratio",
        "Amount over the mean of the prior transactions in the last 30 days.",
        "{value:.1f} times this customer's 30-day average.",
        _amount_ratio(WINDOWS_MS["30d"]),
    )
    add(
        "amount_deviation_30d",
        "mean absolute deviations",
        "Distance from the mean of the prior transactions in the last 30 days, in their mean absolute deviations.",
        "The amount is {value:.1f} usual deviations from this customer's 30-day average.",
        _amount_deviation(WINDOWS_MS["30d"]),
    )
    add(
        "equal_amount_count_24h",
        "transactions",
        "Transactions of exactly this amount in the last 24 hours.",
        "{value:.0f} transactions of exactly this amount in the last 24 hours.",
        _equal_amounts(WINDOWS_MS["24h"]),
    )
    for column, windows in (
        ("ip_address", ("1h", "24h", "7d")),
        ("user_agent", ("24h", "7d")),
        ("product_category", ("1h", "24h", "7d")),
        ("card_bin", ("24h", "30d")),
        ("transaction_currency", ("24h", "30d")),
    ):
        short, _, plural = _THINGS[column]
        for window in windows:
            words = _WORDS[window]
            add(
                f"{short}_distinct_{window}",
                plural,
                f"Different {plural} in the last {words}.",
                f"{{value:.0f}} different {plural} in the last {words}.",
                _distinct(column, WINDOWS_MS[window]),
            )
    for column in (
        "ip_address",
        "user_agent",
        "email_address",
        "phone",
        "card_bin",
        "product_category",
    ):
        short, singular, _ = _THINGS[column]
        add(
            f"{short}_is_new",
            "0 or 1",
            f"Whether this entity's remembered transactions hold no such {singular}; NaN without any to compare.",
            f"This {singular} is new for this customer.",
            _is_new(column),
            f"This customer has used this {singular} before.",
        )
    add(
        "seconds_since_last",
        "seconds",
        "Time since the latest prior transaction.",
        "{value:,.0f} seconds after this customer's last transaction.",
        _seconds_since_last,
    )
    add(
        "distance_last_km",
        "km",
        "Straight-line distance to the billing location of the latest prior transaction.",
        "{value:,.0f} km from the last billing location.",
        _distance_km,
    )
    add(
        "speed_last_kmh",
        "km/h",
        "That distance over the time between, of at least a second.",
        "The billing location moved at {value:,.0f} km/h.",
        _speed_kmh,
    )
    add(
        "known_count",
        "transactions",
        "Prior transactions that are remembered.",
        "{value:.0f} earlier transactions are known.",
        _known_rows,
    )
    return features


HISTORY_FEATURES: Final[tuple[HistoryFeature, ...]] = tuple(_entity_features())
