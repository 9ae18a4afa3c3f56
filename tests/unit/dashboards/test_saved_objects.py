"""The saved objects are such as OpenSearch Dashboards 3 takes and draws."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dashboards.panels import LISTINGS, PANELS, SCRIPTS, Index
from dashboards.requests import Span, request
from dashboards.saved_objects import FILE, ndjson, saved_objects
from fraud.runtime.clock import to_datetime
from tests.support.builders import START_MS

OBJECTS = saved_objects()
BY_KEY = {(one["type"], one["id"]): one for one in OBJECTS}
VISUALIZATIONS = [one for one in OBJECTS if one["type"] == "visualization"]
# What the visualization types of Dashboards accept as schemas of their aggregations.
SCHEMAS = {
    "metric": {"metric", "group"},
    "histogram": {"metric", "segment", "group", "split", "radius"},
    "horizontal_bar": {"metric", "segment", "group", "split", "radius"},
    "line": {"metric", "segment", "group", "split", "radius"},
    "pie": {"metric", "segment", "split"},
    "table": {"metric", "bucket", "split"},
    "tile_map": {"metric", "segment"},
}
# The newest migrations that Dashboards 3 knows: it refuses an object that claims a newer one.
NEWEST = {
    "index-pattern": "7.6.0", "visualization": "7.10.0", "search": "7.9.3", "dashboard": "7.9.3",
}  # fmt: skip


def source_of(one: dict[str, Any]) -> dict[str, Any]:
    return json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])  # type: ignore[no-any-return]


def state_of(one: dict[str, Any]) -> dict[str, Any]:
    return json.loads(one["attributes"]["visState"])  # type: ignore[no-any-return]


def test_the_committed_file_is_what_the_panels_say() -> None:
    """Byte for byte; `make docs` rewrites it."""
    assert FILE.read_bytes() == ndjson()
    assert [json.loads(line)["id"] for line in FILE.read_text("utf-8").splitlines()] == [
        one["id"] for one in OBJECTS
    ]


def test_ids_are_unique_and_every_reference_is_to_an_object_before() -> None:
    """So the file can be imported into an empty Dashboards, by itself."""
    assert len(BY_KEY) == len(OBJECTS)
    seen: set[tuple[str, str]] = set()
    for one in OBJECTS:
        names = [reference["name"] for reference in one["references"]]
        assert len(set(names)) == len(names)
        assert {(r["type"], r["id"]) for r in one["references"]} <= seen
        seen.add((one["type"], one["id"]))


def test_objects_claim_the_newest_migration_and_nothing_that_changes() -> None:
    for one in OBJECTS:
        assert one["migrationVersion"] == {one["type"]: NEWEST[one["type"]]}
        assert not {"updated_at", "version", "namespaces"} & one.keys()


@pytest.mark.parametrize("one", VISUALIZATIONS, ids=lambda one: one["id"])
def test_a_visualization_is_whole(one: dict[str, Any]) -> None:
    state = state_of(one)
    assert one["attributes"].keys() == {
        "title", "description", "visState", "uiStateJSON", "version", "kibanaSavedObjectMeta",
    }  # fmt: skip
    assert isinstance(json.loads(one["attributes"]["uiStateJSON"]), dict)
    assert state.keys() == {"title", "type", "aggs", "params"}
    ids = [aggregation["id"] for aggregation in state["aggs"]]
    assert ids == [str(number) for number in range(1, len(ids) + 1)]
    for aggregation in state["aggs"]:
        assert aggregation.keys() == {"id", "enabled", "type", "schema", "params"}
        assert aggregation["schema"] in SCHEMAS[state["type"]]
        if "orderBy" in aggregation["params"]:
            assert aggregation["params"]["orderBy"] in ids
    assert state["aggs"][0]["schema"] == "metric"
    source = source_of(one)
    (reference,) = one["references"]
    assert source["indexRefName"] == reference["name"]
    assert reference["type"] == "index-pattern"
    for series in state["params"].get("seriesParams", ()):
        assert series["valueAxis"] == state["params"]["valueAxes"][0]["id"]
        assert series["data"]["id"] in ids


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.id)
def test_the_request_aggregates_as_the_visualization_does(panel: Any) -> None:
    """Same ids, kinds and fields; Dashboards makes the request of the saved object itself."""
    one = BY_KEY["visualization", "fraudstream-" + panel.id.replace("_", "-")]
    scripts = {script.source: script.name for script in SCRIPTS}
    asked: dict[str, tuple[str, str | None]] = {}

    def collect(body: dict[str, Any]) -> None:
        for name, aggregation in body.get("aggs", {}).items():
            (kind,) = aggregation.keys() - {"aggs"}
            field = aggregation[kind].get("field")
            if field is None:
                field = scripts[aggregation[kind]["script"]["source"]]
            asked[name] = (kind, field)
            collect(aggregation)

    collect(request(panel, Span(to_datetime(START_MS), to_datetime(START_MS + 3_600_000))))
    centre = asked.pop("centre", None)
    drawn = {
        aggregation["id"]: (aggregation["type"], aggregation["params"]["field"])
        for aggregation in state_of(one)["aggs"]
        if aggregation["type"] != "count"
    }
    assert asked == drawn
    assert (centre is not None) == any(kind == "geohash_grid" for kind, _ in drawn.values())


def test_the_dashboard_shows_every_panel_and_listing_once_without_overlap() -> None:
    """In the grid of 48 columns, with a range of time and a refresh of its own."""
    (dashboard,) = (one for one in OBJECTS if one["type"] == "dashboard")
    attributes = dashboard["attributes"]
    assert attributes["timeRestore"] is True
    assert (attributes["timeFrom"], attributes["timeTo"]) == ("now-1h", "now")
    assert attributes["refreshInterval"] == {"pause": False, "value": 10_000}
    references = {one["name"]: (one["type"], one["id"]) for one in dashboard["references"]}
    shown = [references[one["panelRefName"]] for one in json.loads(attributes["panelsJSON"])]
    assert sorted(shown) == sorted(
        (one["type"], one["id"]) for one in OBJECTS if one["type"] in ("visualization", "search")
    )
    taken: set[tuple[int, int]] = set()
    for one in json.loads(attributes["panelsJSON"]):
        grid = one["gridData"]
        assert grid["i"] == one["panelIndex"]
        assert grid["x"] + grid["w"] <= 48
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        taken |= cells


def test_an_index_pattern_brings_formats_and_computed_fields_only() -> None:
    """Dashboards asks the index for the rest, since no field says `readFromDocValues`."""
    for index in Index:
        one = BY_KEY["index-pattern", "fraudstream-" + index.value.replace("_", "-")]
        attributes = one["attributes"]
        assert attributes["timeFieldName"] == index.time_field
        fields = json.loads(attributes["fields"])
        assert all(field["scripted"] and "readFromDocValues" not in field for field in fields)
        formats = json.loads(attributes["fieldFormatMap"])
        assert all(one["id"] in ("number", "percent") for one in formats.values())
    decisions = BY_KEY["index-pattern", "fraudstream-processed-transactions"]["attributes"]
    assert [field["name"] for field in json.loads(decisions["fields"])] == [
        script.name for script in SCRIPTS
    ]
    assert json.loads(decisions["fieldFormatMap"])["is_blocked"]["id"] == "percent"


def test_searches_list_the_newest_first() -> None:
    for listing in LISTINGS:
        one = BY_KEY["search", "fraudstream-" + listing.id.replace("_", "-")]
        assert one["attributes"]["sort"] == [[listing.index.time_field, "desc"]]
        assert one["attributes"]["columns"] == list(listing.columns)
