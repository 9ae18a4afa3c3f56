"""An OpenSearch in memory: what the indexer asks of one, and failures as told."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import orjson
from opensearchpy.exceptions import NotFoundError


class FakeIndices:
    """Templates, aliases and indexes."""

    def __init__(self) -> None:
        self.templates: dict[str, dict[str, Any]] = {}
        self.names: list[str] = []
        self.versions: dict[str, int] = {}
        self.new_mappings: list[str] = []
        self.refreshed = 0
        self.copies: dict[str, dict[str, Any]] = {}
        """By name: aliases and mappings of migrated and half migrated days."""
        self.settings: list[tuple[str, dict[str, Any]]] = []

    def get(self, index: str, params: dict[str, Any]) -> dict[str, Any]:
        return {name: one for name, one in self.copies.items() if fnmatch(name, index)}

    def put_settings(self, index: str, body: dict[str, Any], params: dict[str, Any]) -> None:
        self.settings.append((index, body))

    def get_index_template(self, name: str) -> dict[str, Any]:
        if name not in self.templates:
            raise NotFoundError(404, "resource_not_found_exception", {})
        return {"index_templates": [{"index_template": self.templates[name]}]}

    def put_index_template(self, name: str, body: dict[str, Any]) -> None:
        self.templates[name] = body

    def exists_alias(self, name: str) -> bool:
        return any(index.startswith(f"{name}-") for index in self.names)

    def exists(self, index: str) -> bool:
        return index in self.names

    def create(self, index: str, **_: Any) -> None:
        self.names.append(index)

    def get_mapping(self, index: str, params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {"mappings": {"_meta": {"version": version}}}
            for name, version in self.versions.items()
        }

    def put_mapping(self, index: str, body: dict[str, Any]) -> None:
        if index in self.copies:
            self.copies[index]["mappings"] |= body
        else:
            self.new_mappings.append(index)

    def refresh(self, index: str) -> None:
        self.refreshed += 1


class FakeClient:
    """Keeps documents; answers as told, per document id or for whole requests."""

    def __init__(self) -> None:
        self.indices = FakeIndices()
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.seq_nos: dict[tuple[str, str], int] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.failures: list[Exception] = []
        self.item_errors: dict[str, list[tuple[int, str]] | tuple[int, str]] = {}
        """By id: errors for the next times, or one for ever."""
        self.bulks: list[int] = []
        self.items: list[int] = []
        self.before_bulk: Callable[[], None] = lambda: None
        self.after_bulk: Callable[[], None] = lambda: None
        self.behind: Callable[[str], str] = lambda name: name
        """Gives the index that a name stands for, as answers have it."""

    def bulk(self, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.before_bulk()
        self.bulks.append(len(body))
        lines = body.split(b"\n")[:-1]
        items = []
        for action_line, document in zip(lines[::2], lines[1::2], strict=True):
            ((action, head),) = orjson.loads(action_line).items()
            items.append({action: self._one(action, head, orjson.loads(document))})
        self.items.append(len(items))
        self.after_bulk()
        return {"items": items}

    def _one(self, action: str, head: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        place = head["_index"], head["_id"]
        error = self._error(*place)
        if error is None and action == "update" and place not in self.documents:
            error = 404, "document_missing_exception"
        if error is None and "if_seq_no" in head and self.seq_nos.get(place) != head["if_seq_no"]:
            error = 409, "version_conflict_engine_exception"
        if error is None and "version" in head:
            if self.versions.get(place, -1) > head["version"]:
                error = 409, "version_conflict_engine_exception"
            else:
                self.versions[place] = head["version"]
        if error is not None:
            return {
                "status": error[0],
                "error": {"type": error[1], "reason": "field of ada@example.com"},
            }
        self.documents[place] = self.documents[place] | body["doc"] if action == "update" else body
        self.seq_nos[place] = self.seq_nos.get(place, -1) + 1
        return {"status": 201}

    def _error(self, index: str, key: str) -> tuple[int, str] | None:
        errors = self.item_errors.get(f"{index}/{key}")
        if errors is None and not index.endswith("rejected"):
            errors = self.item_errors.get(key)
        if isinstance(errors, list):
            return errors.pop(0) if errors else None
        return errors

    def mget(self, body: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        answers = []
        for one in body["docs"]:
            place = one["_index"], one["_id"]
            answer: dict[str, Any] = {
                "_index": self.behind(place[0]),
                "_id": place[1],
                "found": False,
            }
            if place in self.documents:
                wanted = params["_source_includes"].split(",")
                source = {k: v for k, v in self.documents[place].items() if k in wanted}
                answer |= {"found": True, "_source": source, "_seq_no": self.seq_nos[place]}
                answer["_primary_term"] = 1
            answers.append(answer)
        return {"docs": answers}

    def search(self, index: str, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body["query"]["terms"]["event_id"]
        hits = [
            {"_index": name, "_id": key, "_source": document, "sort": [key]}
            for (name, key), document in sorted(self.documents.items())
            if name.startswith(f"{index}-") and document.get("event_id") in wanted
        ]
        return {"hits": {"hits": hits}}
