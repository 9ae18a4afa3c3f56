"""Import list entries from CSV or plain text (one value per line), and export them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pydantic import ValidationError

from fraud.contracts.lists import KeptEntry, ListEntry
from fraud.contracts.times import utc_text

COLUMNS = ("value", "source", "reason", "expires_at")
"""Columns that are read. Exports also have the author and the time of addition."""

_WRITTEN = (*COLUMNS, "author", "added_at")


class EntryFileError(ValueError):
    """Entries cannot be read; the message names the place and the problem, and quotes no value."""


def read_entries(text: str) -> list[ListEntry]:
    r"""Parse list entries from CSV, or from plain text with one value per line.

    A text is CSV if its first line is a header that names `value`. Columns other than `COLUMNS` and
    empty lines are ignored.

    Raises:
        EntryFileError: A line is not a valid entry.

    Example:
        >>> [one.value for one in read_entries("10.0.0.1\n10.0.0.2\n")]
        ['10.0.0.1', '10.0.0.2']
        >>> read_entries("value,reason\n10.0.0.1,case 7\n")[0].reason
        'case 7'
    """
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip().lower().split(",")
    if "value" not in first:
        lines = enumerate(text.lstrip("\ufeff").splitlines(), start=1)
        return [_entry(at, {"value": line.strip()}) for at, line in lines if line.strip()]
    rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    return [
        _entry(rows.line_num, {name: row[name] for name in COLUMNS if row.get(name)})
        for row in rows
        if any(row.get(name) for name in COLUMNS)
    ]


def _entry(line: int, row: dict[str, str]) -> ListEntry:
    try:
        return ListEntry.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise EntryFileError(f"line {line}, {field}: {first['msg']}") from None


def write_entries(entries: Iterable[KeptEntry]) -> str:
    """Return entries as CSV, in the form that `read_entries` parses."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_WRITTEN)
    for entry in entries:
        ends = entry.expires_at
        writer.writerow(
            (
                entry.value,
                entry.source or "",
                entry.reason or "",
                ends.isoformat() if ends else "",
                entry.author,
                utc_text(entry.added_ms),
            )
        )
    return text.getvalue()
