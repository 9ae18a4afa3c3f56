"""Every panel against a real OpenSearch: it returns data, and the numbers are right.

What is right is computed by hand from the same documents: not from the panel's declaration, so that
a panel which asks for something else than it says is found out.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opensearchpy import OpenSearch

from dashboards.panels import LISTINGS, PANELS, Chart, Index, Listing, Panel, Percentiles, Values
from dashboards.requests import Cell, Span, columns, listing_request, request, rows
from dashboards.saved_objects import saved_objects
from fraud.contracts.times import HOUR_MS
from fraud.runtime.clock import system_clock
from fraud.runtime.settings import OpenSearchSettings
from indexer.bulk import connect
from indexer.documents import Document
from indexer.sink import Sink
from tests.support.decisions import dead_letters, documents, processed_records

pytestmark = pytest.mark.service

# A time of its own: other tests have documents in the same cluster.
START = datetime(2031, 5, 5, 10, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=1))
START_MS = round(START.timestamp() * 1000)
MINUTE_MS = 60_000

Body = dict[str, Any]
Rows = list[list[Cell]]


class Hour:
    """The documents of the hour, indexed, and some before it."""

    def __init__(self, url: str) -> None:
        inside = documents(processed_records(800, START_MS, HOUR_MS, topic="panels"))
        before = documents(
            processed_records(50, START_MS - HOUR_MS, HOUR_MS, seed=2, topic="earlier")
        )
        unread = dead_letters(40, START_MS, HOUR_MS, topic="panels")
        self.decisions: list[Body] = [document.body for document in inside]
        self.unread: list[Body] = [document.body for document in unread]
        self.client: OpenSearch = connect(OpenSearchSettings(opensearch_url=url))
        sink = Sink(self.client, clock=system_clock, rng=random.Random(1), shards=2, replicas=0)
        everything: list[Document] = [*inside, *before, *unread]
        sink.write(everything)
        self.client.indices.refresh(index="processed_transactions*,dead_letters*")

    def ask(self, panel: Panel) -> Rows:
        """Run a panel's request."""
        body = request(panel, SPAN)
        return rows(panel, self.client.search(index=panel.index.value, body=body))


@pytest.fixture(scope="module")
def hour(opensearch: str) -> Iterable[Hour]:
    hour = Hour(opensearch)
    yield hour
    hour.client.close()


def blocked(bodies: list[Body]) -> list[Body]:
    return [body for body in bodies if body["fd"]["outcome"] == "block"]


def alerts(bodies: list[Body]) -> list[Body]:
    return [body for body in bodies if body["fd"]["outcome"] in ("review", "block")]


def amount(bodies: list[Body]) -> float:
    return sum(body["fd"]["features"].get("amount_base", 0) for body in bodies)


def minute(body: Body) -> int:
    at: int = body["fd"]["source"]["timestamp_ms"]
    return at // MINUTE_MS * MINUTE_MS


def counted(values: Iterable[Any], most: int = 10_000) -> Rows:
    return [[value, count] for value, count in Counter(values).most_common(most)]


def summed(bodies: list[Body]) -> Rows:
    sums: dict[tuple[int, str], float] = defaultdict(float)
    for body in bodies:
        key = (minute(body), body["fd"]["outcome"])
        sums[key] += body["fd"]["features"].get("amount_base", 0)
    return [[*key, total] for key, total in sums.items()]


def by_risk(bodies: list[Body], field: str) -> Rows:
    groups: dict[str, list[Body]] = defaultdict(list)
    for body in alerts(bodies):
        groups[body[field]].append(body)
    return [
        [value, len(group), amount(group), max(body["fd"]["score"] for body in group)]
        for value, group in groups.items()
    ]


def models(bodies: list[Body]) -> Rows:
    scores: dict[str, list[int]] = defaultdict(list)
    for body in bodies:
        scores[body["fd"]["model"]["version"]].append(body["fd"]["score"])
    return [[version, len(some), statistics.fmean(some)] for version, some in scores.items()]


def shadowed(bodies: list[Body]) -> list[Body]:
    return [body for body in bodies if "shadow" in body["fd"]]


def places(bodies: list[Body]) -> Rows:
    return [[len(blocked(bodies))]]


BY_HAND: dict[str, Callable[[list[Body]], Rows]] = {
    "transactions": lambda all_: [[len(all_)]],
    "amount": lambda all_: [[amount(all_)]],
    "blocked": lambda all_: [[len(blocked(all_))]],
    "block_rate": lambda all_: [[len(blocked(all_)) / len(all_)]],
    "blocked_amount": lambda all_: [[amount(blocked(all_))]],
    "dead_letters": lambda unread: [[len(unread)]],
    "outcomes_over_time": lambda all_: [
        [at, outcome, count]
        for (at, outcome), count in Counter((minute(b), b["fd"]["outcome"]) for b in all_).items()
    ],
    "outcomes": lambda all_: counted(body["fd"]["outcome"] for body in all_),
    "amount_over_time": summed,
    "scores": lambda all_: [
        [step, outcome, count]
        for (step, outcome), count in Counter(
            (body["fd"]["score"] // 50 * 50, body["fd"]["outcome"]) for body in all_
        ).items()
    ],
    "blocked_by_state": lambda all_: counted(
        body["billing_state"] for body in blocked(all_) if "billing_state" in body
    ),
    "blocked_by_currency": lambda all_: counted(
        body["transaction_currency"] for body in blocked(all_)
    ),
    "top_reasons": lambda all_: counted(
        reason["code"] for body in alerts(all_) for reason in body["fd"]["reasons"]
    ),
    "top_rules": lambda all_: counted(rule["id"] for body in all_ for rule in body["fd"]["rules"]),
    "labels": lambda all_: [
        [outcome, label, count]
        for (outcome, label), count in Counter(
            (body["fd"]["outcome"], body["label"]["label"]) for body in all_ if "label" in body
        ).items()
    ],
    "top_entities": lambda all_: by_risk(all_, "entity_id"),
    "top_ips": lambda all_: by_risk(all_, "ip_address"),
    "models": models,
    "challenger_agreement": lambda all_: [
        [
            statistics.fmean(
                body["fd"]["shadow"]["outcome"] == body["fd"]["outcome"] for body in shadowed(all_)
            )
        ]
    ],
    "challenger_outcomes": lambda all_: [
        [decided, challenger, count]
        for (decided, challenger), count in Counter(
            (body["fd"]["outcome"], body["fd"]["shadow"]["outcome"]) for body in shadowed(all_)
        ).items()
    ],
    "dead_letters_over_time": lambda unread: [
        [at, code, count]
        for (at, code), count in Counter(
            (
                int(datetime.fromisoformat(body["failed_at"]).timestamp() * 1000)
                // MINUTE_MS
                * MINUTE_MS,
                body["error_code"],
            )
            for body in unread
        ).items()
    ],
}
"""What each panel should say, but for the two kinds whose numbers are not exact (below)."""


def _comparable(found: Rows, splits: int) -> dict[tuple[Cell, ...], list[Cell]]:
    return {tuple(row[:splits]): row[splits:] for row in found}


@pytest.mark.parametrize(
    "panel",
    [panel for panel in PANELS if panel.chart not in (Chart.LINES, Chart.MAP)],
    ids=lambda panel: panel.id,
)
def test_a_panel_says_what_its_documents_say(hour: Hour, panel: Panel) -> None:
    documents_of = hour.unread if panel.index is Index.DEAD_LETTERS else hour.decisions
    expected = _comparable(BY_HAND[panel.id](documents_of), len(panel.buckets))
    found_rows = hour.ask(panel)
    found = _comparable(found_rows, len(panel.buckets))
    assert found
    assert len(found) == len(found_rows)
    assert all(len(row) == len(columns(panel)) for row in found_rows)
    most = [bucket.size for bucket in panel.buckets if isinstance(bucket, Values)]
    if len(panel.buckets) == 1 and most and len(expected) > most[0]:
        # Only the first of many are shown: none left out is ahead of one shown.
        assert len(found) == most[0]
        left_out = [value[0] for key, value in expected.items() if key not in found]
        assert min(value[0] for value in found.values()) >= max(left_out)  # type: ignore[type-var]
    else:
        assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values == pytest.approx(expected[key]), key
    if len(panel.buckets) == 1 and most:
        firsts = [row[1] for row in found_rows]
        assert firsts == sorted(firsts, reverse=True)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("panel", "of"),
    [
        ("decision_latency", lambda body: body["decision_ms"]),
        ("scoring_time", lambda body: body["fd"]["frauddetector_time"]),
    ],
)
def test_percentiles_are_those_of_each_minute(
    hour: Hour, panel: str, of: Callable[[Body], float]
) -> None:
    """By interpolation, whose rule OpenSearch has of its own: between the neighbours' values."""
    minutes: dict[int, list[float]] = defaultdict(list)
    for body in hour.decisions:
        minutes[minute(body)].append(of(body))
    (declared,) = (one for one in PANELS if one.id == panel)
    (metric,) = declared.metrics
    assert isinstance(metric, Percentiles)
    found = _comparable(hour.ask(declared), 1)
    assert found.keys() == {(at,) for at in minutes}
    for (at,), values in found.items():
        ordered = sorted(minutes[at])  # type: ignore[index]
        for percent, value in zip(metric.percents, values, strict=True):
            place = percent / 100 * len(ordered)
            low = ordered[max(0, int(place) - 2)]
            high = ordered[min(len(ordered) - 1, int(place) + 1)]
            assert low <= value <= high, (at, percent)  # type: ignore[operator]


def test_the_map_has_every_blocked_transaction_where_it_was(hour: Hour) -> None:
    """Cells are some 20 by 40 km; each shows the centre of what is in it."""
    (declared,) = (one for one in PANELS if one.chart is Chart.MAP)
    found = hour.ask(declared)
    located = [body["billing_location"] for body in blocked(hour.decisions)]
    assert sum(row[2] for row in found) == len(located)  # type: ignore[misc]
    for kind, place in (("lat", 0), ("lon", 1)):
        weighted = sum(row[place] * row[2] for row in found)  # type: ignore[operator]
        assert weighted / len(located) == pytest.approx(
            statistics.fmean(one[kind] for one in located), abs=1e-3
        )


def test_every_panel_is_checked() -> None:
    assert BY_HAND.keys() | {"decision_latency", "scoring_time", "blocked_map"} == {
        panel.id for panel in PANELS
    }


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.id)
def test_a_listing_gives_the_newest_first(hour: Hour, listing: Listing) -> None:
    body = listing_request(listing, SPAN, 20)
    hits = hour.client.search(index=listing.index.value, body=body)["hits"]
    if listing.index is Index.DEAD_LETTERS:
        all_ = sorted(hour.unread, key=lambda body: body["failed_at"], reverse=True)
        times = [hit["_source"]["failed_at"] for hit in hits["hits"]]
        assert times == [body["failed_at"] for body in all_[:20]]
    else:
        all_ = alerts(hour.decisions)
        newest = sorted((body["fd"]["source"]["timestamp_ms"] for body in all_), reverse=True)
        times = [hit["_source"]["fd"]["source"]["timestamp_ms"] for hit in hits["hits"]]
        assert times == newest[:20]
        assert {hit["_source"]["fd"]["outcome"] for hit in hits["hits"]} == {"review", "block"}
    assert hits["total"]["value"] == len(all_)


def test_every_field_that_a_saved_object_names_is_in_the_index(hour: Hour) -> None:
    """Of the type that its use needs; a field that nobody writes would be an empty panel."""
    import json

    known: dict[str, dict[str, str]] = {}
    for index in Index:
        answer = hour.client.field_caps(index=index.value, fields="*")["fields"]
        known[f"fraudstream-{index.value.replace('_', '-')}"] = {
            name: next(iter(kinds)) for name, kinds in answer.items()
        }
    numbers = {"sum", "avg", "max", "percentiles", "histogram"}
    for one in saved_objects():
        if one["type"] == "visualization":
            fields = known[one["references"][0]["id"]]
            for aggregation in json.loads(one["attributes"]["visState"])["aggs"]:
                name = aggregation["params"].get("field")
                if name is None or name in ("is_blocked", "challenger_agrees"):
                    continue
                kind = fields[name]
                if aggregation["type"] in numbers:
                    assert kind in ("double", "integer", "long"), name
                elif aggregation["type"] == "terms":
                    assert kind == "keyword", name
                elif aggregation["type"] == "date_histogram":
                    assert kind == "date", name
                else:
                    assert kind == "geo_point", name
        elif one["type"] == "search":
            fields = known[one["references"][0]["id"]]
            assert set(one["attributes"]["columns"]) <= fields.keys()
        elif one["type"] == "index-pattern":
            formats = json.loads(one["attributes"]["fieldFormatMap"]).keys()
            assert formats - {"is_blocked", "challenger_agrees"} <= known[one["id"]].keys()
            assert known[one["id"]][one["attributes"]["timeFieldName"]] == "date"
