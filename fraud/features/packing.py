"""Packs a transaction into the record of each key and its own features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

import numpy as np

from fraud.contracts.transaction import Transaction
from fraud.features.catalogue import FEATURES, KEYS
from fraud.features.declaration import EVENT_ID, LOCATION_COLUMNS, Key
from fraud.features.history import Records
from fraud.features.remembering import remembered
from fraud.features.transaction_features import Batch

OWN_FEATURES: Final = tuple(feature for feature in FEATURES if not feature.key)
"""Features of the transaction alone; they come first in the vector."""

OWN_DTYPE: Final = np.dtype([(feature.name, "<f4") for feature in OWN_FEATURES])
"""Layout of the features that need no history, float32 as the model takes them."""

_RADIANS: Final = math.pi / 180
_NOWHERE: Final = (math.nan, math.nan, math.nan)


def event_hash(transaction: Transaction) -> int:
    """Return a 64-bit hash of `Transaction.identity`; never 0."""
    digest = blake2b(transaction.identity.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


@remembered(texts=262_144)
def _code_of(text: str) -> int:
    return crc32(text.encode()) or 1


def code_of(text: str | None) -> int:
    """Return a 32-bit hash of a text, for comparing and counting; 0 stands for a missing text.

    Example:
        >>> code_of(None), code_of("shopping_net") == code_of("shopping_net")
        (0, True)
    """
    return 0 if text is None else _code_of(text)


@lru_cache(maxsize=65_536)
def _point(latitude: float, longitude: float) -> tuple[float, float, float]:
    # A point on the unit sphere: distances then need no function whose last bit may depend on
    # how many values are computed at once.
    latitude *= _RADIANS
    longitude *= _RADIANS
    across = math.cos(latitude)
    return (across * math.cos(longitude), across * math.sin(longitude), math.sin(latitude))


def _place(fields: dict[str, Any]) -> tuple[float, float, float]:
    latitude = fields.get("billing_latitude")
    longitude = fields.get("billing_longitude")
    if latitude is None or longitude is None:
        return _NOWHERE
    return _point(latitude, longitude)


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed batch of n transactions; all attributes have length n.

    Attributes:
        keys: Per key, the value of each transaction; None if it is missing.
        records: Per key, the record of each transaction, of `Key.dtype`; zeros if it lacks the key.
        own: Features that need no history, of `OWN_DTYPE`.
        event_times: The `EventTime` of each transaction; empty if all are usual.
    """

    keys: dict[str, list[str | None]]
    records: dict[str, Records]
    own: Records
    event_times: bytes = b""

    def __len__(self) -> int:
        return len(self.own)


def pack(transactions: Sequence[Transaction]) -> Packed:
    """Pack transactions into records per key and their own features.

    Example:
        >>> len(pack([]))
        0
    """
    batch = Batch(transactions)
    count = len(transactions)
    events = np.array([event_hash(transaction) for transaction in transactions], np.uint64)
    # Not by `code_of`: ids repeat too rarely to be cached.
    event_ids = np.array(
        [crc32(transaction.event_id.encode()) for transaction in transactions], np.uint32
    )
    codes = {
        name: np.array([code_of(text) for text in batch.texts(name)], np.uint32)
        for name in {name for key in KEYS for name in key.codes} | {"entity_id"}
    }
    places = np.array([_place(one.fields) for one in transactions], np.float32).reshape(count, 3)

    def records_of(key: Key) -> tuple[list[str | None], Records]:
        values: list[str | None] = batch.texts(key.field)
        records = np.zeros(count, key.dtype)
        records["event"] = events
        if key.shared:
            low = np.uint64(0xFFFFFFFF)
            records["event"] = (
                codes["entity_id"].astype(np.uint64) << np.uint64(32)
            ) | events & low
        else:
            records[EVENT_ID] = event_ids
        records["event_time_ms"] = batch.event_time_ms
        records["amount_micro"] = batch.amount_micro
        if key.location:
            for column, axis in enumerate(LOCATION_COLUMNS):
                records[axis] = places[:, column]
        for name in key.codes:
            records[name] = codes[name]
        missing = [at for at, value in enumerate(values) if value is None]
        if missing:
            records[missing] = np.zeros(1, key.dtype)
        return values, records

    packed = {key.name: records_of(key) for key in KEYS}
    own = np.zeros(count, OWN_DTYPE)
    for feature in OWN_FEATURES:
        own[feature.name] = feature.operation(batch)
    return Packed(
        {name: values for name, (values, _) in packed.items()},
        {name: records for name, (_, records) in packed.items()},
        own,
        bytes([transaction.timing for transaction in transactions]),
    )
