"""`/v1/keys`: API keys and their roles."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from fraud.security.api_keys import ApiKey, KeyName, KeyStore, Role
from fraud.security.audit import AuditLog
from fraud.security.principals import Principal
from scoring_api.access import request_id, require
from scoring_api.documentation import problems
from scoring_api.idempotency import OnceRoute, idempotent, show_once

_Admin = Annotated[Principal, Depends(require(Role.ADMIN))]


class NewKey(BaseModel):
    """A request for a new key."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "checkout", "role": "score"}]}
    )

    name: KeyName
    role: Annotated[Role, Field(description="What it may do: score < analyst < admin.")]


class MadeKey(ApiKey):
    """A key that was just made, with its secret."""

    secret: Annotated[
        str,
        Field(
            description="To be sent as Authorization: Bearer. Shown this once; only its hash is kept."
        ),
    ]


class Keys(BaseModel):
    """All keys, the oldest first."""

    items: list[ApiKey]


def shown(key: ApiKey) -> dict[str, Any]:
    """Return what the audit log records of a key."""
    return key.model_dump(mode="json", include={"id", "name", "role"})


def key_routes(keys: KeyStore, audit: AuditLog) -> APIRouter:
    """Return the routes of API keys."""
    routes = APIRouter(
        prefix="/v1/keys", tags=["keys"], route_class=OnceRoute, responses=problems()
    )

    @routes.get("", summary="List the keys")
    def list_keys(_who: _Admin) -> Keys:
        """Return all keys, the oldest first, without their secrets."""
        return Keys(items=keys.all_keys())

    @routes.post(
        "",
        summary="Make a key",
        status_code=HTTPStatus.CREATED,
        responses=problems(409),
        dependencies=[Depends(idempotent)],
    )
    def create_key(new: NewKey, who: _Admin, request: Request) -> MadeKey:
        """Make a key. Its secret is shown in this answer only."""
        with audit.change(
            who.actor("rest"),
            "key.created",
            f"key/{new.name}",
            after=new.model_dump(mode="json"),
            request_id=request_id(request),
        ):
            key, secret = keys.create(new.name, new.role, who.name)
        # The answer has the secret, so it must not be kept for repeats.
        show_once(request)
        return MadeKey(**key.model_dump(), secret=secret)

    @routes.delete(
        "/{key_id}",
        summary="Revoke a key",
        status_code=HTTPStatus.NO_CONTENT,
        responses=problems(404, 409),
    )
    def revoke_key(key_id: str, who: _Admin, request: Request) -> None:
        """Revoke a key. Every process refuses it from the next request on."""
        key = keys.get(key_id)
        with audit.change(
            who.actor("rest"),
            "key.revoked",
            f"key/{key.name}",
            before=shown(key),
            request_id=request_id(request),
        ):
            keys.revoke(key_id)

    return routes
