"""The history on disk: one file, replaced atomically and checked when read.

Layout: a line of JSON (`_Header`); for each column its values as a JSON array, the lengths of its
byte strings as little-endian uint32, and the byte strings; last, the CRC-32 of everything before.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from fraud.features.catalogue import LAYOUT
from fraud.kafka.topic_follower import Position
from scoring_api.history import Content

_FORMAT: Final = 1
_MARKS: Final = "marks"
_CHUNK: Final = 512
"""Byte strings joined at once, about a megabyte, so that requests are not held up for long."""


class SnapshotUnusable(Exception):
    """The snapshot has another layout or is damaged, so the history has to be read anew."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A history, and the position in the topic up to which it was read."""

    position: Position
    content: Content


class _Column(BaseModel):
    name: str
    count: int
    values_bytes: int
    data_bytes: int


class _Header(BaseModel):
    format: int
    layout: str
    topic_id: str
    offsets: dict[int, int]
    columns: list[_Column]


class SnapshotFile:
    """The snapshot's file. Only its owner may read it, because entity ids are personal data.

    Args:
        path: Path of the file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, snapshot: Snapshot) -> None:
        """Replace the snapshot by a new one.

        Raises:
            OSError: The snapshot cannot be written, as on a full disk; the old one remains.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved, so that the file is never half a snapshot.
        making = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 - for its mode
                _write(file, snapshot)
                file.flush()
                os.fsync(file.fileno())
            making.replace(self.path)
        except OSError:
            making.unlink(missing_ok=True)
            raise

    def read(self) -> Snapshot | None:
        """Return the snapshot, or None if the file is missing.

        Raises:
            SnapshotUnusable: The snapshot has another layout or is damaged.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if len(raw) < 4 or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise SnapshotUnusable("it is damaged")
        head, _, _ = raw.partition(b"\n")
        try:
            header = _Header.model_validate_json(head)
        except ValidationError:
            raise SnapshotUnusable("it is of another format") from None
        if (header.format, header.layout) != (_FORMAT, LAYOUT):
            raise SnapshotUnusable("it is of another layout")
        at = len(head) + 1
        columns: dict[str, list[tuple[str, bytes]]] = {}
        for column in header.columns:
            values = orjson.loads(raw[at : at + column.values_bytes])
            at += column.values_bytes
            # Four bytes each: lengths come before the byte strings.
            ends = at + 4 * column.count + np.cumsum(np.frombuffer(raw, "<u4", column.count, at))
            start = at + 4 * column.count
            items = []
            for value, end in zip(values, ends.tolist(), strict=True):
                items.append((value, raw[start:end]))
                start = end
            columns[column.name] = items
            at = start
        marks = columns.pop(_MARKS)
        return Snapshot(Position(header.topic_id, header.offsets), Content(columns, marks))


def _write(file: BinaryIO, snapshot: Snapshot) -> None:
    content = snapshot.content
    columns = {**content.rings, _MARKS: content.marks}
    values = {name: orjson.dumps([value for value, _ in items]) for name, items in columns.items()}
    lengths = {
        name: np.fromiter((len(data) for _, data in items), "<u4", len(items))
        for name, items in columns.items()
    }
    header = _Header(
        format=_FORMAT,
        layout=LAYOUT,
        topic_id=snapshot.position.topic_id,
        offsets=snapshot.position.offsets,
        columns=[
            _Column(
                name=name,
                count=len(items),
                values_bytes=len(values[name]),
                data_bytes=int(lengths[name].sum()),
            )
            for name, items in columns.items()
        ],
    )

    def parts() -> Iterator[bytes]:
        yield header.model_dump_json().encode() + b"\n"
        for name, items in columns.items():
            yield values[name]
            yield lengths[name].tobytes()
            for first in range(0, len(items), _CHUNK):
                yield b"".join([data for _, data in items[first : first + _CHUNK]])

    checksum = 0
    for part in parts():
        checksum = zlib.crc32(part, checksum)
        file.write(part)
    file.write(checksum.to_bytes(4, "little"))
