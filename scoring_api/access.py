"""Authentication and authorisation of requests by API key, in a few microseconds."""

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
    """The API key is missing or unknown; the message says which."""


class RoleNeeded(Exception):
    """The key's role does not cover the request.

    Attributes:
        role: Lowest role that does.
    """

    def __init__(self, role: Role) -> None:
        super().__init__(role.value)
        self.role = role


class Access:
    """Authenticates requests by API key.

    Args:
        keys: The API keys; None switches authentication off, and anyone may do anything.
        limit: Rate limit of each key.
    """

    def __init__(self, keys: KeyStore | None, limit: RateLimit) -> None:
        self.keys = keys
        self._limit = limit

    def admit(self, authorization: str | None) -> Principal:
        """Return the principal of an `Authorization` header, and count the request.

        Raises:
            NotAuthenticated: The API key is missing or unknown.
            RateLimited: The key is over its rate limit.
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
    """Return the principal of a request, authenticating it unless the guard already did.

    Raises:
        NotAuthenticated: The API key is missing or unknown.
        RateLimited: The key is over its rate limit.
    """
    state: State = request.state
    known: Principal | None = getattr(state, "principal", None)
    if known is None:
        access: Access = request.app.state.access
        known = access.admit(request.headers.get("authorization"))
        state.principal = known
    return known


def author_of(principal: Principal, request: Request) -> Author:
    """Return the author of a change by a request, for the audit log."""
    return Author(principal.actor("rest"), request_id(request))


def request_id(request: Request) -> str:
    """Return the id of a request in logs and in the audit log."""
    return str(request.state.request_id)


class _Require(SecurityBase):
    """Route dependency that requires a role; OpenAPI shows it as the scheme `bearer`."""

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
    """Return a dependency that requires at least this role and returns the `Principal`.

    Use `Depends(require(Role.ANALYST))` for a route, a router or an argument.
    """
    return _Require(role)
