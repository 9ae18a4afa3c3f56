"""`/v1/decisions`: what was decided, and why."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response

from fraud.contracts.transaction import MAX_ID_LENGTH
from fraud.security.api_keys import Role
from scoring_api.access import require
from scoring_api.decisions import Decisions, Filters, Search
from scoring_api.documentation import answers, problems, reference


def decision_routes(decisions: Decisions) -> APIRouter:
    """Return the routes of decisions."""
    routes = APIRouter(
        prefix="/v1/decisions",
        tags=["decisions"],
        dependencies=[Depends(require(Role.ANALYST))],
        responses=problems() | problems(503),
    )

    def page(asked: Filters) -> Response:
        items, cursor = decisions.search(asked)
        return _json({"items": items, "next_cursor": cursor})

    @routes.get(
        "",
        summary="List decisions",
        response_class=Response,
        responses=answers("A page, the newest first, without features.", reference("DecisionPage")),
    )
    def list_decisions(asked: Annotated[Filters, Query()]) -> Response:
        """Filter decisions by time, outcome, entity, score, rule, reason or label."""
        return page(asked)

    @routes.post(
        "/search",
        summary="Search decisions, also by personal values",
        response_class=Response,
        responses=answers("A page, the newest first, without features.", reference("DecisionPage")),
    )
    def search_decisions(asked: Search) -> Response:
        """Filter decisions also by exact field values, which stay out of URLs and so out of logs."""
        return page(asked)

    @routes.get(
        "/{event_id:path}",
        summary="Look a decision up",
        response_class=Response,
        responses=answers(
            "The newest decision as it is indexed, and all in `items`.",
            reference("DecisionsOnEvent"),
        )
        | problems(404),
    )
    def look_up(
        event_id: str,
        entity_id: Annotated[
            str | None,
            Query(min_length=1, max_length=MAX_ID_LENGTH, description="Where event ids are unique within an entity only."),
        ] = None,
    ) -> Response:  # fmt: skip
        """Return the newest decision on an event, and all of them in `items`.

        Several events have one id if their entities or contents differ. Repeats count only if nothing
        else is indexed.
        """
        return _json(decisions.of_event(event_id, entity_id))

    return routes


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
