"""Middleware that assigns request ids, limits body sizes, and checks API keys under `/v1`.

It runs before FastAPI, which would read the whole body before it authenticates the caller.
"""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud.security.principals import RateLimited
from scoring_api.access import Access, NotAuthenticated
from scoring_api.errors import answer
from scoring_api.scoring import MAX_BODY_BYTES, MAX_SIGN_IN_BYTES, TooLarge

REQUEST_ID: Final = "X-Request-ID"
_HEADER: Final = REQUEST_ID.lower().encode()
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_GUARDED: Final = "/v1/"
_SIGN_IN: Final = "/live/session"


class _BodyTooLarge(TooLarge, HTTPException):
    """A body of undeclared length is too long. FastAPI would answer other exceptions with 400."""

    def __init__(self, limit: int) -> None:
        HTTPException.__init__(self, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.limit = limit


class RequestGuard:
    """ASGI middleware that checks requests before the app reads them.

    Args:
        app: The next ASGI app.
        access: Authenticates requests.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(headers)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        named = (_HEADER, request_id.encode())

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], named]
            await send(message)

        try:
            if scope["path"].startswith(_GUARDED):
                state["principal"] = self._access.admit(headers.get("authorization"))
            most = MAX_SIGN_IN_BYTES if scope["path"] == _SIGN_IN else MAX_BODY_BYTES
            # A declared length is refused before the body is read, any other while it is read.
            declared = headers.get("content-length", "")
            if declared.isdecimal() and _is_over(declared, most):
                raise TooLarge(most)
        except (NotAuthenticated, RateLimited, TooLarge) as error:
            await answer(error)(scope, receive, send_named)
            return
        await self._app(scope, _limited(receive, most), send_named)


def _is_over(number: str, limit: int) -> bool:
    """Return whether a number is over a limit; Python does not parse over 4,300 digits."""
    digits = number.lstrip("0")
    return len(digits) > len(str(limit)) or int(digits or "0") > limit


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID)
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


def _limited(receive: Receive, most: int) -> Receive:
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > most:
                raise _BodyTooLarge(most)
        return message

    return limited
