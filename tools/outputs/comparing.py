"""Differences between two snapshots."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

TEXTS: Final = {
    "afd": frozenset({"Message"}),
    "dead_letters": frozenset({"error_message"}),
    "monitoring": frozenset({"description", "summary", "meaning", "what_to_do", "title"}),
    "openapi": frozenset({"description", "summary"}),
    "rest_refused": frozenset({"detail"}),
    "schemas": frozenset({"description"}),
}
"""By file, the keys whose values are prose: they may be written better, and are told apart."""


class Difference(NamedTuple):
    """One value that differs.

    Attributes:
        place: File, then the keys that lead to the value.
        before: In the first snapshot; None if it is missing there.
        after: In the second one.
        is_text: Whether it is prose.
    """

    place: str
    before: Any
    after: Any
    is_text: bool


def differences(before: Path, after: Path) -> Iterator[Difference]:
    """Compare two snapshots, file by file."""
    names = sorted({path.name for folder in (before, after) for path in folder.iterdir()})
    for name in names:
        kind = name.split(".")[0]
        contents = [_content(folder / name) for folder in (before, after)]
        if None in contents:
            there = [None if content is None else "there" for content in contents]
            yield Difference(name, there[0], there[1], is_text=False)
            continue
        yield from _compared(kind, contents[0], contents[1], TEXTS.get(kind, frozenset()))


def _content(path: Path) -> Any:
    if not path.exists():
        return None
    if path.suffix == ".gz":
        return [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return orjson.loads(path.read_bytes())


def _compared(
    place: str, before: Any, after: Any, texts: frozenset[str], *, is_text: bool = False
) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            yield from _compared(
                f"{place} {key}",
                before.get(key),
                after.get(key),
                texts,
                is_text=is_text or key in texts,
            )
        if list(before) != list(after) and before.keys() == after.keys():
            yield Difference(f"{place} (order)", list(before), list(after), is_text)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) == len(after) and not all(isinstance(item, str) for item in before + after):
            for number, pair in enumerate(zip(before, after, strict=True)):
                yield from _compared(f"{place} {number}", *pair, texts, is_text=is_text)
        elif before != after:
            yield from _items(place, before, after, is_text=is_text)
    elif type(before) is not type(after) or before != after:
        yield Difference(place, before, after, is_text)


def _items(
    place: str, before: list[Any], after: list[Any], *, is_text: bool
) -> Iterator[Difference]:
    """Return the items of either list alone; names are compared as sets."""
    written = [[orjson.dumps(item) for item in items] for items in (before, after)]
    known = [set(items) for items in written]
    gone = [item for item in written[0] if item not in known[1]]
    new = [item for item in written[1] if item not in known[0]]
    yield from (Difference(place, orjson.loads(item), None, is_text) for item in gone)
    yield from (Difference(place, None, orjson.loads(item), is_text) for item in new)
    if not gone and not new:
        yield Difference(f"{place} (order)", before, after, is_text)
