"""The FastAPI app: scoring, probes and metrics, and the routers that `wiring.py` passes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fraud.security.api_keys import Role
from scoring_api.access import Access, require
from scoring_api.documentation import (
    ASSETS_PATH,
    DESCRIPTION,
    assets,
    components,
    documents,
    score_operation,
)
from scoring_api.errors import answer_errors
from scoring_api.guard import RequestGuard
from scoring_api.idempotency import Answers
from scoring_api.scoring import Scoring


def _score(scoring: Scoring) -> APIRouter:
    """Return the route that scores."""
    routes = APIRouter(prefix="/v1", tags=["scoring"], dependencies=[Depends(require(Role.SCORE))])

    @routes.post(
        "/score",
        response_class=Response,
        openapi_extra=score_operation(),
        summary="Score one transaction, or a list",
    )
    async def score(request: Request) -> Response:
        """Answer with the decision that the stream would make if the record came next. Nothing is stored."""
        return Response(await scoring.answer(await request.body()), media_type="application/json")

    return routes


def _open(scoring: Scoring) -> APIRouter:
    """Return the routes for probes and scrapers, which need no API key."""
    routes = APIRouter(tags=["operations"], default_response_class=PlainTextResponse)

    @routes.get("/health/live", summary="Whether the process answers")
    async def live() -> str:
        return "ok\n"

    @routes.get(
        "/health/ready",
        summary="Whether it scores as the stream does",
        responses={503: {"description": "One line that says what it waits for."}},
    )
    async def ready() -> Response:
        waiting = scoring.waits_for()
        return PlainTextResponse(f"{waiting or 'ok'}\n", 503 if waiting else 200)

    @routes.get("/metrics", summary="Metrics for Prometheus")
    def metrics() -> Response:  # in a thread: rendering takes a while
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return routes


def create_app(
    scoring: Scoring, access: Access, *more: APIRouter, answers: Answers | None = None
) -> FastAPI:
    """Return the app with all its routes.

    Args:
        scoring: Answers `POST /v1/score`.
        access: Authenticates requests; `require` in routes uses it.
        more: Further routers.
        answers: Answers kept by `Idempotency-Key`; routes of `OnceRoute` need them.
    """
    app = FastAPI(title="Fraudstream", docs_url=None, redoc_url=None)
    app.state.access = access
    app.state.answers = answers
    app.add_middleware(RequestGuard, access=access)
    answer_errors(app)
    app.include_router(_score(scoring))
    for routes in more:
        app.include_router(routes)
    app.include_router(_open(scoring))
    app.include_router(documents)
    app.mount(ASSETS_PATH, assets())
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        # Made on demand, when all routes are there.
        if not described:
            described.update(
                get_openapi(
                    title="Fraudstream", version="1", description=DESCRIPTION, routes=app.routes
                )
            )
            schemas = described.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(components())
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app
