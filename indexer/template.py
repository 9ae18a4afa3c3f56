"""Index templates and mappings of all documents. No I/O."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import BaseModel

from fraud.contracts.decision import Decision, Indexed, fields_of
from fraud.contracts.transaction import DECISION_FIELD, FIELDS, Kind
from fraud.features.declaration import AMOUNT
from indexer.documents import (
    ALIAS,
    DEAD_LETTERS,
    DECISION_MS,
    EMAIL_DOMAIN,
    LABELS,
    LOCATION,
    REJECTED,
    SHADOW_AGREES,
)

VERSION: Final = 3
"""Version of templates and documents, raised by one with every change; a cluster never goes back to
a lower one. `indexer.migration` copies indexes of earlier versions into new ones."""

MAX_FIELDS: Final = 500
"""Limit of fields per index, over twice what the mapping and all features need, because new
features may appear during a day. Nothing else adds fields; see `indexer.documents`."""

DEAD_LETTER_INDEX: Final = f"{DEAD_LETTERS}-1"

_KEYWORD: Final[dict[str, Any]] = {"type": "keyword", "ignore_above": 1024}
_DATE: Final[dict[str, Any]] = {
    "type": "date",
    "format": "strict_date_optional_time||epoch_millis",
}
_EPOCH_MS: Final[dict[str, Any]] = {"type": "date", "format": "epoch_millis"}
_INTEGER: Final[dict[str, Any]] = {"type": "integer"}
_NUMBER: Final[dict[str, Any]] = {"type": "double"}
_FEATURE: Final[dict[str, Any]] = {"type": "float", "index": False}
"""Floats, as precise as the model's input. Filters and aggregations read doc values: indexing each of
a hundred features would take a third of the processor time and disk of all indexing."""
_BY_KIND: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ID: _KEYWORD,
    Kind.TEXT: _KEYWORD,
    Kind.CURRENCY: _KEYWORD,
    Kind.NUMBER: _NUMBER,
    Kind.TIME: _DATE,
}


_INDEXED: Final[dict[Indexed | None, dict[str, Any]]] = {
    Indexed.KEYWORD: _KEYWORD,
    Indexed.TEXT: {"type": "text"},
    Indexed.BOOLEAN: {"type": "boolean"},
    Indexed.INTEGER: _INTEGER,
    Indexed.LONG: {"type": "long"},
    Indexed.DOUBLE: _NUMBER,
    Indexed.DATE: _DATE,
    Indexed.EPOCH_MS: _EPOCH_MS,
    # The amount is a double, so that sums of money are exact to the cent.
    Indexed.FEATURES: {"type": "object", "dynamic": True, "properties": {AMOUNT: _NUMBER}},
    Indexed.COUNTS: {"type": "object", "dynamic": True},
    Indexed.STORED: {"type": "object", "enabled": False},
}
_EACH: Final[dict[Indexed | None, dict[str, Any]]] = {
    Indexed.FEATURES: _FEATURE,
    Indexed.COUNTS: _INTEGER,
}
"""Mapping of each number in a field that is an object of numbers."""


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"properties": properties}


def _declared(declaration: type[BaseModel]) -> dict[str, Any]:
    return _object(
        **{
            field.name: _declared(field.parts) if field.parts else _INDEXED[field.indexed]
            for field in fields_of(declaration)
        }
    )


def mapping() -> dict[str, Any]:
    """Return the mapping of the documents of decisions.

    Fields without a mapping are stored but not indexed. Dynamic templates map the numbers of
    features and history, whose names come from the declared features.
    """
    fields = {field.name: _BY_KIND[field.kind] for field in FIELDS}
    # Keep the text as it came; the subfield of valid addresses can be searched by network.
    fields["ip_address"] = _KEYWORD | {"fields": {"ip": {"type": "ip", "ignore_malformed": True}}}
    return {
        "dynamic": False,
        "dynamic_templates": [
            {
                field.name: {
                    "path_match": f"{DECISION_FIELD}.{field.name}.*",
                    "mapping": _EACH[field.indexed],
                }
            }
            for field in fields_of(Decision)
            if field.indexed in _EACH
        ],
        "properties": fields
        | {
            EMAIL_DOMAIN: _KEYWORD,
            LOCATION: {"type": "geo_point", "ignore_malformed": True},
            DECISION_FIELD: _declared(Decision),
            DECISION_MS: {"type": "long"},
            SHADOW_AGREES: {"type": "boolean"},
            "label": _object(label=_KEYWORD, label_time=_DATE, source=_KEYWORD),
        },
    }


def rejected_mapping() -> dict[str, Any]:
    """Return the mapping of refused documents: error, index and the document itself, unindexed."""
    return {
        "dynamic": False,
        "properties": {
            "reason": _KEYWORD,
            "detail": {"type": "text"},
            "index": _KEYWORD,
            "rejected_at": _DATE,
            "document": {"type": "object", "enabled": False},
        },
    }


def label_mapping() -> dict[str, Any]:
    """Return the mapping of the current label of an event_id."""
    return {
        "dynamic": False,
        "properties": {
            "event_id": _KEYWORD,
            "label": _KEYWORD,
            "label_time": _DATE,
            "source": _KEYWORD,
            "arrived_at": _DATE,
        },
    }


def dead_letter_mapping() -> dict[str, Any]:
    """Return the mapping of dead letters: error, input, size and place in the dead-letter topic."""
    coordinates = {
        "topic": _KEYWORD,
        "partition": _INTEGER,
        "offset": {"type": "long"},
    }
    return {
        "dynamic": False,
        "properties": {
            "error_code": _KEYWORD,
            "error_message": _KEYWORD | {"fields": {"text": {"type": "text"}}},
            "failed_at": _DATE,
            "source": _object(**coordinates),
            "dead_letter": _object(**coordinates, timestamp_ms=_EPOCH_MS),
            "key_bytes": _INTEGER,
            "value_bytes": _INTEGER,
        },
    }


def content_of(template: dict[str, Any]) -> str | None:
    """Return the content hash of a template; None for early templates, which lack one."""
    found = template.get("_meta", {}).get("content")
    return str(found) if found else None


def templates(*, shards: int, replicas: int, clear: bool = False) -> dict[str, dict[str, Any]]:
    """Return the index templates by name.

    Args:
        shards: Primary shards of each day's index; other indexes have one.
        replicas: Copies of each shard; 0 on one node.
        clear: Whether personal values are indexed in clear text; noted in each index.
    """
    meta = {"version": VERSION, "personal_fields": "clear" if clear else "hashed"}

    def template(
        pattern: str,
        mappings: dict[str, Any],
        alias: str | None = None,
        shards: int = 1,
        more: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        body = {
            "index_patterns": [pattern],
            "priority": 100,
            "version": VERSION,
            "template": {
                "settings": {
                    "number_of_shards": shards,
                    "number_of_replicas": replicas,
                    "refresh_interval": "1s",
                    "index.mapping.total_fields.limit": MAX_FIELDS,
                    **(more or {}),
                },
                "mappings": mappings | {"_meta": meta},
                "aliases": {alias: {}} if alias else {},
            },
        }
        # The hash makes changed settings reach the cluster without a new version.
        content = sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
        return body | {"_meta": {"content": content}}

    return {
        ALIAS: template(f"{ALIAS}-*", mapping(), ALIAS, shards),
        REJECTED: template(REJECTED, rejected_mapping()),
        # OpenSearch must forget the versions of deleted labels at once, because a rebuild may write
        # an expired label again with the version that it had.
        LABELS: template(LABELS, label_mapping(), more={"index.gc_deletes": "0s"}),
        DEAD_LETTERS: template(f"{DEAD_LETTERS}-*", dead_letter_mapping(), DEAD_LETTERS),
    }
