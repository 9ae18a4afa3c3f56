"""Sessions of the live page: a signed cookie in place of the API key that opened it."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from fraud.security.api_keys import NoSuchKey, Role
from fraud.security.principals import ANYONE, Principal
from scoring_api.access import Access, NotAuthenticated, RoleNeeded

COOKIE: Final = "fraudstream_session"
ROLE: Final = Role.ANALYST
"""Lowest role that may see the page: decisions are personal data, which scoring need not read."""

MAX_AGE_S: Final = 12 * 3600
_SALT: Final = "live page"
_OURS: Final = frozenset({"same-origin", "none"})


class ForeignRequest(Exception):
    """A page of another site sent the request in the user's name."""


class Sessions:
    """Opens and checks sessions.

    A session holds only the id of its key, so it ends when the key is revoked, or by its age.

    Args:
        access: Authenticates API keys.
        secret: Signs the cookies; a new secret ends all sessions.
    """

    def __init__(self, access: Access, secret: bytes) -> None:
        self._access = access
        self._signer = URLSafeTimedSerializer(secret, salt=_SALT)

    @property
    def needs_key(self) -> bool:
        """Whether users have to sign in."""
        return self._access.keys is not None

    def open(self, request: Request, response: Response, key: str) -> Principal:
        """Check an API key and set the session's cookie in the response.

        Raises:
            ForeignRequest: A page of another site sent the request.
            NotAuthenticated: The key is unknown.
            RateLimited: The key is over its rate limit.
            RoleNeeded: The key's role may not see decisions.
        """
        refuse_foreign(request)
        who = self._access.admit(f"Bearer {key}")
        if not who.role.covers(ROLE):
            raise RoleNeeded(ROLE)
        # Without API keys a session is not needed.
        if who.key_id is not None:
            # No path: the browser takes the folder of this request, also behind a proxy's path.
            response.set_cookie(
                COOKIE,
                self._signer.dumps(who.key_id),
                max_age=MAX_AGE_S,
                path=None,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="strict",
            )
        return who

    def close(self, request: Request, response: Response) -> None:
        """Delete the session's cookie from the browser.

        Raises:
            ForeignRequest: A page of another site sent the request.
        """
        refuse_foreign(request)
        response.set_cookie(COOKIE, "", max_age=0, path=None, httponly=True, samesite="strict")

    def who(self, request: Request) -> Principal:
        """Return the principal of a request's session.

        Raises:
            ForeignRequest: A page of another site sent the request.
            NotAuthenticated: The session is missing or has expired, or its key was revoked.
            RoleNeeded: The key's role may not see decisions.
        """
        refuse_foreign(request)
        keys = self._access.keys
        if keys is None:
            return ANYONE
        try:
            key = keys.get(self._signer.loads(request.cookies.get(COOKIE, ""), max_age=MAX_AGE_S))
        except (BadSignature, NoSuchKey):
            raise NotAuthenticated("expected a session: sign in with an API key") from None
        if not key.role.covers(ROLE):
            raise RoleNeeded(ROLE)
        return Principal(key.name, key.role, key.id)


def refuse_foreign(request: Request) -> None:
    """Refuse a request that a page of another site sent, by the header that browsers set.

    It is a second defence: the cookie is not sent then (SameSite), and JSON bodies need permission
    (CORS). Clients that do not set the header pass.

    Raises:
        ForeignRequest: A page of another site sent the request.
    """
    if request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise ForeignRequest
