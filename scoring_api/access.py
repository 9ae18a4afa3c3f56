"""Authentication and authorisation of requests by API key. Costs a request some microseconds."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from fastapi import Request
from fastapi.openapi.models import HTTPBearer as BearerScheme
from fastapi.security.base import SecurityBase
from starlette.datastructures import State

from fraud.runtime.metrics import KEYS_REFUSED
from fraud.security.api_keys import ApiKey, KeyStore, Role
from fraud.security.audit import Author
from fraud.security.principals import ANYONE, Principal, RateLimit

_SCHEME: Final = "bearer"


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


def author_of(principal: Principal, request: Request) -> Author:
    """Give who changes something by a request."""
    return Author(principal.actor("rest"), request_id(request))


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
