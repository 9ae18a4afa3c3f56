"""`/live`: the page, its files, its session, its data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.exceptions import HTTPException

from fraud.contracts.transaction import MAX_ID_LENGTH
from scoring_api.live.board import MAX_ALERTS, Board, PageFilters, describe
from scoring_api.live.session import Sessions

_MAX_KEY: Final = 256
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_PRIVATE: Final = {"Cache-Control": "no-store"}
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_PAGE: Final = "live.html"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    tag: str


def _assets() -> dict[str, _File]:
    """Return the page's files by name, vendored ones included."""
    folder = files("scoring_api.live") / "assets"
    found = {}
    for place in (folder, folder / "vendor"):
        for file in place.iterdir():
            suffix = "." + file.name.rpartition(".")[2]
            if file.is_file() and suffix in _TYPES:
                content = file.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                found[file.name] = _File(content, _TYPES[suffix], tag)
    return found


class SignIn(BaseModel):
    """A request to sign in."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[SecretStr, Field(min_length=1, max_length=_MAX_KEY)]


class Event(BaseModel):
    """A request for the decision on an event."""

    model_config = ConfigDict(extra="forbid")

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _json(content: Any) -> Response:
    return _Json(content, headers=_PRIVATE)


def live_routes(board: Board, sessions: Sessions) -> APIRouter:
    """Return the routes of the live page.

    Args:
        board: Reads the data from OpenSearch.
        sessions: Opens and checks sessions.
    """
    routes = APIRouter(prefix="/live", include_in_schema=False)
    served = _assets()
    described = describe()

    def file(request: Request, name: str) -> Response:
        found = served[name]
        # Browsers keep files but ask each time, so that an update shows at once.
        headers = {"ETag": found.tag, "Cache-Control": "no-cache", **_HEADERS}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(found.content, media_type=found.kind, headers=headers)

    async def signed_in(request: Request) -> None:
        sessions.who(request)

    analysts = [Depends(signed_in)]

    @routes.get("")
    async def page(request: Request) -> Response:
        """Return the page, which is public as it holds no data."""
        return file(request, _PAGE)

    @routes.get("/assets/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in served or name == _PAGE:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return file(request, name)

    @routes.get("/session")
    async def session(request: Request) -> Response:
        """Return who is signed in, and the panels to draw."""
        who = sessions.who(request)
        about = {"name": who.name, "role": who.role, "needs_key": sessions.needs_key}
        return _json({**about, "panels": described})

    @routes.post("/session")
    async def sign_in(request: Request, form: SignIn) -> Response:
        response = Response(status_code=HTTPStatus.NO_CONTENT, headers=_PRIVATE)
        sessions.open(request, response, form.key.get_secret_value())
        return response

    @routes.delete("/session")
    async def sign_out(request: Request) -> Response:
        response = Response(status_code=HTTPStatus.NO_CONTENT, headers=_PRIVATE)
        sessions.close(request, response)
        return response

    # Not async: these wait for OpenSearch, so they run in threads beside the loop that scores.

    @routes.post("/panels", dependencies=analysts)
    def panels(filters: PageFilters) -> Response:
        return _json(board.panels(filters))

    @routes.post("/alerts", dependencies=analysts)
    def alerts(
        filters: PageFilters, size: Annotated[int, Query(ge=1, le=MAX_ALERTS)] = 50
    ) -> Response:
        return _json(board.alerts(filters, size))

    @routes.get("/decisions/{decision_id}", dependencies=analysts)
    def decision(decision_id: Annotated[str, Path(max_length=512)]) -> Response:
        return _json(board.decision(decision_id))

    @routes.post("/event", dependencies=analysts)
    def event(wanted: Event) -> Response:
        return _json(board.decision_of_event(wanted.event_id))

    return routes
