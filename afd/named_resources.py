"""Outcomes, labels, entity types and event types, which are kept and shown as clients put them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from afd.catalogue import Catalogue, arn
from afd.declarations import TIMES, DeclarationWriter, ResourceType, without_ours
from afd.errors import ConflictException, ValidationException
from afd.events import FRAUD_LABELS, LEGITIMATE_LABELS, PAGE
from afd.operations import Answer, Request
from afd.paging import shown
from afd.translation import outcome_of

OUR_OUTCOMES: Final = ("approve", "block", "review")
"""Outcomes that exist without a declaration."""


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """How resources of one type are kept and shown.

    Attributes:
        thing: Type of the resources among the declarations.
        plural: Member of an answer that holds the resources.
        members: Members of a request that are kept.
        page: Resources in one answer, unless the request asks for another number.
    """

    thing: ResourceType
    plural: str
    members: tuple[str, ...]
    page: int


OUTCOMES: Final = ResourceKind(ResourceType.OUTCOME, "outcomes", ("name", "description"), 100)
LABELS: Final = ResourceKind(ResourceType.LABEL, "labels", ("name", "description"), 50)
ENTITY_TYPES: Final = ResourceKind(
    ResourceType.ENTITY_TYPE, "entityTypes", ("name", "description"), 10
)
EVENT_TYPES: Final = ResourceKind(
    ResourceType.EVENT_TYPE,
    "eventTypes",
    ("name", "description", "eventVariables", "labels", "entityTypes", "eventIngestion"),
    10,
)


class NamedResources:
    """Handles the operations on one kind of resource.

    Args:
        kind: The kind of resource.
        catalogue: Declarations and policy state.
        writer: Writes declarations.
    """

    def __init__(self, kind: ResourceKind, catalogue: Catalogue, writer: DeclarationWriter) -> None:
        self._kind = kind
        self._catalogue = catalogue
        self._writer = writer
        self._declarations = catalogue.declarations

    def put(self, request: Request, author: str) -> Answer:
        """Declare a resource, or replace its declaration."""
        thing, name = self._kind.thing, request["name"]
        if thing is ResourceType.OUTCOME:
            outcome_of(name, self._catalogue.chosen)
        if thing is ResourceType.LABEL:
            self._check_label(name)
        self._writer.put(thing, name, without_ours(dict(request), *self._kind.members), author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return one resource, or a page of all."""
        thing = self._kind.thing
        known = {
            name: without_ours(members, *self._kind.members, *TIMES)
            for name, members in self._declarations.all(thing).items()
        }
        if thing is ResourceType.OUTCOME:
            known = {name: {"name": name} for name in OUR_OUTCOMES} | known
        for name, members in known.items():
            members["arn"] = arn(thing.value, name)
        return shown(known, request, self._kind.plural, self._kind.page)

    def drop(self, request: Request, author: str) -> Answer:
        """Delete a resource; refused while something uses it."""
        thing, name = self._kind.thing, request["name"]
        # Deleting a missing resource succeeds.
        if self._declarations.get(thing, name) is None:
            return {}
        if thing is ResourceType.OUTCOME:
            users = [
                rule["ruleId"]
                for rule in self._declarations.all(ResourceType.RULE).values()
                if any(name in version["outcomes"] for version in rule["versions"].values())
            ]
        elif thing is ResourceType.EVENT_TYPE:
            detectors = self._declarations.all(ResourceType.DETECTOR)
            users = [
                key for key, detector in detectors.items() if detector["eventTypeName"] == name
            ]
        else:
            member = "labels" if thing is ResourceType.LABEL else "entityTypes"
            types = self._declarations.all(ResourceType.EVENT_TYPE)
            users = [key for key, event_type in types.items() if name in event_type.get(member, ())]
        if users:
            raise ConflictException(f"{name} is in use by {users[0]}")
        self._writer.drop(thing, name, author)
        return {}

    def _check_label(self, name: str) -> None:
        mapping = self._catalogue.mapping
        known = mapping.fraud | mapping.legitimate if mapping else FRAUD_LABELS | LEGITIMATE_LABELS
        if (name if mapping else name.lower()) not in known:
            raise ValidationException(
                f"label {name}: expected one of {', '.join(sorted(known))}; others are given a meaning in the file AFD_MAPPING, see {PAGE}"
            )
