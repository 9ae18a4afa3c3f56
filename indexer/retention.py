"""Deletes by age: whole indexes of past days, and old entries of the small indexes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any, Final

from opensearchpy import OpenSearch

from fraud.contracts.times import DAY_MS, utc_text
from fraud.runtime.clock import to_datetime
from indexer.documents import (
    ALIAS,
    DEAD_LETTERS,
    LABELS,
    MIGRATED,
    REJECTED,
    day_of,
    expired_indexes,
)

_DATED: Final = {
    # Labels expire like decisions: an older label has no document left to be written into.
    LABELS: "arrived_at",
    DEAD_LETTERS: "failed_at",
    REJECTED: "rejected_at",
}
_LATE: Final = timedelta(days=7)
"""Normally one index expires per day; a week allows for an indexer that was off."""
_DELETION_S: Final = 600


class ClockDoubted(Exception):
    """So many documents expire at once that the clock may be wrong; the text says which."""


@dataclass(frozen=True, slots=True)
class Expired:
    """An expired index, or the expired documents of an index that stays.

    Attributes:
        name: Name of the index.
        documents: Number of expired documents.
        size_bytes: Disk usage of the index; None if only some of its documents expire.
    """

    name: str
    documents: int
    size_bytes: int | None


def doubt(names: Iterable[str], *, today: date, keep_days: int) -> str | None:
    """Return why the clock may be wrong, judging by the days of the indexes; None if it looks right.

    Args:
        names: Names of indexes.
        today: Today's date according to the clock, UTC.
        keep_days: Days for which indexes are kept besides today's.

    Example:
        >>> names = ["processed_transactions-2026.02.01", "processed_transactions-2026.03.01"]
        >>> doubt(names, today=date(2026, 3, 5), keep_days=30)
        >>> doubt(names, today=date(2026, 3, 12), keep_days=30)
        'it is 2026-03-12, and the newest documents are of 2026-03-01'
        >>> doubt([*names, "processed_transactions-2026.03.12"], today=date(2026, 3, 12), keep_days=30)
        'the documents of 2026-02-01 should have been deleted 8 days ago'
    """
    days = sorted(day for name in names if (day := day_of(name)) is not None)
    if not days:
        return None
    if today - days[-1] > _LATE:
        return f"it is {today}, and the newest documents are of {days[-1]}"
    late = today - timedelta(days=keep_days + 1) - days[0]
    if late > _LATE:
        return f"the documents of {days[0]} should have been deleted {late.days} days ago"
    return None


def find_expired(client: OpenSearch, *, now_ms: int, keep_days: int) -> list[Expired]:
    """Return what `delete_expired` would delete.

    Args:
        client: Client of OpenSearch.
        now_ms: Time now, UTC epoch milliseconds.
        keep_days: Days to keep besides today.

    Raises:
        TransportError: OpenSearch cannot be reached or refused a request.
    """
    today = to_datetime(now_ms).astimezone(UTC).date()
    rows = client.cat.indices(
        # Copies of a killed migration have no alias, so the first pattern misses them.
        index=f"{ALIAS}-*,{MIGRATED}{ALIAS}-*",
        params={"format": "json", "bytes": "b", "h": "index,docs.count,store.size"},
    )
    by_name = {row["index"]: row for row in rows}
    expired = [
        Expired(name, int(by_name[name]["docs.count"] or 0), int(by_name[name]["store.size"] or 0))
        for name in expired_indexes(sorted(by_name), today=today, keep_days=keep_days)
    ]
    for name in _DATED:
        count = client.count(
            index=name,
            body={"query": _over(name, today, keep_days)},
            params={"ignore_unavailable": "true"},
        )["count"]
        if count:
            expired.append(Expired(name, count, None))
    return expired


def delete_expired(
    client: OpenSearch, *, now_ms: int, keep_days: int, careful: bool = False
) -> list[Expired]:
    """Delete expired indexes and documents; see `find_expired`.

    Args:
        client: Client of OpenSearch.
        now_ms: Time now, UTC epoch milliseconds.
        keep_days: Days to keep besides today.
        careful: Delete nothing if the clock looks wrong; see `doubt`.

    Returns:
        What was deleted.

    Raises:
        ClockDoubted: `careful` is set, the clock looks wrong, and something would be deleted.
        TransportError: OpenSearch cannot be reached or refused a request.
    """
    today = to_datetime(now_ms).astimezone(UTC).date()
    expired = find_expired(client, now_ms=now_ms, keep_days=keep_days)
    if careful and expired:
        rows = client.cat.indices(index=f"{ALIAS}-*", params={"format": "json", "h": "index"})
        reason = doubt((row["index"] for row in rows), today=today, keep_days=keep_days)
        if reason:
            raise ClockDoubted(reason)
    for entry in expired:
        if entry.size_bytes is not None:
            client.indices.delete(index=entry.name, params={"ignore_unavailable": "true"})
        else:
            client.delete_by_query(
                index=entry.name,
                body={"query": _over(entry.name, today, keep_days)},
                params={
                    "conflicts": "proceed",
                    "ignore_unavailable": "true",
                    "request_timeout": _DELETION_S,
                },
            )
    return expired


def _over(name: str, today: date, keep_days: int) -> dict[str, Any]:
    first_kept_ms = ((today - timedelta(days=keep_days)) - date(1970, 1, 1)).days * DAY_MS
    return {"range": {_DATED[name]: {"lt": utc_text(first_kept_ms)}}}
