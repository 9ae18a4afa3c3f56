"""The one table from an error to its HTTP answer (problem details, RFC 9457).

No answer holds a value of the request: it may be personal data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from fraud.contracts.errors import ErrorCode, InvalidMessage
from scoring_api.scoring import (
    MAX_RECORDS,
    InvalidRecords,
    NotReady,
    TooLarge,
    TooManyRecords,
)

PROBLEM_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = "2"

_UNREADABLE: Final = frozenset({ErrorCode.NULL_VALUE, ErrorCode.EMPTY_VALUE, ErrorCode.NOT_JSON})


def _problem(
    status: HTTPStatus, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:  # fmt: skip
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": code,
        "detail": detail,
        **more,
    }
    return Response(orjson.dumps(body), status, headers, PROBLEM_TYPE)


def _fault(verdict: InvalidMessage) -> dict[str, Any]:
    return {"field": verdict.field, "code": str(verdict.reason), "detail": verdict.detail}


def _invalid(error: InvalidMessage) -> Response:
    if error.reason in _UNREADABLE:
        return _problem(HTTPStatus.BAD_REQUEST, str(error.reason), error.detail)
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, str(error.reason), error.detail, errors=[_fault(error)]
    )


def _invalid_records(error: InvalidRecords) -> Response:
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_records",
        f"{len(error.verdicts)} of the records are invalid, none was scored",
        errors=[{"index": index} | _fault(verdict) for index, verdict in error.verdicts],
    )


def _too_many(_error: TooManyRecords) -> Response:
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "too_many_records",
        f"expected at most {MAX_RECORDS} records, none was scored",
    )


def _too_large(error: TooLarge) -> Response:
    return _problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"expected at most {error.limit} bytes"
    )


def _not_ready(error: NotReady) -> Response:
    return _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_ready",
        f"waiting for {error}",
        headers={"Retry-After": _RETRY_AFTER_S},
    )


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    code = status.name.lower()
    return _problem(status, code, status.description or status.phrase, headers=error.headers)  # type: ignore[arg-type]


def _bug(_error: Exception) -> Response:
    # The server logs it, with its traceback.
    return _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "something failed that should not have"
    )


_ANSWERS: Final[dict[type[Exception], Callable[[Any], Response]]] = {
    InvalidMessage: _invalid,  # 400 when it cannot be read, 422 when a field is at fault
    InvalidRecords: _invalid_records,  # 422
    TooManyRecords: _too_many,  # 422
    TooLarge: _too_large,  # 413
    NotReady: _not_ready,  # 503
    HTTPException: _http,  # 404, 405
    Exception: _bug,  # 500
}


def answer_errors(app: FastAPI) -> None:
    """Let the app answer each error as the table says."""
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, _handler(answer))


def _handler(
    answer: Callable[[Any], Response],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_request: Request, error: Exception) -> Response:
        return answer(error)

    return handle
