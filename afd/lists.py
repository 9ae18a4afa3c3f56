"""Lists that rules refer to, as AFD clients maintain them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from afd.catalogue import Catalogue, arn
from afd.declarations import CREATED, DeclarationWriter, ResourceType
from afd.errors import ResourceNotFoundException, ValidationException
from afd.operations import Answer, Request
from afd.paging import page, shown
from afd.translation import list_type_of
from afd.variables import VARIABLE_TYPE
from fraud.contracts.control import LIST
from fraud.contracts.lists import LIST_NAME, ListEntry, ListType, ListUse
from fraud.contracts.times import utc_text
from fraud.policy.editor import PolicyEditor
from fraud.runtime.clock import Clock


class ListOperations:
    """Handles the operations on lists.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
        clock: Returns the current time, UTC epoch milliseconds.
    """

    def __init__(self, catalogue: Catalogue, writer: DeclarationWriter, clock: Clock) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._clock = clock
        self._declarations = catalogue.declarations

    def create(self, request: Request, editor: PolicyEditor) -> Answer:
        """Create a list with its first elements."""
        name = request["name"]
        if not re.fullmatch(LIST_NAME.strip("^$"), name):
            raise ValidationException("name: expected one that begins with a letter or a digit")
        editor.make_list(
            name,
            list_type_of(request.get(VARIABLE_TYPE)),
            ListUse.REFERENCE,
            description=request.get("description", ""),
            entries=_entries(request.get("elements", ())),
        )
        self._put_list(name, request.get(VARIABLE_TYPE), editor.author.name)
        return {}

    def update(self, request: Request, editor: PolicyEditor) -> Answer:
        """Change the elements, the type or the description of a list."""
        name = request["name"]
        elements, mode = request.get("elements", ()), request.get("updateMode")
        if "elements" in request and mode is None:
            raise ValidationException(
                "updateMode: expected REPLACE, APPEND or REMOVE with elements"
            )
        kind = self._new_type(name, request.get(VARIABLE_TYPE))
        if kind is not None or mode is not None or "description" in request:
            # A single change, so that an error in any part of it leaves the list as it is.
            editor.change_list(
                name,
                add=() if mode == "REMOVE" else _entries(elements),
                remove=elements if mode == "REMOVE" else (),
                replace=mode == "REPLACE",
                kind=kind,
                description=request.get("description"),
            )
        if kind is not None:
            self._put_list(name, request[VARIABLE_TYPE], editor.author.name)
        return {}

    def delete(self, request: Request, editor: PolicyEditor) -> Answer:
        """Delete a list and its declaration."""
        name = request["name"]
        editor.drop_list(name)
        if self._declarations.get(ResourceType.LIST, name) is not None:
            self._writer.drop(ResourceType.LIST, name, editor.author.name)
        return {}

    def get_metadata(self, request: Request) -> Answer:
        """Return the metadata of one list, or of a page of all."""
        if request.get("name"):
            self._list(request["name"])
        known = {}
        for name, state in self._catalogue.policy_state().lists().items():
            declared = self._declarations.get(ResourceType.LIST, name) or {}
            changes = list(self._catalogue.history.changes(LIST, name))
            known[name] = {
                "name": name,
                "createdTime": declared.get(CREATED) or utc_text(changes[-1].time_ms),
                "updatedTime": utc_text(changes[0].time_ms),
                "arn": arn("list", name),
            }
            if state.description:
                known[name]["description"] = state.description[:128]
            if declared.get(VARIABLE_TYPE):
                known[name][VARIABLE_TYPE] = declared[VARIABLE_TYPE]
        return shown(known, request, "lists", 50)

    def get_elements(self, request: Request) -> Answer:
        """Return a page of the elements that have not expired."""
        now_ms = self._clock()
        entries = self._list(request["name"]).entries
        values = sorted(value for value, entry in entries.items() if entry.counts(now_ms))
        names, token = page(values, request.get("nextToken"), request.get("maxResults", 500))
        return {"elements": list(names)} | ({"nextToken": token} if token else {})

    def _new_type(self, name: str, variable_type: str | None) -> ListType | None:
        """Return the list type that a variable type changes a list to, or None if it stays."""
        state = self._list(name)
        declared = (self._declarations.get(ResourceType.LIST, name) or {}).get(VARIABLE_TYPE)
        if variable_type in (None, declared):
            return None
        if declared is not None or state.type is not ListType.TEXT:
            raise ValidationException("variableType: the list has one already, which stays")
        return list_type_of(variable_type)

    def _put_list(self, name: str, variable_type: str | None, author: str) -> None:
        value = {VARIABLE_TYPE: variable_type} if variable_type else {}
        self._writer.put(ResourceType.LIST, name, {"name": name} | value, author)

    def _list(self, name: str) -> Any:
        found = self._catalogue.policy_state().lists().get(name)
        if found is None:
            raise ResourceNotFoundException(f"unknown list: {name}")
        return found


def _entries(values: Sequence[str]) -> list[ListEntry]:
    return [ListEntry(value=value) for value in values]
