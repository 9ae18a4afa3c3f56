"""What an operation is."""

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
"""Answers a checked request of somebody whose role was found to do."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that we have.

    Attributes:
        role: The least that may call it.
        handle: Answers it.
    """

    role: Role
    handle: Handler


def author_of(caller: Principal) -> Author:
    """Give who changes something by a call."""
    return Author(caller.actor("afd"), structlog.contextvars.get_contextvars().get("request_id"))


def in_a_thread(handle: Callable[[Request, Principal], Answer]) -> Handler:
    """Let a handler that waits for others wait in a thread of its own."""

    async def handled(request: Request, caller: Principal) -> Answer:
        return await run_in_threadpool(handle, request, caller)

    return handled
