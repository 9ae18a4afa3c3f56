"""Which documents of lists a later change of the whole list has superseded.

A change that replaces all entries, drops a list or is a snapshot of it supersedes everything that
was applied before it. Only the head of a document is decoded, because its entries may be many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from fraud.contracts.times import DAY_MS

KEPT_MS: Final = 30 * DAY_MS
"""How long superseded documents are kept, milliseconds: past decisions are computed again from them."""

SNAPSHOT_BYTES: Final = 1_048_576
"""Size of a list's changes below which no snapshot of the list is taken."""


class _Content(msgspec.Struct, gc=False):
    description: str | None = None
    replace: bool = False
    dropped: bool = False
    follows: str | None = None
    part: int = 1
    parts: int = 1


class _Head(msgspec.Struct, gc=False):
    content: _Content


_read_head: Final = msgspec.json.Decoder(_Head).decode


class _Part(NamedTuple):
    key: bytes
    size: int
    time_ms: int


class _Applied(NamedTuple):
    change_id: str
    parts: list[_Part]
    is_whole: bool

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


class ListLog:
    """The documents of lists on the control topic, by list, in the order in which they take effect."""

    def __init__(self) -> None:
        self._applied: defaultdict[str, list[_Applied]] = defaultdict(list)
        self._open: dict[tuple[str, str], list[_Part]] = {}
        self._keys: set[bytes] = set()

    def add(
        self, name: str, version: str, key: bytes, value: bytes, time_ms: int
    ) -> Iterator[bytes]:
        """Note the next document of a list, and yield the keys of those that it supersedes.

        Args:
            name: Name of the list.
            version: Version of the document: id of the change, and number of its part.
            key: Key of the record.
            value: Value of the record; what is not a change of a list is passed over.
            time_ms: Kafka's timestamp, UTC epoch milliseconds.
        """
        try:
            content = _read_head(value).content
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if key in self._keys:
            return
        change_id = version.partition(".")[0]
        parts = self._open.setdefault((name, change_id), [])
        if content.part != len(parts) + 1:
            return
        parts.append(_Part(key, len(key) + len(value), time_ms))
        self._keys.add(key)
        if len(parts) < content.parts:
            return
        del self._open[name, change_id]
        applied = self._applied[name]
        if content.follows is None:
            # A replacement without a description leaves that of the changes before it.
            is_whole = content.dropped or (content.replace and content.description is not None)
        elif not applied or applied[-1].change_id == content.follows:
            is_whole = True
        else:
            # A void snapshot: the last change is still the last.
            applied.insert(-1, _Applied(change_id, parts, is_whole=False))
            return
        if is_whole:
            yield from (part.key for change in applied for part in change.parts)
        applied.append(_Applied(change_id, parts, is_whole))

    def put_before(self, earlier: ListLog) -> Iterator[bytes]:
        """Note documents that took effect before all others, and yield those that are superseded."""
        for name, applied in earlier._applied.items():
            ours = self._applied[name]
            if any(change.is_whole for change in ours):
                yield from (part.key for change in applied for part in change.parts)
            self._applied[name] = applied + ours
        self._open |= earlier._open
        self._keys |= earlier._keys

    def remove(self, key: bytes) -> None:
        """Forget a document that was removed from the topic."""
        if key not in self._keys:
            return
        self._keys.discard(key)
        for name, applied in list(self._applied.items()):
            for change in applied:
                change.parts[:] = [part for part in change.parts if part.key != key]
            self._applied[name] = [change for change in applied if change.parts]

    def removable(self, now_ms: int) -> list[bytes]:
        """Return the keys of documents that were superseded longer than `KEPT_MS` ago."""
        keys: list[bytes] = []
        for applied in self._applied.values():
            last = max(
                (
                    place
                    for place, change in enumerate(applied)
                    if change.is_whole and change.parts[-1].time_ms <= now_ms - KEPT_MS
                ),
                default=0,
            )
            keys += (part.key for change in applied[:last] for part in change.parts)
        return keys

    def snapshot_due(self, name: str) -> str | None:
        """Return the id of a list's last change if its changes have outgrown its last whole state.

        None means that no snapshot is due.
        """
        applied = self._applied.get(name, [])
        last = max((place for place, change in enumerate(applied) if change.is_whole), default=-1)
        since = sum(change.size for change in applied[last + 1 :])
        whole = applied[last].size if last >= 0 else 0
        return applied[-1].change_id if since > max(SNAPSHOT_BYTES, whole) else None
