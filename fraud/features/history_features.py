"""Features of a key's recent transactions (velocities among them), vectorised over a batch.

All windows are `[t - w, t]`, closed on both sides, where t is the event_time of the transaction being
scored, which counts itself. Records with an event time after t are not counted, whenever they arrived.
*Prior* records are those of the window without the transaction itself.

Each transaction's prior records are sorted from the youngest to the oldest, so every window is a
prefix of them: running sums and maxima are computed once, and each window reads the value at its end.

Arithmetic is exact (int64, or one correctly rounded float64 operation on exact values), so that
neither the order of the records nor the batch size can change a single bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import HOUR_MS
from fraud.features.currency import MICRO, UNKNOWN_AMOUNT
from fraud.features.declaration import ENTITY, EVENT_ID, LOCATION_COLUMNS, Key
from fraud.features.history import Rings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Column = NDArray[Any]

EARTH_RADIUS_KM: Final = 6371.0088  # mean radius, IUGG
_SHORTEST_MS: Final = 1000
_NEVER: Final = np.iinfo(np.int64).max
_POSITION_BITS: Final = 16


class KeyView:
    """History of one key for a batch of n transactions, as columns of shape (n, width).

    The prior rows of each transaction are sorted from the youngest to the oldest; at equal event
    times, the latest arrival comes first. Entries after the first `count(0)` are padding.

    Args:
        key: Key of the history.
        records: The transactions' own records, shape (n,), of `Key.dtype`.
        rings: Rings of the transactions. A ring may hold the transaction itself or a duplicate of
            it; neither counts as prior.
    """

    def __init__(self, key: Key, records: NDArray[np.void], rings: Rings) -> None:
        self.n = len(records)
        self._key = key
        self._records = records
        self._rings = rings
        self._cache: dict[Any, Any] = {}
        self.present: Mask = records["event"] != 0
        """Whether each transaction has a value of the key, shape (n,)."""
        self.at_ms: Ints = np.ascontiguousarray(records["event_time_ms"])
        self.amount: Ints = np.ascontiguousarray(records["amount_micro"])
        self.has_amount: Mask = self.amount != UNKNOWN_AMOUNT
        self._order()

    def _order(self) -> None:
        rings = self._rings
        events = np.ascontiguousarray(self._records["event"])
        lengths, ends = rings.lengths, rings.ends
        # Nearly always the youngest arrival is the transaction itself.
        itself = (lengths > 0) & (rings.column("event")[ends - 1] == events)
        lengths, ends = lengths - itself, ends - itself
        width = max(int(lengths.max(initial=0)), 1)
        self._index = ends[:, None] - 1 - np.arange(width)
        filled = np.arange(width) < lengths[:, None]
        self._index[~filled] = -1
        other = filled & (rings.column("event")[self._index] != events[:, None])
        self.remembered: Ints = other.sum(axis=1)
        """Number of records of other events in each ring, at any event time, shape (n,)."""
        self.reused: Mask = np.zeros(self.n, np.bool_)
        """Whether another event in the ring has the transaction's event_id, shape (n,)."""
        if not self._key.shared:
            ids = np.ascontiguousarray(self._records[EVENT_ID])
            self.reused = (other & (rings.column(EVENT_ID)[self._index] == ids[:, None])).any(
                axis=1
            )
        age = self.at_ms[:, None] - rings.column("event_time_ms")[self._index]
        age[~other | (age < 0)] = _NEVER
        odd = np.flatnonzero((age[:, 1:] < age[:, :-1]).any(axis=1))
        if len(odd):
            order = np.argsort(age[odd], axis=1, kind="stable")
            self._index[odd] = np.take_along_axis(self._index[odd], order, axis=1)
            age[odd] = np.take_along_axis(age[odd], order, axis=1)
        self.age_ms: Ints = age
        self._places = np.arange(width, dtype=np.int64)
        self._starts = np.arange(self.n) * (width + 1)

    def _once(self, name: Any, compute: Callable[[], Any]) -> Any:
        found = self._cache.get(name)
        if found is None:
            found = self._cache[name] = compute()
        return found

    def now(self, column: str) -> Column:
        """Return a column of the transactions' own records, shape (n,)."""
        if column == ENTITY:
            return (self._records["event"] >> np.uint64(32)).astype(np.uint32)
        return np.ascontiguousarray(self._records[column])

    def prior(self, column: str) -> Column:
        """Return a column of the history, shape (n, width)."""
        return self._once(column, lambda: self._rings.column(column)[self._index])  # type: ignore[no-any-return]

    def count(self, window_ms: int) -> Ints:
        """Count the prior rows in a window, or in the whole ring if `window_ms` is 0; shape (n,)."""
        longest = window_ms or _NEVER - 1
        return self._once(longest, lambda: (self.age_ms <= longest).sum(axis=1))  # type: ignore[no-any-return]

    def known(self) -> Mask:
        """Return which entries are prior rows and not padding, shape (n, width)."""
        return self._once("known", lambda: self.age_ms != _NEVER)  # type: ignore[no-any-return]

    def _priced(self) -> Mask:
        return self._once(  # type: ignore[no-any-return]
            "priced", lambda: self.known() & (self.prior("amount_micro") != UNKNOWN_AMOUNT)
        )

    def _read(self, name: str, window_ms: int, rows: Callable[[], Column], add: Any) -> Column:
        """Accumulate rows from the youngest to the oldest; return the value at each window's end."""

        def accumulate() -> Column:
            values = rows()
            every = np.empty((self.n, values.shape[1] + 1), np.int64)
            every[:, 0] = UNKNOWN_AMOUNT if add is np.maximum else 0
            add.accumulate(values, axis=1, out=every[:, 1:])
            flat: Column = every.ravel()
            return flat

        every = self._once(("sum of", name), accumulate)
        return self._once(  # type: ignore[no-any-return]
            (name, window_ms), lambda: every[self._starts + self.count(window_ms)]
        )

    def amounts_known(self, window_ms: int) -> Ints:
        """Count the prior rows in a window that have an amount, shape (n,)."""
        return self._read("priced", window_ms, lambda: self._priced().astype(np.int64), np.add)

    def amounts_below(self, micro: int, window_ms: int) -> Ints:
        """Count the prior rows in a window with an amount below `micro`, shape (n,)."""

        def rows() -> Column:
            return (self._priced() & (self.prior("amount_micro") < micro)).astype(np.int64)

        return self._read(f"below {micro}", window_ms, rows, np.add)

    def amounts_equal(self, window_ms: int) -> Ints:
        """Count the prior rows in a window of exactly the same amount, shape (n,)."""

        def rows() -> Column:
            same: Mask = self.prior("amount_micro") == self.amount[:, None]
            return (self._priced() & same).astype(np.int64)

        return self._read("equal", window_ms, rows, np.add)

    def sum_of_amounts(self, window_ms: int) -> Ints:
        """Sum the prior amounts in a window, micro-units, shape (n,)."""

        def rows() -> Column:
            return np.where(self._priced(), self.prior("amount_micro"), 0)

        return self._read("amount", window_ms, rows, np.add)

    def highest_amount(self, window_ms: int) -> Ints:
        """Return the largest prior amount in a window, `UNKNOWN_AMOUNT` without one, shape (n,)."""

        def rows() -> Column:
            return np.where(self.known(), self.prior("amount_micro"), UNKNOWN_AMOUNT)

        return self._read("highest", window_ms, rows, np.maximum)

    def first_of_others(self, column: str) -> Column:
        """Return the first position of each code that differs from the transaction's own.

        Returns:
            Positions, shape (n, width), unordered, padded with the largest int32.
        """

        def places() -> Column:
            codes = self.prior(column)
            others = self.known() & (codes != 0) & (codes != self.now(column)[:, None])
            sortable = (codes.astype(np.int64) << _POSITION_BITS) | self._places
            sortable[~others] = _NEVER
            sortable.sort(axis=1)
            ordered = sortable >> _POSITION_BITS
            again = np.zeros(ordered.shape, np.bool_)
            np.equal(ordered[:, 1:], ordered[:, :-1], out=again[:, 1:])
            at = (sortable & ((1 << _POSITION_BITS) - 1)).astype(np.int32)
            at[again | (sortable == _NEVER)] = np.iinfo(np.int32).max
            return at

        return self._once(("first", column), places)  # type: ignore[no-any-return]


Operation = Callable[[KeyView, int], Any]


def _only_where(known: Mask, values: Column) -> Floats:
    chosen: Floats = np.where(known, values, np.nan)
    return chosen


def count(view: KeyView, window_ms: int) -> Column:
    """Count transactions, the scored one included."""
    return 1 + view.count(window_ms)


def prior_count(view: KeyView, window_ms: int) -> Column:
    """Count the prior transactions."""
    return view.count(window_ms)


def _total(view: KeyView, window_ms: int) -> Ints:
    total: Ints = view.sum_of_amounts(window_ms) + np.where(view.has_amount, view.amount, 0)
    return total


def amount_sum(view: KeyView, window_ms: int) -> Column:
    """Sum the known amounts of a window."""
    return _total(view, window_ms) / MICRO


def amount_mean(view: KeyView, window_ms: int) -> Column:
    """Average the known amounts; NaN without any."""
    known = view.amounts_known(window_ms) + view.has_amount
    return _only_where(known > 0, _total(view, window_ms) / np.maximum(known, 1) / MICRO)


def amount_max(view: KeyView, window_ms: int) -> Column:
    """Return the largest amount; NaN without any."""
    # UNKNOWN_AMOUNT is the smallest int64, so it never is the largest amount.
    highest = np.maximum(view.highest_amount(window_ms), view.amount)
    return _only_where(highest != UNKNOWN_AMOUNT, highest / MICRO)


def amount_ratio(view: KeyView, window_ms: int) -> Column:
    """Divide the amount by the mean of the prior amounts."""
    total = view.sum_of_amounts(window_ms)
    known = view.has_amount & (total > 0)
    mean = np.where(known, total, 1) / np.maximum(view.amounts_known(window_ms), 1)
    return _only_where(known, view.amount / mean)


def amount_deviation(view: KeyView, window_ms: int) -> Column:
    """Compute the distance from the mean of the prior amounts, in their mean absolute deviations."""
    number = view.amounts_known(window_ms)
    total = view.sum_of_amounts(window_ms)
    # n times each distance from the mean, so that all stays in whole numbers.
    distance = np.abs(view.prior("amount_micro") * number[:, None] - total[:, None])
    distance[~(view._priced() & (view.age_ms <= window_ms))] = 0
    spread = _exact_sum(distance)
    known = view.has_amount & (spread > 0)
    own = np.where(view.has_amount, view.amount, 0) * number - total
    return _only_where(known, own * number / np.where(known, spread, 1.0))


def _exact_sum(values: Ints) -> Floats:
    """Sum whole numbers of up to 2**58 each along a row, exactly, and round once."""
    low = (values & 0xFFFFFFFF).sum(axis=1)
    high = (values >> 32).sum(axis=1)
    total: Floats = high * 4294967296.0 + low
    return total


def equal_amounts(view: KeyView, window_ms: int) -> Column:
    """Count the transactions of exactly this amount; NaN without an amount."""
    return _only_where(view.has_amount, 1 + view.amounts_equal(window_ms))


def share_below(micro: int) -> Operation:
    """Return an operation for the share of amounts below `micro`; NaN without any amount."""

    def share(view: KeyView, window_ms: int) -> Column:
        known = view.amounts_known(window_ms) + view.has_amount
        own = view.has_amount & (view.amount < micro)
        return _only_where(
            known > 0, (view.amounts_below(micro, window_ms) + own) / np.maximum(known, 1)
        )

    return share


def distinct(column: str) -> Operation:
    """Return an operation that counts the distinct values of a field, without missing ones."""

    def number(view: KeyView, window_ms: int) -> Column:
        others = view.first_of_others(column) < view.count(window_ms)[:, None]
        found: Column = others.sum(axis=1) + (view.now(column) != 0)
        return found

    return number


def is_new(column: str) -> Operation:
    """Return an operation that tests whether the value is new; NaN without prior values."""

    def new(view: KeyView, window_ms: int) -> Column:
        now, codes = view.now(column), view.prior(column)
        earlier = view.age_ms <= (window_ms or _NEVER - 1)
        met = (earlier & (codes == now[:, None])).any(axis=1)
        return _only_where((now != 0) & (earlier & (codes != 0)).any(axis=1), ~met)

    return new


def seconds_since_last(view: KeyView, window_ms: int) -> Column:
    """Compute the time since the latest prior transaction, seconds."""
    return _only_where(view.count(window_ms) > 0, view.age_ms[:, 0] / 1000)


def distance_km(view: KeyView, window_ms: int) -> Column:
    """Compute the straight-line distance to the latest prior billing location, km."""
    square = np.zeros(view.n)
    for axis in LOCATION_COLUMNS:
        last = view.prior(axis)[:, 0].astype(np.float64)
        step = view.now(axis).astype(np.float64) - last
        square = square + step * step
    return _only_where(view.count(window_ms) > 0, np.sqrt(square) * EARTH_RADIUS_KM)


def speed_kmh(view: KeyView, window_ms: int) -> Column:
    """Compute the speed over `distance_km` in km/h, assuming a time of at least a second."""
    hours = np.maximum(view.age_ms[:, 0], _SHORTEST_MS) / HOUR_MS
    return distance_km(view, window_ms) / hours  # type: ignore[no-any-return]
