"""Resources that clients declare and only the AFD protocol has: variables, outcomes, detectors.

Each is a control document of kind `afd`, so that all API processes share it, and its author and
history are kept as those of rules are. None of them decides: a detector's version refers to a rule
set of Fraudstream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import orjson

from fraud.contracts.control import MAX_DOCUMENT_BYTES, ControlDocument
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.times import utc_text
from fraud.policy.editor import Publisher
from fraud.policy.follower import Listener
from fraud.runtime.clock import Clock, system_clock, to_datetime

KIND: Final = "afd"
"""Kind of the control documents that hold declarations."""

CREATED: Final = "createdTime"
UPDATED: Final = "lastUpdatedTime"
TIMES: Final = (CREATED, UPDATED)

_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,128}", re.ASCII)

Value = dict[str, Any]
"""A resource in the form of its `Get` operation, with some members of our own."""


class ResourceType(StrEnum):
    """A type of resource that clients declare."""

    VARIABLE = "variable"
    OUTCOME = "outcome"
    LABEL = "label"
    ENTITY_TYPE = "entity-type"
    EVENT_TYPE = "event-type"
    LIST = "list"
    DETECTOR = "detector"
    RULE = "rule"
    """Keyed by detector/rule; holds all versions of the rule."""
    DETECTOR_VERSION = "detector-version"
    """Keyed by detector/number."""


class Declarations(Listener):
    """All declarations, folded from the control topic. One thread applies, others read."""

    kinds = (KIND,)

    def __init__(self) -> None:
        self._things: dict[ResourceType, dict[str, Value]] = {thing: {} for thing in ResourceType}

    def clear(self) -> None:
        """Forget all declarations: the topic was made anew."""
        self._things = {thing: {} for thing in ResourceType}

    def apply(self, document: ControlDocument) -> None:
        """Apply the next document of the topic.

        Raises:
            InvalidMessage: The content is not a declaration.
        """
        thing, key, value = (document.content.get(part) for part in ("thing", "key", "value"))
        if (
            thing not in set(ResourceType)
            or type(key) is not str
            or type(value) not in (dict, type(None))
        ):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE, "content: expected thing, key and value", "content"
            )
        # Replaced, not changed, so that other threads read one state or the other.
        before = self._things[ResourceType(thing)]
        after = {name: other for name, other in before.items() if name != key}
        if value is not None:
            after[key] = value
        self._things[ResourceType(thing)] = after

    def get(self, thing: ResourceType, key: str) -> Value | None:
        """Return a resource, or None if it is not declared."""
        return self._things[thing].get(key)

    def all(self, thing: ResourceType) -> Mapping[str, Value]:
        """Return all resources of a type by key."""
        return self._things[thing]


class DeclarationWriter:
    """Writes and deletes declarations.

    Args:
        declarations: The current declarations.
        publisher: Writes documents; returns once they can be read from the declarations.
        clock: Returns the current time, UTC epoch milliseconds.
    """

    def __init__(
        self, declarations: Declarations, publisher: Publisher, clock: Clock = system_clock
    ) -> None:
        self.declarations = declarations
        self._publisher = publisher
        self._clock = clock

    def now(self) -> str:
        """Return the current time as the protocol writes it."""
        return utc_text(self._clock())

    def put(self, thing: ResourceType, key: str, value: Value, author: str) -> None:
        """Declare a resource or replace its declaration; sets the times of creation and update."""
        before = self.declarations.get(thing, key)
        created = before[CREATED] if before else self.now()
        self._publish(thing, key, value | {CREATED: created, UPDATED: self.now()}, author)

    def drop(self, thing: ResourceType, key: str, author: str) -> None:
        """Delete a declaration, if it exists."""
        self._publish(thing, key, None, author)

    def _publish(self, thing: ResourceType, key: str, value: Value | None, author: str) -> None:
        content = {"thing": thing.value, "key": key, "value": value}
        time = to_datetime(self._clock())
        # The time makes every version unique, so that compaction keeps them all.
        marked = orjson.dumps([content, time], option=orjson.OPT_SORT_KEYS)
        document = ControlDocument(
            kind=KIND,
            name=_name(thing, key),
            version=hashlib.sha256(marked).hexdigest(),
            author=author,
            time=time,
            content=content,
        )
        if len(document.value) > MAX_DOCUMENT_BYTES:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                f"{thing.value}: expected at most {MAX_DOCUMENT_BYTES} bytes with all its versions",
                thing.value,
            )
        self._publisher.publish(document)


def _name(thing: ResourceType, key: str) -> str:
    name = f"{thing.value}.{key.replace('/', '.')}"
    if _NAME.fullmatch(name):
        return name
    # The key has characters, or a length, that a document's name may not have.
    return f"{thing.value}.{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def without_ours(value: Value, *members: str) -> Value:
    """Return a copy of a resource with the named members only, if they are not None."""
    return {member: value[member] for member in members if value.get(member) is not None}
