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
"""The least that may look: decisions are personal data, and a key that scores need not read them."""

MAX_AGE_S: Final = 12 * 3600
_SALT: Final = "live page"
_OURS: Final = frozenset({"same-origin", "none"})


class ForeignRequest(Exception):
    """Another site's page asks in the user's name."""


class Sessions:
    """Opens sessions, and says who comes with one.

    A session holds the id of its key and nothing else, so it ends with the key, and with its age.

    Args:
        access: Finds out whose key it is.
        secret: Signs the cookies; another one ends all sessions.
    """

    def __init__(self, access: Access, secret: bytes) -> None:
        self._access = access
        self._signer = URLSafeTimedSerializer(secret, salt=_SALT)

    @property
    def needs_key(self) -> bool:
        """Whether one has to sign in."""
        return self._access.keys is not None

    def open(self, request: Request, response: Response, key: str) -> Principal:
        """Check a key and put the session into the response.

        Raises:
            ForeignRequest: See there.
            NotAuthenticated: There is no such key.
            RateLimited: It was tried too often.
            RoleNeeded: It may not look at decisions.
        """
        refuse_foreign(request)
        who = self._access.admit(f"Bearer {key}")
        if not who.role.covers(ROLE):
            raise RoleNeeded(ROLE)
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
        """Take the session out of the browser.

        Raises:
            ForeignRequest: See there.
        """
        refuse_foreign(request)
        response.set_cookie(COOKIE, "", max_age=0, path=None, httponly=True, samesite="strict")

    def who(self, request: Request) -> Principal:
        """Give who comes with the session of a request.

        Raises:
            ForeignRequest: See there.
            NotAuthenticated: There is no session, it ended, or its key was revoked.
            RoleNeeded: The key may not look at decisions.
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
    """Refuse what another site's page sends; browsers say whose page it is, other clients nothing.

    The cookie is not sent then anyway (SameSite), and bodies are JSON, which such a page cannot
    send without being asked; this holds where an older browser knows neither.

    Raises:
        ForeignRequest: See there.
    """
    if request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise ForeignRequest
