"""The one table from an error to its HTTP answer (problem details, RFC 9457).

No answer holds a value of the request: it may be personal data.
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


def _not_authenticated(error: NotAuthenticated) -> Response:
    return _problem(
        HTTPStatus.UNAUTHORIZED,
        "not_authenticated",
        str(error),
        headers={"WWW-Authenticate": "Bearer"},
    )


def _role_needed(error: RoleNeeded) -> Response:
    return _problem(
        HTTPStatus.FORBIDDEN, "role_needed", f"expected an API key of role {error.role} or above"
    )


def _rate_limited(error: RateLimited) -> Response:
    return _problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"this API key asks too often, expected a pause of {error.retry_after_s} s",
        headers={"Retry-After": str(error.retry_after_s)},
    )


def _search_away(error: SearchAway) -> Response:
    return _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "search_away",
        f"OpenSearch does not answer: {error}",
        headers={"Retry-After": _RETRY_AFTER_S},
    )


def _foreign(_error: ForeignRequest) -> Response:
    return _problem(
        HTTPStatus.FORBIDDEN, "foreign_request", "expected a request of the page itself"
    )


def _not_published(_error: NotPublished) -> Response:
    return _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_published",
        "Kafka did not acknowledge it: send it again",
        headers={"Retry-After": _RETRY_AFTER_S},
    )


def _at_fault(field: str, code: str, detail: str) -> Callable[[Exception], Response]:
    return lambda _error: _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        detail,
        errors=[{"field": field, "code": code, "detail": detail}],
    )


def _not_found(what: str) -> Callable[[Exception], Response]:
    return lambda _error: _problem(HTTPStatus.NOT_FOUND, "not_found", f"there is no such {what}")


def _conflict(code: str, detail: str) -> Callable[[Exception], Response]:
    return lambda _error: _problem(HTTPStatus.CONFLICT, code, detail)


def _invalid_rules(error: InvalidRules) -> Response:
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_rules",
        str(error.problems[0]),
        errors=[
            {
                "field": f"rules.{one.rule}.{one.field}",
                "code": "invalid_rule",
                "detail": str(one),
                "line": one.line,
                "column": one.column,
            }
            for one in error.problems
        ],
    )


def _at_odds(error: Conflict | ModelError) -> Response:
    return _problem(HTTPStatus.CONFLICT, "conflict", str(error))


def _control_away(_error: Exception) -> Response:
    return _problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_published",
        "Kafka did not acknowledge the change, or it was not seen in time: look before sending it again",
        headers={"Retry-After": _RETRY_AFTER_S},
    )


_LONGEST_FIELD: Final = 100
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_UNNAMED: Final = "(a key)"
_MISSING: Final = "missing"
_NOT_JSON: Final = "json_invalid"


def _invalid_request(error: RequestValidationError) -> Response:
    found = [_request_fault(one) for one in error.errors()]
    if any(one["type"] == _NOT_JSON for one in error.errors()):
        return _problem(HTTPStatus.BAD_REQUEST, str(ErrorCode.NOT_JSON), "expected JSON in UTF-8")
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request" if len(found) > 1 else found[0]["code"],
        found[0]["detail"],
        errors=found,
    )


def _request_fault(error: dict[str, Any]) -> dict[str, Any]:
    """Name the field and what was expected; what pydantic says of it holds no value."""
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
    """Return a part of a field's name; a key that could be somebody's address or number is not repeated."""
    text = str(part)
    return text if isinstance(part, int) or _IDENTIFIER.fullmatch(text) else _UNNAMED


def _expected(error: dict[str, Any]) -> str:
    said: str = error["msg"]
    return said.replace("Input should be", "expected", 1).replace("Value error, ", "", 1)


_HTTP_CODES: Final = {
    # Of a body that FastAPI could not read.
    HTTPStatus.BAD_REQUEST: str(ErrorCode.NOT_JSON),
}


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    code = _HTTP_CODES.get(status, status.name.lower())
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
    NotAuthenticated: _not_authenticated,  # 401
    RoleNeeded: _role_needed,  # 403
    RateLimited: _rate_limited,  # 429
    RequestValidationError: _invalid_request,  # 400 when it is not JSON, 422 when a field is at fault
    InvalidRules: _invalid_rules,  # 422
    NoSuch: _not_found("list or version"),  # 404
    NoSuchModel: _not_found("model"),  # 404
    Conflict: _at_odds,  # 409
    ModelError: _at_odds,  # 409
    NoSuchRun: _not_found("dry run"),  # 404
    RunBusy: _conflict("busy", "a dry run is going on: wait until it is done"),  # 409
    CannotPublish: _control_away,  # 503
    PolicyUnread: _control_away,  # 503
    NoSuchKey: _not_found("key"),  # 404
    KeyNameTaken: _conflict("name_taken", "name: expected one that no other key has"),  # 409
    LastAdminKey: _conflict(
        "last_admin_key", "it is the last key of role admin: make another first"
    ),  # 409
    NoSuchDecision: _not_found("decision in the index"),  # 404
    InvalidCursor: _at_fault(
        "cursor", "out_of_range", "cursor: expected the next_cursor of a page"
    ),  # 422
    SearchAway: _search_away,  # 503
    NotPublished: _not_published,  # 503
    KeyReused: _at_fault(
        HEADER,
        "idempotency_key_reused",
        f"{HEADER}: expected a new one, it was used for another request",
    ),  # 422
    StillWorking: _conflict(
        "still_working", "the first request of this Idempotency-Key is not answered yet"
    ),  # 409
    ShownOnce: _conflict(
        "shown_once",
        "the first request of this Idempotency-Key was done, and its answer is not kept: it held a secret, or was sealed by a key that is gone",
    ),  # 409
    TooManyKeys: _conflict("too_many_keys", f"expected at most {MAX_KEYS} keys"),  # 409
    ForeignRequest: _foreign,  # 403
    HTTPException: _http,  # 404, 405
    Exception: _bug,  # 500
}


def answer(error: Exception) -> Response:
    """Return the answer to an error."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            return _ANSWERS[kind](error)
    raise TypeError(type(error))


def answer_errors(app: FastAPI) -> None:
    """Let the app answer each error as the table says."""

    async def handle(_request: Request, error: Exception) -> Response:
        return answer(error)

    for kind in _ANSWERS:
        app.add_exception_handler(kind, handle)
