"""Variables as clients declare them; their types map them to transaction fields."""

from __future__ import annotations

import re
from typing import Final

from afd.catalogue import Catalogue, arn
from afd.declarations import DeclarationWriter, ResourceType, Value, without_ours
from afd.errors import AfdError, ConflictException, ValidationException
from afd.events import PAGE
from afd.operations import Answer, Request
from afd.paging import shown
from afd.protocol import check_shape

VARIABLE_TYPE: Final = "variableType"

_NAME: Final = re.compile(r"[0-9A-Za-z_]{1,64}", re.ASCII)
_ALREADY_EXISTS: Final = 400


class VariableOperations:
    """Handles the operations on variables.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
    """

    def __init__(self, catalogue: Catalogue, writer: DeclarationWriter) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._declarations = catalogue.declarations

    def create(self, request: Request, author: str) -> Answer:
        """Declare a new variable."""
        if self._declarations.get(ResourceType.VARIABLE, request["name"]) is not None:
            raise ValidationException(f"there is a variable {request['name']} already")
        self._writer.put(ResourceType.VARIABLE, request["name"], self._variable(request), author)
        return {}

    def create_batch(self, request: Request, author: str) -> Answer:
        """Declare several variables; the answer has an error for each one that is refused."""
        errors = []
        for entry in request["variableEntries"]:
            name = entry.get("name", "")
            try:
                check_shape("DataType", entry.get("dataType", ""))
                check_shape("DataSource", entry.get("dataSource", ""))
                self.create(entry, author)
            except (KeyError, ValidationException) as fault:
                # The other entries are declared all the same.
                text = fault.message if isinstance(fault, AfdError) else "expected a name"
                errors.append({"name": name, "code": _ALREADY_EXISTS, "message": text})
        return {"errors": errors}

    def update(self, request: Request, author: str) -> Answer:
        """Change the declaration of a variable."""
        before = self._catalogue.known(ResourceType.VARIABLE, request["name"], "variable")
        self._writer.put(
            ResourceType.VARIABLE, request["name"], self._variable({**before, **request}), author
        )
        return {}

    def delete(self, request: Request, author: str) -> Answer:
        """Delete a variable; refused while an event type uses it."""
        name = request["name"]
        if self._declarations.get(ResourceType.VARIABLE, name) is not None:
            users = [
                key
                for key, event_type in self._declarations.all(ResourceType.EVENT_TYPE).items()
                if name in event_type["eventVariables"]
            ]
            if users:
                raise ConflictException(f"{name} is in use by the event type {users[0]}")
            self._writer.drop(ResourceType.VARIABLE, name, author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return one variable, or a page of all."""
        return shown(self._all(), request, "variables", 100)

    def get_batch(self, request: Request) -> Answer:
        """Return the named variables, and an error for each one that is unknown."""
        known = self._all()
        return {
            "variables": [known[name] for name in request["names"] if name in known],
            "errors": [
                {"name": name, "code": 404, "message": "there is no such variable"}
                for name in request["names"]
                if name not in known
            ],
        }

    def _all(self) -> dict[str, Value]:
        return {
            name: members | {"arn": arn("variable", name)}
            for name, members in self._declarations.all(ResourceType.VARIABLE).items()
        }

    def _variable(self, request: Request) -> Value:
        name = request["name"]
        if not _NAME.fullmatch(name):
            raise ValidationException("name: expected up to 64 letters, digits and _")
        if request.get("dataSource") == "EXTERNAL_MODEL_SCORE":
            raise ValidationException(f"dataSource: there are no external models, see {PAGE}")
        if request.get(VARIABLE_TYPE):
            check_shape(VARIABLE_TYPE, request[VARIABLE_TYPE])
        return without_ours(
            dict(request),
            "name",
            "dataType",
            "dataSource",
            "defaultValue",
            "description",
            VARIABLE_TYPE,
        )
