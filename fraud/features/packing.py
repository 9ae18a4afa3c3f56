"""From a transaction to bytes: what each key remembers of it, and its own features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.transaction import Transaction
from fraud.features.currency import amount_to_micro
from fraud.features.history import KEYS, Key
from fraud.features.of_transaction import TRANSACTION_FEATURES, Seen

Records = NDArray[np.void]

TRANSACTION_DTYPE: Final = np.dtype([(feature.name, "<f4") for feature in TRANSACTION_FEATURES])
"""Layout of the features that need no history, float32 as the model takes them."""

_RECORD_DTYPES: Final = {key.name: key.dtype for key in KEYS}
_RADIANS: Final = math.pi / 180


def event_hash(entity_id: str, event_id: str) -> int:
    """Identify an event within all entities, 64 bits."""
    text = f"{len(entity_id)}:{entity_id}{event_id}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def code_of(text: str | None) -> int:
    """Give a text's 32-bit code for comparing and counting; 0 is missing.

    Example:
        >>> code_of(None), code_of("shopping_net") == code_of("shopping_net")
        (0, True)
    """
    return 0 if text is None else crc32(text.encode()) or 1


def _place(fields: dict[str, Any]) -> tuple[float, float, float]:
    latitude = fields.get("billing_latitude")
    longitude = fields.get("billing_longitude")
    if latitude is None or longitude is None:
        return (math.nan, math.nan, math.nan)
    # A point on the unit sphere: distances then need no function whose last bit may depend on
    # how many values are computed at once.
    latitude *= _RADIANS
    longitude *= _RADIANS
    across = math.cos(latitude)
    return (across * math.cos(longitude), across * math.sin(longitude), math.sin(latitude))


@dataclass(frozen=True, slots=True)
class Packed:
    """Transactions of one batch, packed; all of length n.

    Attributes:
        keys: Per key, the value of each transaction, None when it has none.
        records: Per key, what is remembered of each, of `Key.dtype`.
        own: Features that need no history, of `TRANSACTION_DTYPE`.
    """

    keys: dict[str, list[str | None]]
    records: dict[str, Records]
    own: Records

    def __len__(self) -> int:
        return len(self.own)


def _record(key: Key, seen: Seen, event: int) -> tuple[Any, ...]:
    transaction = seen.transaction
    fields = transaction.fields
    place = _place(fields) if key.location else ()
    codes = [
        code_of(
            transaction.transaction_currency if name == "transaction_currency" else fields.get(name)
        )
        for name in key.codes
    ]
    return (event, transaction.event_time_ms, seen.amount_micro, *place, *codes)


def pack(transactions: Sequence[Transaction]) -> Packed:
    """Pack transactions.

    Example:
        >>> len(pack([]))
        0
    """
    keys: dict[str, list[str | None]] = {key.name: [] for key in KEYS}
    rows: dict[str, list[tuple[Any, ...]]] = {key.name: [] for key in KEYS}
    own = []
    for transaction in transactions:
        seen = Seen(
            transaction,
            amount_to_micro(
                transaction.transaction_amt,
                transaction.transaction_currency,
                transaction.event_time_ms,
            ),
        )
        event = event_hash(transaction.entity_id, transaction.event_id)
        for key in KEYS:
            value = (
                transaction.entity_id
                if key.field == "entity_id"
                else transaction.fields.get(key.field)
            )
            keys[key.name].append(value)
            rows[key.name].append(_record(key, seen, event))
        own.append(tuple([feature.of(seen) for feature in TRANSACTION_FEATURES]))
    return Packed(
        keys,
        {key.name: np.array(rows[key.name], _RECORD_DTYPES[key.name]) for key in KEYS},
        np.array(own, TRANSACTION_DTYPE),
    )
