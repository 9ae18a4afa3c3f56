"""`/v1/lists`: lists and their entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fraud.contracts.lists import (
    LIST_NAME,
    MAX_VALUE,
    KeptEntry,
    ListEntry,
    ListState,
    ListType,
    ListUse,
)
from fraud.contracts.versions import shown
from fraud.policy.editor import EditorOf, NoSuch
from fraud.policy.state import PolicyState
from fraud.runtime.clock import to_datetime
from fraud.security.api_keys import Role
from fraud.security.principals import Principal
from scoring_api.access import author_of, require
from scoring_api.decisions import InvalidCursor
from scoring_api.documentation import problems
from scoring_api.idempotency import OnceRoute, idempotent

MAX_CHANGE = 100_000
"""Most entries of one request; its body has 16 MiB at most."""

_PAGE = 1_000
_CURSOR = 2_000

_Analyst = Annotated[Principal, Depends(require(Role.ANALYST))]


class NewList(BaseModel):
    """A request for a new list."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "bad_networks", "type": "ip", "use": "block"}]},
    )

    name: Annotated[str, Field(pattern=LIST_NAME)]
    type: Annotated[ListType, Field(description="What it is of.")]
    use: Annotated[ListUse, Field(description="What being on it means.")] = ListUse.REFERENCE
    description: Annotated[str, Field(max_length=1_000)] = ""


class ListChanges(BaseModel):
    """Changes to a list's use or description."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"use": "watch"}]})

    use: Annotated[ListUse | None, Field(description="What being on it means from now on.")] = None
    description: Annotated[
        str | None, Field(max_length=1_000, description="Left as it is if null or left out.")
    ] = None


class AList(BaseModel):
    """A list without its entries."""

    name: str
    type: ListType
    use: ListUse
    description: str
    version: Annotated[str, Field(description="Names its state; decisions name it, too.")]
    entries: Annotated[int, Field(description="How many there are, those that expired among them.")]


class Lists(BaseModel):
    """All lists, sorted by name."""

    items: list[AList]


class Entry(BaseModel):
    """An entry of a list, with its author."""

    value: str
    source: str | None
    reason: str | None
    expires_at: AwareDatetime | None
    author: str
    added_at: AwareDatetime


class EntryPage(BaseModel):
    """A page of entries, sorted by value."""

    items: list[Entry]
    next_cursor: Annotated[
        str | None, Field(description="Gives the next page; null if this is the last.")
    ]


class EntryChanges(BaseModel):
    """Changes of entries, applied together or not at all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"add": [{"value": "203.0.113.0/24", "reason": "card testing"}]}]},
    )  # fmt: skip

    add: Annotated[
        list[ListEntry], Field(max_length=MAX_CHANGE, description="Put on, or put anew.")
    ] = []
    remove: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]],
        Field(max_length=MAX_CHANGE, description="Taken off, before others are put on."),
    ] = []
    replace: Annotated[bool, Field(description="Whether all that is on it goes first.")] = False


class Changed(BaseModel):
    """The result of a change of entries."""

    added: int
    list: AList


def list_routes(editor_of: EditorOf, policy_state: Callable[[], PolicyState]) -> APIRouter:
    """Return the routes of lists."""
    routes = APIRouter(
        prefix="/v1/lists", tags=["lists"], route_class=OnceRoute, responses=problems()
    )

    def state_of(name: str) -> ListState:
        found = policy_state().lists().get(name)
        if found is None:
            raise NoSuch(f"unknown list: {name}")
        return found

    @routes.get("", summary="List the lists")
    def list_lists(_who: _Analyst) -> Lists:
        """Return all lists, sorted by name."""
        states = policy_state().lists()
        return Lists(items=[_shown(states[name]) for name in sorted(states)])

    @routes.post(
        "",
        summary="Make a list",
        status_code=HTTPStatus.CREATED,
        responses=problems(409, 503),
        dependencies=[Depends(idempotent)],
    )
    def make(new: NewList, who: _Analyst, request: Request) -> AList:
        """Make an empty list. Its type cannot be changed here later."""
        editor_of(author_of(who, request)).make_list(
            new.name, new.type, new.use, description=new.description
        )
        return _shown(state_of(new.name))

    @routes.get("/{name}", summary="Get a list", responses=problems(404))
    def get_list(name: str, _who: _Analyst) -> AList:
        """Return a list without its entries."""
        return _shown(state_of(name))

    @routes.patch("/{name}", summary="Change what a list means", responses=problems(404, 503))
    def change_list(name: str, changes: ListChanges, who: _Analyst, request: Request) -> AList:
        """Change a list's use or description, for decisions from now on."""
        editor_of(author_of(who, request)).change_list(
            name, use=changes.use, description=changes.description
        )
        return _shown(state_of(name))

    @routes.delete(
        "/{name}",
        summary="Drop a list",
        status_code=HTTPStatus.NO_CONTENT,
        responses=problems(404, 409, 503),
    )
    def drop(name: str, who: _Analyst, request: Request) -> None:
        """Drop a list. Refused while the active rules, or those in shadow, use it."""
        editor_of(author_of(who, request)).drop_list(name)

    @routes.get("/{name}/entries", summary="Get a list's entries", responses=problems(404))
    def entries(
        name: str,
        _who: _Analyst,
        limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
        cursor: Annotated[
            str | None, Query(max_length=_CURSOR, description="The next_cursor of a page.")
        ] = None,
    ) -> EntryPage:
        """Return one page of entries, sorted by value; expired entries are included."""
        kept = state_of(name).entries
        values = sorted(kept)
        # The cursor is a number: values may be personal data, and URLs end up in logs.
        first = _position(cursor)
        page = values[first : first + limit]
        more = first + limit < len(values)
        return EntryPage(
            items=[_entry(value, kept[value]) for value in page],
            next_cursor=str(first + limit) if more else None,
        )

    @routes.post(
        "/{name}/entries",
        summary="Put entries on a list, and take some off",
        responses=problems(404, 503),
        dependencies=[Depends(idempotent)],
    )
    def change_entries(
        name: str, changes: EntryChanges, who: _Analyst, request: Request
    ) -> Changed:
        """Change entries together or not at all; 422 names the place of a value of another type."""
        added = editor_of(author_of(who, request)).change_list(
            name,
            add=changes.add,
            remove=changes.remove,
            replace=changes.replace,
        )
        return Changed(added=added, list=_shown(state_of(name)))

    return routes


def _shown(state: ListState) -> AList:
    return AList(
        name=state.name,
        type=state.type,
        use=state.use,
        description=state.description,
        version=shown(state.version),
        entries=len(state),
    )


def _position(cursor: str | None) -> int:
    if cursor is not None and not re.fullmatch("[0-9]{1,9}", cursor, re.ASCII):
        raise InvalidCursor
    return int(cursor or 0)


def _entry(value: str, kept: KeptEntry) -> Entry:
    return Entry(
        value=value,
        source=kept.source,
        reason=kept.reason,
        expires_at=kept.expires_at,
        author=kept.author,
        added_at=to_datetime(kept.added_ms),
    )
