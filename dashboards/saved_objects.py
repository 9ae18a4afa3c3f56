"""Builds the saved objects of OpenSearch Dashboards from the panels. No I/O; the output is stable.

The format is that of Dashboards 3, like its own sample data sets. Migration versions are the newest
that it supports, so that the import changes nothing. An index pattern lists only the scripted
fields: Dashboards reads the others from the index when it first shows the pattern.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from dashboards.panels import (
    AMOUNT,
    LISTINGS,
    PANELS,
    SCRIPTS,
    Bucket,
    Chart,
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
from dashboards.requests import SHARD_SIZE, numbered_buckets, numbered_metrics

FILE: Final = Path(__file__).with_name("fraudstream.ndjson")
"""File of the saved objects, one per line, to be imported by hand or by `importer.py`."""

DASHBOARD_ID: Final = "fraudstream"

_VERSION: Final = "3.6.0"
_MIGRATED: Final = {
    "index-pattern": "7.6.0",
    "visualization": "7.10.0",
    "search": "7.9.3",
    "dashboard": "7.9.3",
}
_SOURCE_REFERENCE: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
_COLORS: Final = {
    "approve": "#2f8f6b",
    "review": "#d9a021",
    "block": "#c8443a",
    "fraud": "#c8443a",
    "legitimate": "#2f8f6b",
}
_FORMATS: Final[dict[Unit, dict[str, Any]]] = {
    Unit.MONEY: {"id": "number", "params": {"pattern": "$0,0.00"}},
    Unit.SHARE: {"id": "percent", "params": {"pattern": "0,0.00%"}},
    Unit.MILLISECONDS: {"id": "number", "params": {"pattern": "0,0.[0]"}},
    Unit.SCORE: {"id": "number", "params": {"pattern": "0,0"}},
}
_FIELD_UNITS: Final = {
    AMOUNT: Unit.MONEY,
    "fd.probability": Unit.SHARE,
    "fd.score": Unit.SCORE,
    "decision_ms": Unit.MILLISECONDS,
    "fd.ttdf": Unit.MILLISECONDS,
    "fd.proc_time": Unit.MILLISECONDS,
    "fd.frauddetector_time": Unit.MILLISECONDS,
    **{script.name: Unit.SHARE for script in SCRIPTS},
}


def saved_objects() -> list[dict[str, Any]]:
    """Return all saved objects; each comes after the objects that it refers to."""
    return [
        *(_index_pattern(index) for index in Index),
        *(_visualization(panel) for panel in PANELS),
        *(_search(listing) for listing in LISTINGS),
        _dashboard(),
    ]


def ndjson() -> bytes:
    """Return the saved objects as the bytes of `FILE`."""
    lines = (orjson.dumps(saved, option=orjson.OPT_SORT_KEYS) for saved in saved_objects())
    return b"\n".join(lines) + b"\n"


def query_text(where: tuple[Match, ...]) -> str:
    """Return conditions in the query language of Dashboards (DQL).

    Example:
        >>> query_text((Match("fd.outcome", ("review", "block")), Match("label.label")))
        'fd.outcome: (review or block) and label.label: *'
    """
    parts = []
    for match in where:
        if not match.values:
            value = "*"
        elif len(match.values) == 1:
            (value,) = match.values
        else:
            value = f"({' or '.join(match.values)})"
        parts.append(f"{match.field}: {value}")
    return " and ".join(parts)


def _object(
    kind: str, name: str, attributes: dict[str, Any], references: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "id": name,
        "type": kind,
        "attributes": attributes,
        "references": references,
        "migrationVersion": {kind: _MIGRATED[kind]},
    }


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _id(name: str) -> str:
    return f"{DASHBOARD_ID}-{name.replace('_', '-')}"


def index_pattern_id(index: Index) -> str:
    """Return the id of an index pattern's saved object, for links into Dashboards."""
    return _id(index.value)


def _index_pattern(index: Index) -> dict[str, Any]:
    scripts = SCRIPTS if index is Index.DECISIONS else ()
    fields = [
        {
            # No `readFromDocValues`: its absence makes Dashboards ask the index for the other fields.
            "name": script.name,
            "type": "number",
            "count": 0,
            "scripted": True,
            "script": script.source,
            "lang": "painless",
            "searchable": True,
            "aggregatable": True,
        }
        for script in scripts
    ]
    units = _FIELD_UNITS if index is Index.DECISIONS else {}
    attributes = {
        "title": index.pattern,
        "timeFieldName": index.time_field,
        "fields": _text(fields),
        "fieldFormatMap": _text({name: _FORMATS[unit] for name, unit in units.items()}),
    }
    return _object("index-pattern", _id(index.value), attributes, [])


def _source(where: tuple[Match, ...], **more: Any) -> dict[str, str]:
    return {
        "searchSourceJSON": _text(
            {
                "query": {"query": query_text(where), "language": "kuery"},
                "filter": [],
                "indexRefName": _SOURCE_REFERENCE,
            }
            | more
        )
    }


def _source_reference(index: Index) -> dict[str, str]:
    return {"name": _SOURCE_REFERENCE, "type": "index-pattern", "id": _id(index.value)}


def _visualization(panel: Panel) -> dict[str, Any]:
    kind, params = _drawn(panel)
    state = {"title": panel.title, "type": kind, "aggs": _aggregations(panel), "params": params}
    attributes = {
        "title": f"[Fraudstream] {panel.title}",
        "description": panel.text,
        "visState": _text(state),
        "uiStateJSON": _text(_ui_state(panel)),
        "version": 1,
        "kibanaSavedObjectMeta": _source(panel.where),
    }
    return _object("visualization", _id(panel.id), attributes, [_source_reference(panel.index)])


def _ui_state(panel: Panel) -> dict[str, Any]:
    if panel.chart in (Chart.BARS, Chart.DONUT) and len(panel.buckets) > 0:
        return {"vis": {"colors": _COLORS}}
    return {}


def _aggregations(panel: Panel) -> list[dict[str, Any]]:
    aggregations = []
    for number, metric in numbered_metrics(panel):
        kind, params = _metric(metric)
        aggregations.append(_aggregation(number, kind, "metric", params))
    for place, (number, bucket) in enumerate(numbered_buckets(panel)):
        kind, params = _bucket(bucket, panel.index)
        aggregations.append(_aggregation(number, kind, _schema(panel, place), params))
    return aggregations


def _aggregation(number: str, kind: str, schema: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "enabled": True, "type": kind, "schema": schema, "params": params}


def _schema(panel: Panel, place: int) -> str:
    if panel.chart is Chart.TABLE:
        return "bucket"
    return "segment" if place == 0 else "group"


def _field_name(field: str | Script) -> str:
    return field.name if isinstance(field, Script) else field


def _metric(metric: Metric) -> tuple[str, dict[str, Any]]:
    params: dict[str, Any] = {"customLabel": metric.label}
    match metric:
        case Count():
            return "count", params
        case Sum():
            return "sum", params | {"field": metric.field}
        case Mean():
            return "avg", params | {"field": _field_name(metric.field)}
        case Maximum():
            return "max", params | {"field": metric.field}
        case Percentiles():
            return "percentiles", {"field": metric.field, "percents": list(metric.percents)}


def _bucket(bucket: Bucket, index: Index) -> tuple[str, dict[str, Any]]:
    match bucket:
        case OverTime():
            return "date_histogram", {
                "field": index.time_field,
                "useNormalizedOpenSearchInterval": True,
                "scaleMetricValues": False,
                "interval": "auto",
                "drop_partials": False,
                "min_doc_count": 1,
                "extended_bounds": {},
                "customLabel": bucket.label,
            }
        case Values():
            return "terms", {
                "field": bucket.field,
                "orderBy": "1",
                "order": "desc",
                "size": bucket.size,
                "otherBucket": False,
                "otherBucketLabel": "Other",
                "missingBucket": False,
                "missingBucketLabel": "Missing",
                "customLabel": bucket.label,
                "json": _text({"shard_size": SHARD_SIZE}),
            }
        case Steps():
            return "histogram", {
                "field": bucket.field,
                "interval": bucket.width,
                "min_doc_count": False,
                "has_extended_bounds": False,
                "extended_bounds": {"min": "", "max": ""},
                "customLabel": bucket.label,
            }
        case Places():
            return "geohash_grid", {
                "field": bucket.field,
                "autoPrecision": False,
                "precision": bucket.precision,
                "useGeocentroid": True,
                "isFilteredByCollar": False,
                "customLabel": bucket.label,
            }


def _drawn(panel: Panel) -> tuple[str, dict[str, Any]]:
    """Return the visualization's type and its parameters, without the aggregations."""
    match panel.chart:
        case Chart.METRIC:
            return "metric", {
                "type": "metric",
                "addTooltip": True,
                "addLegend": False,
                "metric": {
                    "percentageMode": False,
                    "useRanges": False,
                    "colorSchema": "Green to Red",
                    "metricColorMode": "None",
                    "colorsRange": [{"from": 0, "to": 10000}],
                    "labels": {"show": True},
                    "invertColors": False,
                    "style": {
                        "bgFill": "#000",
                        "bgColor": False,
                        "labelColor": False,
                        "subText": "",
                        "fontSize": 32,
                    },
                },
            }
        case Chart.DONUT:
            return "pie", {
                "type": "pie",
                "addTooltip": True,
                "addLegend": True,
                "legendPosition": "right",
                "isDonut": True,
                "labels": {"show": True, "values": True, "last_level": True, "truncate": 100},
            }
        case Chart.TABLE:
            return "table", {
                "perPage": 10,
                "showPartialRows": False,
                "showMetricsAtAllLevels": False,
                "sort": {"columnIndex": None, "direction": None},
                "showTotal": False,
                "totalFunc": "sum",
                "percentageCol": "",
            }
        case Chart.MAP:
            return "tile_map", {
                "colorSchema": "Yellow to Red",
                "mapType": "Scaled Circle Markers",
                "isDesaturated": True,
                "addTooltip": True,
                "heatClusterSize": 1.5,
                "legendPosition": "bottomright",
                "mapZoom": 3,
                "mapCenter": [38, -97],
                "wms": {
                    "enabled": False,
                    "options": {"format": "image/png", "transparent": True},
                },
            }
        case Chart.RANKING:
            return "horizontal_bar", _axes(panel, "histogram", "normal", is_sideways=True)
        case Chart.BARS:
            return "histogram", _axes(panel, "histogram", "stacked")
        case Chart.LINES:
            return "line", _axes(panel, "line", "normal")


def _axes(panel: Panel, drawn_as: str, mode: str, *, is_sideways: bool = False) -> dict[str, Any]:
    label = panel.metrics[0].label
    return {
        "type": drawn_as,
        "grid": {"categoryLines": False},
        "categoryAxes": [
            {
                "id": "CategoryAxis-1",
                "type": "category",
                "position": "left" if is_sideways else "bottom",
                "show": True,
                "style": {},
                "scale": {"type": "linear"},
                "labels": {"show": True, "filter": not is_sideways, "truncate": 200},
                "title": {},
            }
        ],
        "valueAxes": [
            {
                "id": "ValueAxis-1",
                "name": "BottomAxis-1" if is_sideways else "LeftAxis-1",
                "type": "value",
                "position": "bottom" if is_sideways else "left",
                "show": True,
                "style": {},
                "scale": {"type": "linear", "mode": "normal"},
                "labels": {"show": True, "rotate": 0, "filter": is_sideways, "truncate": 100},
                "title": {"text": label},
            }
        ],
        "seriesParams": [
            {
                "show": True,
                "type": drawn_as,
                "mode": mode,
                "data": {"label": label, "id": "1"},
                "valueAxis": "ValueAxis-1",
                "drawLinesBetweenPoints": True,
                "lineWidth": 2,
                "interpolate": "linear",
                "showCircles": False,
            }
        ],
        "addTooltip": True,
        "addLegend": not is_sideways,
        "legendPosition": "right",
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
        "thresholdLine": {
            "show": False,
            "value": 10,
            "width": 1,
            "style": "full",
            "color": "#E7664C",
        },
    }


def _search(listing: Listing) -> dict[str, Any]:
    attributes = {
        "title": f"[Fraudstream] {listing.title}",
        "description": listing.text,
        "hits": 0,
        "columns": list(listing.columns),
        "sort": [[listing.index.time_field, "desc"]],
        "version": 1,
        "kibanaSavedObjectMeta": _source(listing.where, highlightAll=True, version=True),
    }
    return _object("search", _id(listing.id), attributes, [_source_reference(listing.index)])


def _dashboard() -> dict[str, Any]:
    panels, references = [], []
    shown: list[Panel | Listing] = [*PANELS, *LISTINGS]
    for number, panel in enumerate(shown):
        name = f"panel_{number}"
        place = panel.place
        panels.append(
            {
                "panelIndex": str(number),
                "panelRefName": name,
                "version": _VERSION,
                "gridData": {
                    "x": place.x,
                    "y": place.y,
                    "w": place.w,
                    "h": place.h,
                    "i": str(number),
                },
                "embeddableConfig": {},
                "title": panel.title,
            }
        )
        kind = "visualization" if isinstance(panel, Panel) else "search"
        references.append({"name": name, "type": kind, "id": _id(panel.id)})
    attributes = {
        "title": "Fraudstream",
        "description": "What was decided, why, how fast, and what could not be read.",
        "hits": 0,
        "version": 1,
        "panelsJSON": _text(panels),
        "optionsJSON": _text({"hidePanelTitles": False, "useMargins": True}),
        "timeRestore": True,
        "timeFrom": "now-1h",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 10_000},
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _text({"query": {"query": "", "language": "kuery"}, "filter": []})
        },
    }
    return _object("dashboard", DASHBOARD_ID, attributes, references)
