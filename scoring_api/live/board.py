"""Data of the live page, read from OpenSearch by the requests of the dashboard panels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol

import orjson
import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, OpenSearchException, TransportError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from dashboards.panels import LISTINGS, NOT_APPROVED, PANELS, Index, Match, OverTime, Panel
from dashboards.requests import Span, columns, interval_ms, listing_request, request, rows
from fraud.contracts.decision import Outcome
from fraud.contracts.transaction import MAX_ID_LENGTH
from fraud.runtime.clock import Clock, to_datetime
from fraud.runtime.opensearch import MAY_BE_MISSING
from scoring_api.decisions import NoSuchDecision, SearchAway

MAX_ALERTS: Final = 200

_SEARCHED: Final = (
    "entity_id", "event_id", "email_address", "phone", "customer_name", "ip_address", "merchant_id", "device_id",
)  # fmt: skip
_SHOWN: Final = [
    "event_id", "entity_id", "event_time", "transaction_amt", "transaction_currency", "merchant_id",
    "billing_city", "billing_state", "fd.outcome", "fd.score", "fd.reasons.text", "fd.rules.id",
    "fd.source.timestamp_ms", "label.label",
]  # fmt: skip
_ALERTS: Final = next(listing for listing in LISTINGS if listing.id == "recent_alerts")

_log = structlog.get_logger("scoring_api")


class Range(StrEnum):
    """How far the page looks back."""

    QUARTER = "15m"
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


_LENGTHS: Final = {
    Range.QUARTER: timedelta(minutes=15),
    Range.HOUR: timedelta(hours=1),
    Range.SIX_HOURS: timedelta(hours=6),
    Range.DAY: timedelta(days=1),
    Range.WEEK: timedelta(days=7),
    Range.MONTH: timedelta(days=30),
}


class PageFilters(BaseModel):
    """Filters of the page; `start` and `end` together replace `range`."""

    model_config = ConfigDict(extra="forbid")

    range: Annotated[Range, Field(description="How far back from now.")] = Range.HOUR
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    outcomes: Annotated[
        list[Outcome], Field(max_length=len(Outcome), description="Empty: all.")
    ] = []
    find: Annotated[
        str,
        Field(
            max_length=MAX_ID_LENGTH,
            description="An entity, IP address, merchant, event, e-mail address, phone or name, exactly.",
        ),
    ] = ""

    @model_validator(mode="after")
    def _both_ends(self) -> PageFilters:
        if (self.start is None) != (self.end is None):
            raise ValueError("expected both start and end, or neither")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("expected a start before the end")
        return self

    def span(self, now: datetime) -> Span:
        """Return the time range to show."""
        if self.start is not None and self.end is not None:
            return Span(self.start.astimezone(UTC), self.end.astimezone(UTC))
        return Span.last(_LENGTHS[self.range], now)


class Searched(Protocol):
    """Returns the forms that a value has in the index (`fraud.security.pseudonyms.Pseudonyms`)."""

    def searched(self, field: str, value: str) -> list[str]:
        """Return the values to search for."""
        ...


def describe() -> list[dict[str, Any]]:
    """Return descriptions of the panels, for the page to draw them."""
    return [
        {
            "id": panel.id,
            "title": panel.title,
            "text": panel.text,
            "chart": panel.chart,
            "columns": [{"label": column.label, "unit": column.unit} for column in columns(panel)],
            "over_time": any(isinstance(bucket, OverTime) for bucket in panel.buckets),
            "splits": len(panel.buckets),
            "place": {"x": panel.place.x, "y": panel.place.y, "w": panel.place.w, "h": panel.place.h},
        }
        for panel in PANELS
    ]  # fmt: skip


class Board:
    """Reads the page's data from OpenSearch; may be used by several threads.

    Args:
        client: OpenSearch; the client does not retry.
        searched: Converts personal values to their form in the index.
        clock: Returns the current time, UTC epoch milliseconds.
    """

    def __init__(self, client: OpenSearch, searched: Searched, clock: Clock) -> None:
        self._client = client
        self._searched = searched
        self._clock = clock

    def panels(self, filters: PageFilters) -> dict[str, Any]:
        """Return the data of all panels, read by one request.

        Returns:
            `panels`, the rows by panel id; `total`, the number of all indexed decisions; and the
            time range and the width of its bars in milliseconds.

        Raises:
            SearchAway: OpenSearch cannot answer now.
        """
        span = filters.span(to_datetime(self._clock()))
        searches: list[tuple[Index, dict[str, Any]]] = [
            (panel.index, request(panel, span, self._more(panel, filters))) for panel in PANELS
        ]
        ever = {"size": 0, "track_total_hits": True, "query": {"match_all": {}}}
        answers = self._ask([*searches, (Index.DECISIONS, ever)])
        return {
            "panels": {
                panel.id: rows(panel, answer)
                for panel, answer in zip(PANELS, answers[:-1], strict=True)
            },
            "total": answers[-1]["hits"]["total"]["value"],
            "start_ms": _epoch_ms(span.start),
            "end_ms": _epoch_ms(span.end),
            "interval_ms": interval_ms(span),
        }

    def alerts(self, filters: PageFilters, size: int) -> dict[str, Any]:
        """Return the newest decisions that are not approved, or that have the filtered outcomes.

        Raises:
            SearchAway: OpenSearch cannot answer now.
        """
        span = filters.span(to_datetime(self._clock()))
        listing = _ALERTS
        if filters.outcomes:
            chosen = Match(NOT_APPROVED.field, tuple(filters.outcomes))
            listing = replace(_ALERTS, where=(chosen,))
        body = listing_request(listing, span, size, self._found(filters))
        (answer,) = self._ask([(_ALERTS.index, body | {"_source": _SHOWN})])
        return {
            "total": answer["hits"]["total"]["value"],
            "items": [{"id": hit["_id"], **hit["_source"]} for hit in answer["hits"]["hits"]],
        }

    def decision(self, decision_id: str) -> dict[str, Any]:
        """Return a decision's full record by the id of its document.

        Raises:
            NoSuchDecision: No decision has the id.
            SearchAway: OpenSearch cannot answer now.
        """
        return self._one({"ids": {"values": [decision_id]}})

    def decision_of_event(self, event_id: str) -> dict[str, Any]:
        """Return the newest decision on an event.

        Raises:
            NoSuchDecision: No decision on the event is indexed.
            SearchAway: OpenSearch cannot answer now.
        """
        return self._one({"term": {"event_id": event_id}})

    def _one(self, wanted: dict[str, Any]) -> dict[str, Any]:
        newest = [{Index.DECISIONS.time_field: {"order": "desc", "unmapped_type": "date"}}]
        (answer,) = self._ask([(Index.DECISIONS, {"size": 1, "query": wanted, "sort": newest})])
        for hit in answer["hits"]["hits"]:
            return {"id": hit["_id"], "record": hit["_source"]}
        raise NoSuchDecision

    def _more(self, panel: Panel, filters: PageFilters) -> list[dict[str, Any]]:
        """Return the page's filters for a panel; dead letters cannot be filtered."""
        if panel.index is Index.DEAD_LETTERS:
            return []
        more = self._found(filters)
        if filters.outcomes:
            more.append({"terms": {NOT_APPROVED.field: list(filters.outcomes)}})
        return more

    def _found(self, filters: PageFilters) -> list[dict[str, Any]]:
        value = filters.find.strip()
        if not value:
            return []
        # The value itself, too: a click on a hash searches for the hash.
        each = [
            {"terms": {field: sorted({value, *self._searched.searched(field, value)})}}
            for field in _SEARCHED
        ]
        return [{"bool": {"should": each, "minimum_should_match": 1}}]

    def _ask(self, searches: list[tuple[Index, dict[str, Any]]]) -> list[dict[str, Any]]:
        lines = [
            orjson.dumps(part)
            for index, body in searches
            for part in ({"index": index.value, **MAY_BE_MISSING}, body)
        ]
        try:
            answers = self._client.msearch(body=b"\n".join(lines) + b"\n")["responses"]
        except NotFoundError:
            raise SearchAway("it has no such index") from None
        except (TransportError, OpenSearchException) as error:
            raise SearchAway(type(error).__name__) from None
        # One search may fail although the request as a whole does not.
        for answer in answers:
            if "error" in answer:
                _log.warning("scoring_api.search_failed", reason=answer["error"].get("type"))
                raise SearchAway(str(answer["error"].get("type")))
        found: list[dict[str, Any]] = answers
        return found


def _epoch_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
