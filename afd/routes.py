"""`POST /`: answers calls of the AFD protocol, which is AWS JSON 1.1 over HTTP."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from afd.errors import (
    AccessDeniedException,
    AfdError,
    InternalServerException,
    SerializationException,
    ThrottlingException,
    UnknownOperationException,
    ValidationException,
    invalid,
)
from afd.events import PAGE
from afd.operations import Operation
from afd.protocol import CONTENT_TYPE, TARGET_PREFIX, check_request, operations
from afd.signature import Headers, SignedCall, check_claim, verify
from fraud.contracts.errors import NotReady
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.metrics import AFD_CALLS
from fraud.security.aws_credentials import AwsCredentials
from fraud.security.principals import ANYONE, Principal, RateLimit, RateLimited

_NONE: Final = "none"
_FRAMES: Final = 8

_log = structlog.get_logger("scoring_api")


class CallDispatcher:
    """Authenticates calls and passes them to their operations.

    Args:
        operations: Supported operations by name.
        credentials: The access keys; None switches authentication off.
        limit: Rate limit of each access key.
        clock: Returns the current time, UTC epoch milliseconds.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        credentials: AwsCredentials | None,
        limit: RateLimit,
        clock: Clock = system_clock,
    ) -> None:
        self._operations = operations
        self._credentials = credentials
        self._limit = limit
        self._clock = clock

    def check_claim(self, headers: Headers) -> None:
        """Check that a call names a known access key, before its body is read.

        Raises:
            AfdError: The call is not signed, or its access key is unknown.
        """
        if self._credentials is not None:
            check_claim(headers, self._credentials.find)

    async def answer(self, call: SignedCall, target: str) -> dict[str, Any]:
        """Authenticate a call and return its answer.

        Raises:
            AfdError: The call is refused, or it failed.
        """
        principal = self._admitted(call)
        name = target.removeprefix(TARGET_PREFIX)
        if not target.startswith(TARGET_PREFIX) or name not in operations():
            raise UnknownOperationException(
                "The requested operation is not recognized by the service."
            )
        operation = self._operations.get(name)
        if operation is None:
            raise ValidationException(f"{name} has nothing of ours that it maps to, see {PAGE}")
        if not principal.role.covers(operation.role):
            raise AccessDeniedException(
                f"User: {principal.name} is not authorized to perform: frauddetector:{name}; it needs the role {operation.role}"
            )
        try:
            body = orjson.loads(call.body or b"{}")
        except orjson.JSONDecodeError:
            raise SerializationException("expected a JSON object in UTF-8") from None
        try:
            return await operation.handle(check_request(name, body), principal)
        except NotReady as waiting:
            raise InternalServerException(f"not ready: waiting for {waiting}") from None
        except ValidationError as error:
            raise invalid(error) from None

    def _admitted(self, call: SignedCall) -> Principal:
        if self._credentials is None:
            return ANYONE
        credential = verify(call, self._credentials.find, now_ms=self._clock())
        try:
            self._limit.take(credential.access_key_id)
        except RateLimited:
            raise ThrottlingException("Rate exceeded") from None
        return Principal(credential.profile, credential.role, credential.access_key_id)


def afd_routes(guard: CallDispatcher) -> APIRouter:
    """Return the protocol's route. OpenAPI leaves it out: AWS publishes a model of its own."""
    routes = APIRouter(include_in_schema=False)

    @routes.post("/")
    async def afd(request: Request) -> Response:
        target = request.headers.get("x-amz-target", "")
        name = target.removeprefix(TARGET_PREFIX)
        code = "ok"
        try:
            guard.check_claim(request.headers.raw)
            call = SignedCall(
                request.method,
                request.scope.get("raw_path", b"/").decode("latin-1"),
                request.scope["query_string"].decode("latin-1"),
                request.headers.raw,
                await request.body(),
            )
            response = _response(request, await guard.answer(call, target), HTTPStatus.OK)
        except AfdError as error:
            response, code = _error(request, error), error.code
        except HTTPException:
            raise  # the body is too long, which the guard answers
        except Exception as bug:
            # Only the type and the place are logged: the message may hold values of the request.
            _log.error(
                "scoring_api.afd_call_failed",
                operation=name[:64],
                error=type(bug).__name__,
                at=_place(bug),
            )
            failure = InternalServerException("something failed that should not have")
            response, code = _error(request, failure), failure.code
        AFD_CALLS.labels(name if name in operations() else _NONE, code).inc()
        return response

    return routes


def _place(bug: Exception) -> list[str]:
    frames = traceback.extract_tb(bug.__traceback__)[-_FRAMES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _error(request: Request, error: AfdError) -> Response:
    response = _response(request, {"__type": error.code, "message": error.message}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response


def _response(request: Request, body: Mapping[str, Any], status: int) -> Response:
    response = Response(orjson.dumps(body), status, media_type=CONTENT_TYPE)
    response.headers["x-amzn-RequestId"] = str(request.state.request_id)
    return response
