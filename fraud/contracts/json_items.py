"""Counts the items of a JSON array without parsing it."""

from __future__ import annotations

from typing import Final

import numpy as np

_QUOTE, _COMMA = np.frombuffer(b'",', np.uint8)
_STEP: Final = np.zeros(256, np.int8)
"""Change of the nesting depth at each byte outside of strings."""
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1

_OTHER: Final = bytes(set(range(256)) - set(b'",[]{}'))
"""Bytes without a structural role: most of the input, so they are removed before counting."""

_CHUNK_BYTES: Final = 262_144
"""Bytes examined at once: bounds the memory, and the time spent on far too long arrays."""


def has_more_items(raw: bytes, most: int) -> bool:
    r"""Return whether a JSON array has more than `most` items, without parsing any.

    Args:
        raw: A JSON array; for any other input the result is meaningless.
        most: Largest number of items to accept, at least 1.

    Example:
        >>> has_more_items(b'[{"a": [1, 2]}, "x,\\",y"]', 2)
        False
        >>> has_more_items(b"[1, 2, 3]", 2)
        True
    """
    if raw.count(b",") < most:
        return False
    # Without escapes every quote begins or ends a string.
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHER)
    commas, quotes, depth = 0, 0, 0
    for first in range(0, len(plain), _CHUNK_BYTES):
        chunk = np.frombuffer(plain, np.uint8, min(_CHUNK_BYTES, len(plain) - first), first)
        quotes_so_far = quotes + np.cumsum(chunk == _QUOTE)
        is_outside = quotes_so_far % 2 == 0
        depths = depth + np.cumsum(_STEP[chunk] * is_outside)
        commas += int(np.count_nonzero((chunk == _COMMA) & is_outside & (depths == 1)))
        if commas >= most:
            return True
        quotes, depth = int(quotes_so_far[-1]), int(depths[-1])
    return False
