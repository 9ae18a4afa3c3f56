"""Operations of the AFD protocol and their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from fraud.security.api_keys import Role
from fraud.security.audit import Author
from fraud.security.principals import Principal

Request = Mapping[str, Any]
Answer = dict[str, Any]
Handler = Callable[[Request, Principal], Awaitable[Answer]]
"""Answers a request that was checked, of a caller whose role covers the operation."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that Fraudstream supports.

    Attributes:
        role: Lowest role that may call the operation.
        handle: Answers a call.
    """

    role: Role
    handle: Handler


def author_of(caller: Principal) -> Author:
    """Return the author of a change that a caller makes, for the audit log."""
    return Author(caller.actor("afd"), structlog.contextvars.get_contextvars().get("request_id"))


def in_a_thread(handle: Callable[[Request, Principal], Answer]) -> Handler:
    """Wrap a blocking handler so that it runs in a thread pool."""

    async def handled(request: Request, caller: Principal) -> Answer:
        return await run_in_threadpool(handle, request, caller)

    return handled
