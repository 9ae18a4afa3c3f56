"""Index templates: how the fields of a document are indexed. Pure."""

from __future__ import annotations

from typing import Any, Final

from fraud.contracts.transaction import DECISION_FIELD, FIELDS, Kind
from indexer.documents import ALIAS, LEFT_OUT, LOCATION, REJECTED

VERSION: Final = 1
"""Raised by one whenever a template changes; a cluster never goes back to a lower one."""

_KEYWORD: Final[dict[str, Any]] = {"type": "keyword", "ignore_above": 1024}
_DATE: Final[dict[str, Any]] = {
    "type": "date",
    "format": "strict_date_optional_time||epoch_millis",
}
_NUMBER: Final[dict[str, Any]] = {"type": "double"}
_BY_KIND: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ID: _KEYWORD,
    Kind.TEXT: _KEYWORD,
    Kind.CURRENCY: _KEYWORD,
    Kind.NUMBER: _NUMBER,
    Kind.TIME: _DATE,
}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"properties": properties}


def mapping() -> dict[str, Any]:
    """Describe the fields of a document.

    Fields without a mapping are kept and not indexed. Features and history have whatever names the
    model has: numbers, by dynamic templates.
    """
    fields = {field.name: _BY_KIND[field.kind] for field in FIELDS if field.name not in LEFT_OUT}
    # The text as it came, and for what is one an address that can be searched by network.
    fields["ip_address"] = _KEYWORD | {"fields": {"ip": {"type": "ip", "ignore_malformed": True}}}
    decision = _object(
        outcome=_KEYWORD,
        outcomes=_KEYWORD,
        score={"type": "integer"},
        probability=_NUMBER,
        reasons=_object(code=_KEYWORD, text={"type": "text"}, contribution=_NUMBER),
        rules=_object(id=_KEYWORD, version={"type": "integer"}, outcome=_KEYWORD),
        model=_object(name=_KEYWORD, version=_KEYWORD),
        policy_version=_KEYWORD,
        features={"type": "object", "dynamic": True},
        history={"type": "object", "dynamic": True},
        duplicate={"type": "boolean"},
        scored_at=_DATE,
        frauddetector_time=_NUMBER,
        proc_time=_NUMBER,
        ttdf=_NUMBER,
        source=_object(
            topic=_KEYWORD,
            partition={"type": "integer"},
            offset={"type": "long"},
            timestamp_ms={"type": "date", "format": "epoch_millis"},
        ),
    )
    return {
        "dynamic": False,
        "dynamic_templates": [
            {
                "features": {"path_match": f"{DECISION_FIELD}.features.*", "mapping": _NUMBER},
            },
            {
                "history": {
                    "path_match": f"{DECISION_FIELD}.history.*",
                    "mapping": {"type": "integer"},
                }
            },
        ],
        "properties": fields
        | {LOCATION: {"type": "geo_point"}, DECISION_FIELD: decision, "indexed_at": _DATE},
    }


def rejected_mapping() -> dict[str, Any]:
    """Describe a refused document: why, whence, and itself, unindexed."""
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


def templates(*, shards: int, replicas: int) -> dict[str, dict[str, Any]]:
    """Give the index templates by name.

    Args:
        shards: Primary shards of each day's index.
        replicas: Copies of each shard; 0 on one node.
    """
    settings = {"number_of_shards": shards, "number_of_replicas": replicas}
    return {
        ALIAS: {
            "index_patterns": [f"{ALIAS}-*"],
            "priority": 100,
            "version": VERSION,
            "template": {
                "settings": settings | {"refresh_interval": "1s"},
                "mappings": mapping(),
                "aliases": {ALIAS: {}},
            },
        },
        REJECTED: {
            "index_patterns": [REJECTED],
            "priority": 100,
            "version": VERSION,
            "template": {"settings": settings, "mappings": rejected_mapping()},
        },
    }
