"""Types of the declarations in `fraud/features/catalogue.py`: features and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

AMOUNT: Final = "amount_base"
"""Input of a feature: the amount in the base currency; every key remembers it."""

EVENT_TIME: Final = "event_time"
"""Input of a feature: every key remembers it."""

ENTITY: Final = "entity_id"

EVENT_ID: Final = "event_id"
"""Column of the entity's records: a 32-bit hash of the event_id, by which a reuse is noticed."""

LOCATION: Final = "billing_location"
"""Input of a feature: the billing location, remembered as a point on the unit sphere."""

LOCATION_COLUMNS: Final = ("x", "y", "z")

WINDOWS_MS: Final = {
    "10m": 600_000,
    "1h": 3_600_000,
    "24h": 86_400_000,
    "7d": 7 * 86_400_000,
    "30d": 30 * 86_400_000,
}
"""Window lengths by the suffix that names them."""

_COMMON: Final = (
    ("event", "<u8"),  # identifies the event by id and content; 0 stands for no record
    ("event_time_ms", "<i8"),
    ("amount_micro", "<i8"),  # millionths of the base currency, or UNKNOWN_AMOUNT
)


@dataclass(frozen=True, slots=True)
class Feature:
    """One number about a transaction.

    Attributes:
        name: Name in the vector; `{key}_{measure}_{operation}_{window}` for features of a history.
        inputs: Inputs of the computation: names of the record's fields, or `AMOUNT`, `EVENT_TIME`,
            `LOCATION`. A key remembers the inputs of its features; a field is stored as a 32-bit
            hash of its text, for comparing and counting.
        unit: Unit or range of the number.
        meaning: One sentence for docs/features.md. NaN always means unknown.
        reason: Reason text; `{value}` stands for the number.
        operation: Computes the feature for a batch: from `transaction_features.Batch`, or for a
            history from `history_features.KeyView` and the window's length in milliseconds.
        key: Name of the key whose history it describes; empty for the transaction alone.
        window: Suffix in `WINDOWS_MS`; empty for the whole ring.
        reason_when_0: Reason text for the value 0; empty if `reason` fits.
    """

    name: str
    inputs: tuple[str, ...]
    unit: str
    meaning: str
    reason: str
    operation: Callable[..., Any]
    key: str = ""
    window: str = ""
    reason_when_0: str = ""

    @property
    def window_ms(self) -> int:
        """Length of the window, milliseconds; 0 without one."""
        return WINDOWS_MS[self.window] if self.window else 0


@dataclass(frozen=True)
class Key:
    """A field by whose values the history of transactions is grouped.

    Attributes:
        name: Prefix of its features, `entity` for `entity_amount_sum_1h`.
        field: Field that holds the key's value; a record without it has no history for this key.
        rows: Number of transactions remembered per value, including the one being scored. Windows
            with more transactions see only these.
        codes: Fields whose values are remembered as 32-bit hashes.
        location: Whether the billing location is remembered.
    """

    name: str
    field: str
    rows: int
    codes: tuple[str, ...] = ()
    location: bool = False

    @property
    def shared(self) -> bool:
        """Whether several entities can have the same value.

        If so, the upper half of a record's `event` is the hash of the entity, and the lower half
        identifies its event: records stay small, and entities can be counted.
        """
        return self.field != ENTITY

    @property
    def columns(self) -> dict[str, str]:
        """NumPy types of the columns that features read, by name."""
        places = LOCATION_COLUMNS if self.location else ()
        return dict(_COMMON) | dict.fromkeys(places, "<f4") | dict.fromkeys(self.codes, "<u4")

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """Layout of one record."""
        event_id = {} if self.shared else {EVENT_ID: "<u4"}
        return np.dtype([*self.columns.items(), *event_id.items()])

    def remembering(self, features: Iterable[Feature]) -> Key:
        """Return the same key with the columns that its features need."""
        inputs = dict.fromkeys(
            name for feature in features if feature.key == self.name for name in feature.inputs
        )
        known = {AMOUNT, EVENT_TIME, LOCATION, ENTITY}
        codes = tuple(name for name in inputs if name not in known)
        return Key(self.name, self.field, self.rows, codes, LOCATION in inputs)
