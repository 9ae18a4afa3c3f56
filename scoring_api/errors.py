"""HTTP answers to errors, in one table, as problem details (RFC 9457).

No answer repeats a value of the request, which may be personal data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fraud.contracts.errors import ErrorCode, InvalidMessage, NotReady
from fraud.decision.rule_sets import InvalidRules
from fraud.kafka.async_producer import NotPublished
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import Conflict, NoSuch
from fraud.policy.follower import PolicyUnread
from fraud.security.api_keys import MAX_KEYS, KeyNameTaken, LastAdminKey, NoSuchKey, TooManyKeys
from fraud.security.principals import RateLimited
from model.registry import ModelError, NoSuchModel
from scoring_api.access import NotAuthenticated, RoleNeeded
from scoring_api.decisions import InvalidCursor, NoSuchDecision, SearchAway
from scoring_api.documentation import MANY, ONE, PROBLEM_TYPE
from scoring_api.dry_runs import NoSuchRun, RunBusy
from scoring_api.idempotency import HEADER, KeyReused, ShownOnce, StillWorking
from scoring_api.live.session import ForeignRequest
from scoring_api.scoring import (
    MAX_RECORDS,
    InvalidRecords,
    TooLarge,
    TooManyRecords,
)

_RETRY_LATER: Final = {"Retry-After": "2"}
_CONTROL_AWAY: Final = (
    "Kafka did not acknowledge the change, or it was not seen in time: look before sending it again"
)
_Answer = Callable[[Any], Response]

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


def _respond(
    status: int,
    code: str,
    detail: str | Callable[[Any], str],
    *,
    headers: dict[str, str] | None = None,
) -> _Answer:
    """Return a function that answers errors without further fields; 503 says when to retry."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = _RETRY_LATER
    return lambda error: _problem(
        HTTPStatus(status),
        code,
        detail if isinstance(detail, str) else detail(error),
        headers=headers,
    )


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


def _rate_limited(error: RateLimited) -> Response:
    return _problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"this API key asks too often, expected a pause of {error.retry_after_s} s",
        headers={"Retry-After": str(error.retry_after_s)},
    )


def _at_fault(field: str, code: str, detail: str) -> _Answer:
    return lambda _error: _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        detail,
        errors=[{"field": field, "code": code, "detail": detail}],
    )


def _invalid_rules(error: InvalidRules) -> Response:
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_rules",
        str(error.problems[0]),
        errors=[
            {
                "field": f"rules.{problem.rule}.{problem.field}",
                "code": "invalid_rule",
                "detail": str(problem),
                "line": problem.line,
                "column": problem.column,
            }
            for problem in error.problems
        ],
    )


_LONGEST_FIELD: Final = 100
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_UNNAMED: Final = "(a key)"
_MISSING: Final = "missing"
_NOT_JSON: Final = "json_invalid"


def _invalid_request(error: RequestValidationError) -> Response:
    found = [_request_fault(fault) for fault in error.errors()]
    if any(fault["type"] == _NOT_JSON for fault in error.errors()):
        return _problem(HTTPStatus.BAD_REQUEST, str(ErrorCode.NOT_JSON), "expected JSON in UTF-8")
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request" if len(found) > 1 else found[0]["code"],
        found[0]["detail"],
        errors=found,
    )


def _request_fault(error: dict[str, Any]) -> dict[str, Any]:
    """Return the field and what was expected; messages of pydantic do not repeat values."""
    parts = [part for part in error["loc"][1:] if part not in (ONE, MANY)]
    index = {"index": parts.pop(0)} if parts and isinstance(parts[0], int) else {}
    where = ".".join(map(_plain, parts))[:_LONGEST_FIELD] or None
    kind: str = error["type"]
    if kind == _MISSING:
        code, detail = ErrorCode.MISSING_FIELD, "expected a value, it is missing"
    elif kind.endswith(("_type", "_parsing", "_attributes_type")):
        code, detail = ErrorCode.WRONG_TYPE, _expected(error)
    else:
        code, detail = ErrorCode.OUT_OF_RANGE, _expected(error)
    return index | {"field": where, "code": str(code), "detail": f"{where or 'body'}: {detail}"}


def _plain(part: str | int) -> str:
    """Return a part of a field's path; a key that may be personal data is replaced."""
    text = str(part)
    return text if isinstance(part, int) or _IDENTIFIER.fullmatch(text) else _UNNAMED


def _expected(error: dict[str, Any]) -> str:
    said: str = error["msg"]
    return said.replace("Input should be", "expected", 1).replace("Value error, ", "", 1)


_HTTP_CODES: Final = {
    # FastAPI could not read the body.
    HTTPStatus.BAD_REQUEST: str(ErrorCode.NOT_JSON),
}


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    code = _HTTP_CODES.get(status, status.name.lower())
    return _problem(status, code, status.description or status.phrase, headers=error.headers)  # type: ignore[arg-type]


_ANSWERS: Final[dict[type[Exception], _Answer]] = {
    InvalidMessage: _invalid,  # 400 when it cannot be read, 422 when a field is at fault
    InvalidRecords: _invalid_records,  # 422
    TooManyRecords: _respond(
        422, "too_many_records", f"expected at most {MAX_RECORDS} records, none was scored"
    ),
    TooLarge: _respond(413, "too_large", lambda error: f"expected at most {error.limit} bytes"),
    NotReady: _respond(503, "not_ready", lambda error: f"waiting for {error}"),
    NotAuthenticated: _respond(
        401, "not_authenticated", str, headers={"WWW-Authenticate": "Bearer"}
    ),
    RoleNeeded: _respond(
        403, "role_needed", lambda error: f"expected an API key of role {error.role} or above"
    ),
    RateLimited: _rate_limited,  # 429
    RequestValidationError: _invalid_request,  # 400 when it is not JSON, 422 when a field is at fault
    InvalidRules: _invalid_rules,  # 422
    NoSuch: _respond(404, "not_found", "there is no such list or version"),
    NoSuchModel: _respond(404, "not_found", "there is no such model"),
    Conflict: _respond(409, "conflict", str),
    ModelError: _respond(409, "conflict", str),
    NoSuchRun: _respond(404, "not_found", "there is no such dry run"),
    RunBusy: _respond(409, "busy", "a dry run is going on: wait until it is done"),
    CannotPublish: _respond(503, "not_published", _CONTROL_AWAY),
    PolicyUnread: _respond(503, "not_published", _CONTROL_AWAY),
    NoSuchKey: _respond(404, "not_found", "there is no such key"),
    KeyNameTaken: _respond(409, "name_taken", "name: expected one that no other key has"),
    LastAdminKey: _respond(
        409, "last_admin_key", "it is the last key of role admin: make another first"
    ),
    NoSuchDecision: _respond(404, "not_found", "there is no such decision in the index"),
    InvalidCursor: _at_fault(
        "cursor", "out_of_range", "cursor: expected the next_cursor of a page"
    ),
    SearchAway: _respond(503, "search_away", lambda error: f"OpenSearch does not answer: {error}"),
    NotPublished: _respond(503, "not_published", "Kafka did not acknowledge it: send it again"),
    KeyReused: _at_fault(
        HEADER,
        "idempotency_key_reused",
        f"{HEADER}: expected a new one, it was used for another request",
    ),
    StillWorking: _respond(
        409, "still_working", "the first request of this Idempotency-Key is not answered yet"
    ),
    ShownOnce: _respond(
        409,
        "shown_once",
        "the first request of this Idempotency-Key was done, and its answer is not kept: it held a secret, or was sealed by a key that is gone",
    ),
    TooManyKeys: _respond(409, "too_many_keys", f"expected at most {MAX_KEYS} keys"),
    ForeignRequest: _respond(403, "foreign_request", "expected a request of the page itself"),
    HTTPException: _http,  # 404, 405
    # The server logs it, with its traceback.
    Exception: _respond(500, "internal_error", "something failed that should not have"),
}


def answer(error: Exception) -> Response:
    """Return the answer to an error."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            return _ANSWERS[kind](error)
    raise TypeError(type(error))


def answer_errors(app: FastAPI) -> None:
    """Register the answers of the table as the app's exception handlers."""

    async def handle(_request: Request, error: Exception) -> Response:
        return answer(error)

    for kind in _ANSWERS:
        app.add_exception_handler(kind, handle)
