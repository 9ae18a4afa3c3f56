"""Optional fields left out at random, so that trees learn that a missing value alone means nothing.

Real traffic lacks fields for reasons unrelated to fraud: an integration that does not send them,
a channel that does not have them. If a field is never missing in training, trees treat a missing
value arbitrarily. So the simulator leaves fields out of its records, and training hides them in
the examples that fit the trees, fraudulent and legitimate alike.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.transaction import FIELDS, from_mapping
from fraud.features.packing import pack
from fraud.features.replay import replay

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

OPTIONAL: Final = tuple(field.name for field in FIELDS if not field.required)
"""Fields that may be left out, in the order of the contract."""

SHARE_ONE: Final = 0.10
"""Share of records that lack exactly one optional field."""

SHARE_SOME: Final = 0.05
"""Share of records that lack each optional field with a probability of one half."""

SHARE_ALL: Final = 0.05
"""Share of records that lack all optional fields.

The three shares are large enough for a leaf of their own in a history of some thousand frauds,
and small enough to cost little precision.
"""


_BLOCK: Final = 65_536
"""Rows processed at once, which bounds the memory for the draws."""


def left_out(chosen: Floats, which: Floats, each: Floats) -> Mask:
    """Choose the fields to leave out of each record.

    Args:
        chosen: Uniform draws from [0, 1) that decide how many fields, shape (n,).
        which: Uniform draws that decide which field if it is one, shape (n,).
        each: Uniform draws for each field, shape (len(OPTIONAL), n).

    Returns:
        Whether a field is left out, shape (len(OPTIONAL), n).
    """
    one = chosen < SHARE_ONE
    some = ~one & (chosen < SHARE_ONE + SHARE_SOME)
    every = ~one & ~some & (chosen < SHARE_ONE + SHARE_SOME + SHARE_ALL)
    position = np.arange(len(OPTIONAL))[:, None]
    single = one & (np.floor(which * len(OPTIONAL)) == position)
    return np.asarray(single | (some & (each < 0.5)) | every)


@cache
def hidden_columns() -> Mask:
    """Find which features become unknown without a field, by computing them with and without it.

    Returns:
        Shape (len(OPTIONAL), features).
    """
    example = {field.name: field.example for field in FIELDS}
    # Features of the history are unknown without an earlier transaction.
    earlier = from_mapping({**example, "event_id": "earlier", "event_time": "2026-03-01T09:00:00Z"})

    def is_known(record: dict[str, str | float]) -> Mask:
        (_, vector) = np.concatenate(list(replay(pack([earlier, from_mapping(record)]))))
        return np.asarray(~np.isnan(vector))

    whole = is_known(example)
    without = [
        is_known({other: value for other, value in example.items() if other != name})
        for name in OPTIONAL
    ]
    return np.array([whole & ~known for known in without])


def hide(matrix: NDArray[np.float32], hidden: Mask, generator: np.random.Generator) -> None:
    """Hide the features that cannot be computed without the fields left out of each row, in place.

    Args:
        matrix: Feature vectors, shape (n, features).
        hidden: Result of `hidden_columns`, or some of its columns.
        generator: Draws the fields to leave out.
    """
    for first in range(0, len(matrix), _BLOCK):
        rows = matrix[first : first + _BLOCK]
        missing = left_out(
            generator.random(len(rows)),
            generator.random(len(rows)),
            generator.random((len(OPTIONAL), len(rows))),
        )
        # A feature is hidden if any of the missing fields hides it: the product counts these.
        rows[(missing.T.astype(np.float32) @ hidden.astype(np.float32)) > 0] = np.nan
