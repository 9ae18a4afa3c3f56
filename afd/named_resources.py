"""Resources that are put whole and shown as they were put: outcomes, labels, types of entities and events."""

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
"""Those that there are undeclared."""


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """A kind of these resources.

    Attributes:
        thing: Among the declarations.
        plural: The member of the answer that holds them.
        members: What is kept of a request.
        page: Most that one answer gives, unless asked for fewer.
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
    """Answers calls on one kind of resource that a name and a few members describe.

    Args:
        kind: Which one.
        catalogue: What there is.
        writer: Writes declarations that only clients know.
    """

    def __init__(self, kind: ResourceKind, catalogue: Catalogue, writer: DeclarationWriter) -> None:
        self._kind = kind
        self._catalogue = catalogue
        self._writer = writer
        self._declarations = catalogue.declarations

    def put(self, request: Request, author: str) -> Answer:
        """Declare one, or declare it anew."""
        thing, name = self._kind.thing, request["name"]
        if thing is ResourceType.OUTCOME:
            outcome_of(name, self._catalogue.chosen)
        if thing is ResourceType.LABEL:
            self._check_label(name)
        self._writer.put(thing, name, without_ours(dict(request), *self._kind.members), author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return one, or a page of all."""
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
        """Take one away that nothing uses."""
        thing, name = self._kind.thing, request["name"]
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
