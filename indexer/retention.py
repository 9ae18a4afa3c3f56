"""What is deleted by age: indexes of days that are over, and old entries of the small indexes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any, Final

from opensearchpy import OpenSearch

from fraud.contracts.dead_letter import utc_text
from fraud.kit.clock import to_datetime
from indexer.documents import ALIAS, DEAD_LETTERS, LABELS, REJECTED, expired_indexes

_DATED: Final = {
    # A label that is older than all decisions that are kept has no document to go into.
    LABELS: "arrived_at",
    DEAD_LETTERS: "failed_at",
    REJECTED: "rejected_at",
}
_DAY_MS: Final = 86_400_000
_DELETION_S: Final = 600


@dataclass(frozen=True, slots=True)
class Expired:
    """What is over its age.

    Attributes:
        name: Of the index.
        documents: How many go.
        size_bytes: Disk of a whole index, None where only a part of it goes.
    """

    name: str
    documents: int
    size_bytes: int | None


def find_expired(client: OpenSearch, *, now_ms: int, keep_days: int) -> list[Expired]:
    """Say what is over its age; nothing is deleted.

    Args:
        client: Of OpenSearch.
        now_ms: Time now, UTC epoch milliseconds.
        keep_days: Days for which things are kept besides today.

    Raises:
        TransportError: OpenSearch is not there.
    """
    today = to_datetime(now_ms).astimezone(UTC).date()
    rows = client.cat.indices(
        index=f"{ALIAS}-*",
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


def delete_expired(client: OpenSearch, *, now_ms: int, keep_days: int) -> list[Expired]:
    """Delete what is over its age; see `find_expired`.

    Returns:
        What is gone.

    Raises:
        TransportError: OpenSearch is not there.
    """
    today = to_datetime(now_ms).astimezone(UTC).date()
    expired = find_expired(client, now_ms=now_ms, keep_days=keep_days)
    for one in expired:
        if one.size_bytes is not None:
            client.indices.delete(index=one.name, params={"ignore_unavailable": "true"})
        else:
            client.delete_by_query(
                index=one.name,
                body={"query": _over(one.name, today, keep_days)},
                params={
                    "conflicts": "proceed",
                    "ignore_unavailable": "true",
                    "request_timeout": _DELETION_S,
                },
            )
    return expired


def _over(name: str, today: date, keep_days: int) -> dict[str, Any]:
    first_kept_ms = ((today - timedelta(days=keep_days)) - date(1970, 1, 1)).days * _DAY_MS
    return {"range": {_DATED[name]: {"lt": utc_text(first_kept_ms)}}}
