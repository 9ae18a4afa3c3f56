"""Caches of parsed texts, because the same texts repeat."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

LONGEST_KEPT: Final = 512
"""Maximum length of a cached text in characters: clients choose the texts, and a cache of long ones
would hold gigabytes."""

T = TypeVar("T")


def remembered(texts: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Cache the results of a pure function of a text.

    Args:
        texts: Maximum number of cached texts; the least recently used are evicted first.

    Example:
        >>> remembered(texts=10)(len)("abc")
        3
    """

    def remembering(function: Callable[[str], T]) -> Callable[[str], T]:
        kept = lru_cache(maxsize=texts)(function)

        @wraps(function)
        def of(text: str) -> T:
            return kept(text) if len(text) <= LONGEST_KEPT else function(text)

        return of

    return remembering
