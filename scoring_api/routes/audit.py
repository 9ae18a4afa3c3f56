"""`/v1/audit`: who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from fraud.security.api_keys import Role
from fraud.security.audit import AuditLog, AuditRecord
from scoring_api.access import require
from scoring_api.documentation import problems


class AuditPage(BaseModel):
    """A page of audit records, the newest first."""

    items: list[AuditRecord]
    next_cursor: Annotated[
        str | None, Field(description="Gives the next page; null if this is the last.")
    ]


def audit_routes(audit: AuditLog) -> APIRouter:
    """Return the routes of the audit log."""
    routes = APIRouter(
        prefix="/v1/audit",
        tags=["audit"],
        dependencies=[Depends(require(Role.ADMIN))],
        responses=problems(),
    )

    @routes.get("", summary="Read the audit log")
    def read_audit(
        limit: Annotated[int, Query(ge=1, le=1000, description="Most records.")] = 100,
        cursor: Annotated[
            str | None,
            Query(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before."),
        ] = None,
    ) -> AuditPage:
        """Return changes of keys, rules, lists, models and labels, the newest first."""
        records, go_on = audit.page(limit, None if cursor is None else int(cursor))
        return AuditPage(items=records, next_cursor=None if go_on is None else str(go_on))

    return routes
