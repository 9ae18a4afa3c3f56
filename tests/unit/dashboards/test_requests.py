"""Requests and their rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboards.panels import Index, Match, panel
from dashboards.requests import Span, columns, interval_ms, query, rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(minutes=5), timedelta(seconds=5)),
        (timedelta(minutes=15), timedelta(seconds=30)),
        (HOUR, timedelta(minutes=1)),
        (timedelta(hours=6), timedelta(minutes=5)),
        (timedelta(hours=24), timedelta(minutes=30)),
        (timedelta(days=7), timedelta(hours=3)),
        (timedelta(days=30), timedelta(hours=12)),
        (timedelta(days=90), timedelta(days=1)),
    ],
)
def test_bars_are_as_wide_as_those_of_dashboards(length: timedelta, expected: timedelta) -> None:
    """The widths that Dashboards chooses for its quick ranges; at most 100 bars."""
    assert interval_ms(Span.last(length, NOW)) == expected / timedelta(milliseconds=1)


def test_columns_name_every_cell() -> None:
    """Also of percentiles, which are several, and of places, which are two."""
    latency = columns(panel("decision_latency"))
    assert [column.label for column in latency] == ["Time", "p50", "p95", "p99"]
    places = columns(panel("blocked_map"))
    assert [column.label for column in places] == ["Latitude", "Longitude", "Blocked"]


def test_an_answer_with_nothing_in_it_has_rows_all_the_same() -> None:
    """A metric is one row, whose sum is 0 and whose mean is not known; buckets have none."""
    nothing: dict[str, Any] = {"hits": {"total": {"value": 0}}}
    assert rows(panel("transactions"), nothing) == [[0]]
    assert rows(panel("block_rate"), nothing | {"aggregations": {"1": {"value": None}}}) == [[None]]
    assert rows(panel("outcomes"), nothing | {"aggregations": {"2": {"buckets": []}}}) == []


def test_conditions_are_those_of_the_query_text() -> None:
    """As Dashboards translates its query language."""
    where = (Match("fd.outcome", ("review", "block")), Match("label.label"))
    assert query(where, Index.DECISIONS, None)["bool"]["filter"] == [
        {
            "bool": {
                "should": [
                    {"bool": {"should": [{"match": {"fd.outcome": "review"}}], "minimum_should_match": 1}},
                    {"bool": {"should": [{"match": {"fd.outcome": "block"}}], "minimum_should_match": 1}},
                ],
                "minimum_should_match": 1,
            }
        },
        {"bool": {"should": [{"exists": {"field": "label.label"}}], "minimum_should_match": 1}},
    ]  # fmt: skip
