"""Who asks, and whether they may: keys, roles, limits. Costs a request some microseconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from fastapi import Request
from fastapi.openapi.models import HTTPBearer as BearerScheme
from fastapi.security.base import SecurityBase
from starlette.datastructures import State

from fraud.policy.audited_editor import By
from fraud.runtime.metrics import KEYS_REFUSED, RATE_LIMITED
from fraud.security.api_keys import ApiKey, KeyStore, Role
from fraud.security.audit import Actor

_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: Of the key; `anyone` when keys are switched off.
        role: What they may do.
        key_id: None when keys are switched off.
    """

    name: str
    role: Role
    key_id: str | None = None

    @property
    def actor(self) -> Actor:
        """Who they are in the audit log."""
        return Actor(name=self.name, key_id=self.key_id, role=self.role.value, via="rest")


ANYONE: Final = Principal("anyone", Role.ADMIN)
"""Who asks when keys are switched off."""


class NotAuthenticated(Exception):
    """No key, or none that there is; the text says which."""


class RoleNeeded(Exception):
    """The key's role does not cover this.

    Attributes:
        role: The least that does.
    """

    def __init__(self, role: Role) -> None:
        super().__init__(role.value)
        self.role = role


class RateLimited(Exception):
    """The key asks too often.

    Attributes:
        retry_after_s: Whole seconds until it may ask again, at least 1.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RateLimit:
    """So many requests a second of each key, as a bucket that holds a second's worth.

    Args:
        per_s: Requests a second; 0 is no limit.
        monotonic_s: Seconds that only go forward.
    """

    def __init__(self, per_s: int, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._monotonic_s = monotonic_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> None:
        """Count a request.

        Raises:
            RateLimited: There were too many.
        """
        if not self._per_s:
            return
        now_s = self._monotonic_s()
        left, at_s = self._left.get(key_id, (float(self._per_s), now_s))
        left = min(float(self._per_s), left + (now_s - at_s) * self._per_s)
        if left < 1:
            self._left[key_id] = (left, now_s)
            RATE_LIMITED.labels(key_id).inc()
            raise RateLimited(max(1, math.ceil((1 - left) / self._per_s)))
        self._left[key_id] = (left - 1, now_s)


class Access:
    """Finds out who asks.

    Args:
        keys: The keys there are; None switches them off, and anyone may do anything.
        limit: How often a key may ask.
    """

    def __init__(self, keys: KeyStore | None, limit: RateLimit) -> None:
        self.keys = keys
        self._limit = limit

    def admit(self, authorization: str | None) -> Principal:
        """Give who sends a header `Authorization`, and count their request.

        Raises:
            NotAuthenticated: See there.
            RateLimited: See there.
        """
        if self.keys is None:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != _SCHEME or not token.strip():
            KEYS_REFUSED.labels("missing_key").inc()
            raise NotAuthenticated("expected a header Authorization: Bearer <API key>")
        key: ApiKey | None = self.keys.find(token.strip())
        if key is None:
            KEYS_REFUSED.labels("unknown_key").inc()
            raise NotAuthenticated("expected an API key that is in use")
        self._limit.take(key.id)
        return Principal(key.name, key.role, key.id)


def admitted(request: Request) -> Principal:
    """Give who asks; they were admitted by the guard, or are now.

    Raises:
        NotAuthenticated: See there.
        RateLimited: See there.
    """
    state: State = request.state
    known: Principal | None = getattr(state, "principal", None)
    if known is None:
        access: Access = request.app.state.access
        known = access.admit(request.headers.get("authorization"))
        state.principal = known
    return known


def by(principal: Principal, request: Request) -> By:
    """Give who changes something by a request."""
    return By(principal.actor, request_id(request))


def request_id(request: Request) -> str:
    """Return the id by which logs and the audit log call this request."""
    return str(request.state.request_id)


class _Require(SecurityBase):
    """A dependency of routes; OpenAPI shows it as the scheme `bearer`."""

    def __init__(self, role: Role) -> None:
        self.model = BearerScheme(description="An API key, see docs/api.md.")
        self.scheme_name = _SCHEME
        self._role = role

    async def __call__(self, request: Request) -> Principal:
        principal = admitted(request)
        if not principal.role.covers(self._role):
            KEYS_REFUSED.labels("role").inc()
            raise RoleNeeded(self._role)
        return principal


@cache
def require(role: Role) -> Any:
    """Make a dependency that admits keys of at least this role, and gives the `Principal`.

    `Depends(require(Role.ANALYST))`, of a route, a router or an argument.
    """
    return _Require(role)
