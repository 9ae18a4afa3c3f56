"""Search for past decisions in OpenSearch, where personal values are found by their pseudonyms."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from dashboards.panels import Index
from fraud.contracts.decision import Outcome
from fraud.contracts.label import LabelValue
from fraud.contracts.transaction import EVENT_TIME_END_MS, FIELDS, MAX_ID_LENGTH, Kind
from fraud.security.pseudonyms import Pseudonyms

MAX_DECISIONS: Final = 200
"""Most decisions on a page."""

REQUEST_S: Final = 10.0
"""Timeout of requests to OpenSearch, seconds."""

_ENTITY: Final = "entity_id"
_MAX_VALUE: Final = 1024
_LARGEST: Final = 2**63
_SORT: Final = [
    # The newest first; Kafka coordinates order decisions of the same millisecond.
    {"fd.source.timestamp_ms": {"order": "desc", "unmapped_type": "date"}},
    {"fd.source.partition": {"order": "desc", "unmapped_type": "integer"}},
    {"fd.source.offset": {"order": "desc", "unmapped_type": "long"}},
]

_log = structlog.get_logger("scoring_api")

SearchedField = StrEnum(  # type: ignore[misc]  # of the fields declared once, elsewhere
    "SearchedField", {field.name: field.name for field in FIELDS if field.kind in (Kind.ID, Kind.TEXT)}
)  # fmt: skip


class SearchAway(Exception):
    """OpenSearch cannot answer now; the message says why."""


class NoSuchDecision(Exception):
    """No decision on the event is indexed."""


class InvalidCursor(Exception):
    """The cursor does not come from a page."""


class Filters(BaseModel):
    """Conditions on decisions, all of which must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Annotated[
        AwareDatetime | None, Field(alias="from", description="Not before; by arrival in Kafka.")
    ] = None
    to: Annotated[AwareDatetime | None, Field(description="Before.")] = None
    outcome: Outcome | None = None
    entity_id: Annotated[str | None, Field(min_length=1, max_length=MAX_ID_LENGTH)] = None
    min_score: Annotated[int | None, Field(ge=0, le=1000, description="At least this score.")] = (
        None
    )
    rule: Annotated[
        str | None, Field(min_length=1, max_length=128, description="Id of a rule that matched.")
    ] = None
    reason: Annotated[
        str | None, Field(min_length=1, max_length=128, description="Code of a reason.")
    ] = None
    label: Annotated[LabelValue | None, Field(description="What it turned out to be.")] = None
    limit: Annotated[int, Field(ge=1, le=MAX_DECISIONS, description="Most decisions.")] = 50
    cursor: Annotated[
        str | None, Field(max_length=256, description="`next_cursor` of the page before.")
    ] = None

    @model_validator(mode="after")
    def _a_range(self) -> Filters:
        if self.from_ and self.to and self.from_ >= self.to:
            raise ValueError("expected a time `from` before `to`")
        return self


class Search(Filters):
    """Conditions on decisions, also by values that may be personal and must not appear in URLs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"fields": {"email_address": "ada@example.com"}, "outcome": "block", "limit": 10}
            ]
        }
    )

    fields: Annotated[
        dict[SearchedField, Annotated[str, Field(min_length=1, max_length=_MAX_VALUE)]],
        Field(max_length=10, description="Exact values of the transaction's fields, such as e-mail addresses, as they were sent."),
    ] = {}  # fmt: skip


class Decisions:
    """Finds decisions. Calls block, so make them in a thread.

    Args:
        client: OpenSearch.
        pseudonyms: Converts personal values to their form in the index.
    """

    def __init__(self, client: OpenSearch, pseudonyms: Pseudonyms) -> None:
        self._client = client
        self._pseudonyms = pseudonyms

    def of_event(self, event_id: str, entity_id: str | None) -> dict[str, Any]:
        """Return the newest decision on an event, and in `items` all of them, newest first.

        Several events have one id if their entities or contents differ. Repeats count only if nothing
        else is indexed. `items` has at most `MAX_DECISIONS`, without features.

        Raises:
            NoSuchDecision: No decision on the event is indexed.
            SearchAway: OpenSearch cannot answer now.
        """
        wanted: list[dict[str, Any]] = [{"term": {"event_id": event_id}}]
        if entity_id is not None:
            wanted.append(self._value(_ENTITY, entity_id))
        # False sorts first: decisions that are not on a repeat.
        sort = [{"fd.duplicate": {"order": "asc", "unmapped_type": "boolean"}}, *_SORT]
        hits = self._ask(
            {"query": {"bool": {"filter": wanted}}, "sort": sort, "size": MAX_DECISIONS}
        )
        if not hits:
            raise NoSuchDecision
        newest = shown(hits[0])
        items = [shown(hit) for hit in hits if hit is hits[0] or not _is_repeat(hit)]
        for item in items:
            item["fd"] = {name: part for name, part in item["fd"].items() if name != "features"}
        return newest | {"items": items}

    def search(self, asked: Filters) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of decisions without features, newest first, and the next cursor or None.

        Raises:
            InvalidCursor: The cursor does not come from a page.
            SearchAway: OpenSearch cannot answer now.
        """
        body: dict[str, Any] = {
            "query": {"bool": {"filter": self._conditions(asked)}},
            "sort": _SORT,
            # One hit more than asked for shows whether there is a next page.
            "size": asked.limit + 1,
            "_source": {"excludes": ["fd.features"]},
        }
        if asked.cursor is not None:
            body["search_after"] = _read_cursor(asked.cursor)
        hits = self._ask(body)
        page = hits[: asked.limit]
        more = len(hits) > asked.limit
        return [shown(hit) for hit in page], _cursor(page[-1]["sort"]) if more else None

    def _conditions(self, asked: Filters) -> list[dict[str, Any]]:
        terms = {
            "fd.outcome": asked.outcome,
            "fd.rules.id": asked.rule,
            "fd.reasons.code": asked.reason,
            "label.label": asked.label,
        }
        found: list[dict[str, Any]] = [
            {"term": {field: str(value)}} for field, value in terms.items() if value is not None
        ]
        if asked.min_score is not None:
            found.append({"range": {"fd.score": {"gte": asked.min_score}}})
        span = {"gte": _ms(asked.from_), "lt": _ms(asked.to)}
        if limits := {name: at for name, at in span.items() if at is not None}:
            found.append({"range": {"fd.source.timestamp_ms": limits}})
        if asked.entity_id is not None:
            found.append(self._value(_ENTITY, asked.entity_id))
        if isinstance(asked, Search):
            found += [self._value(str(field), value) for field, value in asked.fields.items()]
        return found

    def _value(self, field: str, value: str) -> dict[str, Any]:
        return {"terms": {field: self._pseudonyms.searched(field, value)}}

    def _ask(self, body: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        try:
            answer = self._client.search(
                index=Index.DECISIONS.value,
                body=dict(body, track_total_hits=False),
                # The index is missing until something was decided.
                ignore_unavailable=True,
                allow_no_indices=True,
                # A partial answer would look like a complete one.
                allow_partial_search_results=False,
            )
        except OpenSearchException as error:
            # Messages of errors may hold the values searched for; status and kind do not.
            kind = error.error if isinstance(error, TransportError) else type(error).__name__
            status = error.status_code if isinstance(error, TransportError) else None
            _log.warning("scoring_api.search_failed", status=status, error=kind)
            raise SearchAway(str(kind)) from None
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits


def shown(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as the API shows it: the indexed fields, and its id."""
    return {"id": hit["_id"], **hit["_source"]}


def _is_repeat(hit: Mapping[str, Any]) -> bool:
    return bool(hit["_source"]["fd"].get("duplicate"))


def _ms(time: datetime | None) -> int | None:
    if time is None:
        return None
    return min(max(0, int(time.timestamp() * 1000)), EVENT_TIME_END_MS)


def _cursor(sort: Sequence[int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(sort)).decode().rstrip("=")


def _read_cursor(text: str) -> list[int]:
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise InvalidCursor from None
    # The cursor goes into a query, so it must be one that `_cursor` could have made.
    if (
        not isinstance(values, list)
        or len(values) != len(_SORT)
        or any(type(value) is not int or not 0 <= value < _LARGEST for value in values)
    ):
        raise InvalidCursor
    return values
