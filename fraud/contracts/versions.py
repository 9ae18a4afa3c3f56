"""Versions of rules, lists and models: SHA-256 hashes of what they name.

Inside, a version is the whole hash. Decisions and screens show its first 16 digits. Documents,
decisions and model folders from before have the first 12 digits, which still name their content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

SHOWN_DIGITS: Final = 16
"""Hexadecimal digits of a version in decisions and on screens."""

EARLIER_DIGITS: Final = 12
"""Hexadecimal digits of the versions that were made before versions were whole hashes."""


def version_of(content: Any) -> str:
    """Return the version of JSON content: its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def shown(version: str) -> str:
    """Return a version as decisions and screens show it.

    Example:
        >>> shown(version_of({}))
        '44136fa355b3678a'
    """
    return version[:SHOWN_DIGITS]


def same_version(one: str | None, other: str | None) -> bool:
    """Return whether two versions name the same content; either may be shortened.

    Example:
        >>> full = version_of({})
        >>> same_version(full, full[:12]), same_version(full, full[:4]), same_version("1", "1")
        (True, False, True)
    """
    if one is None or other is None or one == other:
        return one == other
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) >= EARLIER_DIGITS and longer.startswith(shorter)


def found_version(version: str, known: Iterable[str]) -> str | None:
    """Return the only known version that a possibly shortened one names, None without exactly one."""
    found = [one for one in known if same_version(one, version)]
    return found[0] if len(found) == 1 else None


def written_as(version: str) -> Iterator[str]:
    """Return all forms in which decisions name a version, the longest first."""
    yield from dict.fromkeys((version, version[:SHOWN_DIGITS], version[:EARLIER_DIGITS]))
