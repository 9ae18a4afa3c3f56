"""Builds the requests of OpenSearch Dashboards for panels, and reads the answers. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dashboards.panels import (
    Bucket,
    Count,
    Index,
    Listing,
    Match,
    Maximum,
    Mean,
    Metric,
    OverTime,
    Panel,
    Percentiles,
    Places,
    Script,
    Steps,
    Sum,
    Unit,
    Values,
)

Cell = str | int | float | None

_BARS: Final = 50
SHARD_SIZE: Final = 1000
"""Top values per shard; with the default, which is low, counts over several days are wrong."""

_S: Final = 1000
_M: Final = 60 * _S
_H: Final = 60 * _M
_D: Final = 24 * _H
_INTERVALS: Final = (
    # Bar width from which on an interval is used, and that interval, both in ms. They are those of
    # Dashboards, so that the live page draws the same bars.
    (365 * _D, 30 * _D),
    (21 * _D, 7 * _D),
    (7 * _D, _D),
    (_D, 12 * _H),
    (6 * _H, 3 * _H),
    (2 * _H, _H),
    (45 * _M, 30 * _M),
    (20 * _M, 10 * _M),
    (9 * _M, 5 * _M),
    (3 * _M, _M),
    (45 * _S, 30 * _S),
    (15 * _S, 10 * _S),
    (7_500, 5 * _S),
    (5 * _S, _S),
    (500, 100),
)
_UNITS: Final = ((_D, "d"), (_H, "h"), (_M, "m"), (_S, "s"), (1, "ms"))
_CENTRE: Final = "centre"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time that includes both its start and its end."""

    start: datetime
    end: datetime

    @classmethod
    def last(cls, length: timedelta, now: datetime) -> Span:
        """Return the range of the given length that ends at `now`."""
        return cls(now - length, now)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table that `rows` returns.

    Attributes:
        label: Header of the column.
        unit: Unit of a metric; None for the values of a bucket.
    """

    label: str
    unit: Unit | None = None


def interval_ms(span: Span) -> int:
    """Return the width of a time bar for about 50 bars, as Dashboards chooses it.

    Example:
        >>> hour = Span(datetime(2026, 3, 1, 10, tzinfo=UTC), datetime(2026, 3, 1, 11, tzinfo=UTC))
        >>> interval_ms(hour)
        60000
    """
    target_ms = (span.end - span.start) / timedelta(milliseconds=1) / _BARS
    for position, (bound, _) in enumerate(_INTERVALS):
        if bound <= target_ms:
            return _INTERVALS[max(position - 1, 0)][1]
    return max(1, int(target_ms))


def query(
    where: Sequence[Match], index: Index, span: Span | None, more: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the query for documents that meet all conditions.

    Args:
        where: Conditions of the panel or listing.
        index: Index whose time field the range applies to.
        span: The time range; None means no limit.
        more: Further filters, in OpenSearch's query DSL.
    """
    filters = [_matching(match) for match in where] + list(more)
    if span is not None:
        filters.append(
            {
                "range": {
                    index.time_field: {
                        "gte": _iso(span.start),
                        "lte": _iso(span.end),
                        "format": "strict_date_optional_time",
                    }
                }
            }
        )
    return {"bool": {"must": [], "filter": filters, "should": [], "must_not": []}}


def request(panel: Panel, span: Span, more: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the body of a panel's search request.

    Aggregations have the same ids as in the saved object.

    Args:
        panel: The panel.
        span: The time range.
        more: Further filters, in OpenSearch's query DSL.
    """
    inner: dict[str, Any] = {
        metric_id: asked
        for metric_id, metric in numbered_metrics(panel)
        if (asked := _metric(metric)) is not None
    }
    # A count has no aggregation of its own: values are then ordered by `_count`.
    order = next(iter(inner), None) if not isinstance(panel.metrics[0], Count) else None
    for bucket_id, bucket in reversed(list(numbered_buckets(panel))):
        asked = _bucket(bucket, panel.index, span, order)
        if isinstance(bucket, Places):
            inner = inner | {_CENTRE: {"geo_centroid": {"field": bucket.field}}}
        inner = {bucket_id: asked | ({"aggs": inner} if inner else {})}
    body: dict[str, Any] = {
        "size": 0,
        "track_total_hits": True,
        "query": query(panel.where, panel.index, span, more),
    }
    return body | ({"aggs": inner} if inner else {})


def listing_request(
    listing: Listing, span: Span, size: int, more: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the body of a listing's search request; see `request`.

    Args:
        listing: The listing.
        span: The time range.
        size: Maximum number of documents.
        more: Further filters, in OpenSearch's query DSL.
    """
    return {
        "size": size,
        "track_total_hits": True,
        "sort": [{listing.index.time_field: {"order": "desc", "unmapped_type": "boolean"}}],
        "query": query(listing.where, listing.index, span, more),
    }


def numbered_metrics(panel: Panel) -> Iterator[tuple[str, Metric]]:
    """Yield the metrics of a panel with the ids of their aggregations."""
    for number, metric in enumerate(panel.metrics, 1):
        yield str(number), metric


def numbered_buckets(panel: Panel) -> Iterator[tuple[str, Bucket]]:
    """Yield the buckets of a panel, outermost first, with the ids of their aggregations."""
    for number, bucket in enumerate(panel.buckets, len(panel.metrics) + 1):
        yield str(number), bucket


def columns(panel: Panel) -> list[Column]:
    """Return the column headers of the table that `rows` returns, from left to right."""
    named: list[Column] = []
    for bucket in panel.buckets:
        if isinstance(bucket, Places):
            named += [Column("Latitude"), Column("Longitude")]
        else:
            named.append(Column(bucket.label))
    for metric in panel.metrics:
        if isinstance(metric, Percentiles):
            named += [Column(f"p{percent:g}", metric.unit) for percent in metric.percents]
        else:
            named.append(Column(metric.label, metric.unit))
    return named


def rows(panel: Panel, answer: dict[str, Any]) -> list[list[Cell]]:
    """Flatten the answer to `request` into a table with the columns of `columns`.

    There is one row per innermost bucket, or a single row if the panel has no buckets. Times are
    UTC epoch milliseconds. A metric without any values to compute it from is None.
    """
    top = answer.get("aggregations", {}) | {"doc_count": answer["hits"]["total"]["value"]}
    return list(_rows(panel, list(numbered_buckets(panel)), top, []))


def _rows(
    panel: Panel, buckets: list[tuple[str, Bucket]], found: dict[str, Any], before: list[Cell]
) -> Iterator[list[Cell]]:
    if not buckets:
        cells = list(before)
        for metric_id, metric in numbered_metrics(panel):
            cells += _cells(metric, found.get(metric_id, {}), found["doc_count"])
        yield cells
        return
    (bucket_id, bucket), *inner = buckets
    for found_bucket in found.get(bucket_id, {}).get("buckets", ()):
        keys: list[Cell] = [found_bucket["key"]]
        if isinstance(bucket, Places):
            centre = found_bucket[_CENTRE]["location"]
            keys = [centre["lat"], centre["lon"]]
        yield from _rows(panel, inner, found_bucket, before + keys)


def _cells(metric: Metric, found: dict[str, Any], doc_count: int) -> list[Cell]:
    if isinstance(metric, Count):
        return [doc_count]
    if isinstance(metric, Percentiles):
        values = {entry["key"]: entry["value"] for entry in found.get("values", ())}
        return [values.get(float(percent)) for percent in metric.percents]
    return [found.get("value")]


def _metric(metric: Metric) -> dict[str, Any] | None:
    match metric:
        case Count():
            return None
        case Sum():
            return {"sum": {"field": metric.field}}
        case Maximum():
            return {"max": {"field": metric.field}}
        case Mean(field=Script() as script):
            return {"avg": {"script": {"source": script.source, "lang": "painless"}}}
        case Mean():
            return {"avg": {"field": metric.field}}
        case Percentiles():
            asked = {"field": metric.field, "percents": list(metric.percents), "keyed": False}
            return {"percentiles": asked}


def _bucket(bucket: Bucket, index: Index, span: Span, order: str | None) -> dict[str, Any]:
    match bucket:
        case OverTime():
            width = _interval(interval_ms(span))
            asked = {"field": index.time_field, **width, "time_zone": "UTC", "min_doc_count": 1}
            return {"date_histogram": asked}
        case Values():
            by = {order or "_count": "desc"}
            asked = {"field": bucket.field, "size": bucket.size, "order": by}
            return {"terms": asked | {"shard_size": SHARD_SIZE}}
        case Steps():
            asked = {"field": bucket.field, "interval": bucket.width, "min_doc_count": 1}
            return {"histogram": asked}
        case Places():
            return {"geohash_grid": {"field": bucket.field, "precision": bucket.precision}}


def _interval(width_ms: int) -> dict[str, str]:
    unit_ms, unit = next(
        (length_ms, name) for length_ms, name in _UNITS if width_ms % length_ms == 0
    )
    count = width_ms // unit_ms
    if count == 1 and unit in ("d", "h", "m"):
        return {"calendar_interval": f"1{unit}"}
    return {"fixed_interval": f"{count}{unit}"}


def _matching(match: Match) -> dict[str, Any]:
    """Return a condition as Dashboards translates the text of `saved_objects.query_text`."""
    if not match.values:
        return _any([{"exists": {"field": match.field}}])
    each = [_any([{"match": {match.field: value}}]) for value in match.values]
    return each[0] if len(each) == 1 else _any(each)


def _any(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"bool": {"should": conditions, "minimum_should_match": 1}}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
