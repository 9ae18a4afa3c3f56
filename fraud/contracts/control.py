"""Control documents: records of `fraud_control` that switch rules, models and lists at run time.

The key is `kind/name/version`. Documents that put rules or a model in force have the key
`kind/name/version@change` with an id of the change, so that compaction keeps each of them, with its
author and time; keys without the id are read, too. The last document of a kind and name is in force,
unless it is void (`Activations`); a list is the result of all its changes (`fraud.contracts.lists`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.lists import LIST_NAME, ListChange
from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import EARLIER_DIGITS, same_version, version_of

MODEL: Final = "model"
"""Kind of documents that assign a role to a model; their content is a `ModelRef`."""

CHAMPION: Final = "champion"
"""Name of the model document that selects the model that decides."""

CHALLENGER: Final = "challenger"
"""Name of the model and rule documents that select what decides in shadow."""

RULES: Final = "rules"
"""Kind of documents that hold a whole rule set; their content is a `RuleSet`."""

ACTIVE: Final = "active"
"""Name of rule documents that are put in force; the last one decides."""

DRAFT: Final = "draft"
"""Name of rule documents that are stored but do not decide."""

LIST: Final = "list"
"""Kind of documents that change the list of their name; their content is a `ListChange`."""

NONE: Final = "none"
"""Version of a challenger document that ends the shadow decisions; its content is empty."""

MAX_DOCUMENT_BYTES: Final = 983_040
"""Maximum size of key and value, below the million bytes that producers accept by default."""

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}"
_KEY: Final = re.compile(f"({_PART})/({_PART})/({_PART})", re.ASCII)


class _Body(BaseModel):
    """Value of a control document's record; kind, name and version are in its key."""

    model_config = ConfigDict(frozen=True, extra="allow")

    author: Annotated[str, Field(min_length=1, max_length=256, description="Who switched.")]
    time: Annotated[AwareDatetime, Field(description="When, ISO 8601 with its zone.")]
    content: Annotated[dict[str, Any], Field(description="What; its form depends on the kind.")]
    expected: Annotated[
        str | None,
        Field(
            description="Of active rules: the version that they are to replace. Where another one was put in its place before, the document is void."
        ),
    ] = None


class ControlDocument(_Body):
    """A control document, with the parts of its key.

    Attributes:
        kind: Kind of content, such as `model`. Readers ignore kinds that they do not know.
        name: Name within the kind, such as `champion`.
        version: Version of the content.
        change: Unique id, letters and digits, of a change that puts rules or a model in force.
    """

    kind: str
    name: str
    version: str
    change: str | None = None

    @property
    def time_ms(self) -> int:
        """Time of the change, UTC epoch milliseconds."""
        return int(self.time.timestamp() * 1000)

    @property
    def key(self) -> bytes:
        """Key of the record: kind/name/version, followed by @change if there is one.

        Raises:
            InvalidMessage: A part has characters that are not allowed in a key.
        """
        change = "" if self.change is None else f"@{self.change}"
        key = f"{self.kind}/{self.name}/{self.version}{change}".encode()
        read_key(key)
        return key

    @property
    def value(self) -> bytes:
        """Value of the record, as JSON."""
        of_key = {"kind", "name", "version", "change"}
        unsaid = {"expected"} if self.expected is None else set()
        return _Body.model_dump_json(self, exclude=of_key | unsaid).encode()


def control_schema() -> dict[str, Any]:
    """Return the JSON schema of the value of a record of `fraud_control`."""
    return {**_Body.model_json_schema(), "title": "ControlDocument"}


def read_key(key: bytes | None) -> tuple[str, str, str]:
    """Return kind, name and version; the version still has the @change, if there is one.

    Raises:
        InvalidMessage: The key is not that of a control document.
    """
    match = _KEY.fullmatch((key or b"").decode("utf-8", "replace"))
    if match is None:
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE,
            "key: expected kind/name/version, each of letters, digits, _, ., @ and -",
            "key",
        )
    kind, name, version = match.groups()
    return kind, name, version


def decode_control(key: bytes | None, value: bytes | None) -> ControlDocument:
    """Parse one record of the control topic.

    Raises:
        InvalidMessage: The record is not a control document. Null values are invalid: documents
            are replaced, never deleted.
    """
    kind, name, version = read_key(key)
    if value is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "value: expected a JSON object, not null")
    try:
        body = _Body.model_validate(_loaded(value))
    except ValidationError as error:
        raise _verdict(error) from None
    change = None
    if kind in (RULES, MODEL) and "@" in version:
        version, _, change = version.rpartition("@")
    of_key = {"kind": kind, "name": name, "version": version, "change": change}
    return ControlDocument.model_validate(body.model_dump() | of_key)


class Activations:
    """Determines which activations of rules are void, in the order of the topic.

    A document may name the version that it expects to replace. It is void if another document has
    replaced that version before: of two people who change the same rules at once, one succeeds. All
    readers of the topic get the same result, because it depends on keys and expected versions alone.
    A document that expects an unknown version is valid, as an earlier document may have been lost.

    Attributes:
        now: Version in force; None before the first activation.
    """

    def __init__(self) -> None:
        self.now: str | None = None
        self._replaced: set[str] = set()
        self._void: set[bytes] = set()

    def take(self, document: ControlDocument) -> None:
        """Process the next document; only active rules have an effect."""
        if (document.kind, document.name) != (RULES, ACTIVE):
            return
        expected = document.expected
        if (
            expected is not None
            and not same_version(expected, self.now)
            and expected[:EARLIER_DIGITS] in self._replaced
        ):
            self._void.add(document.key)
            return
        self._void.discard(document.key)
        # Documents from before name versions by these digits, which all forms begin with.
        self._replaced.update(
            version[:EARLIER_DIGITS] for version in (self.now, expected) if version is not None
        )
        self.now = document.version

    def void(self, document: ControlDocument) -> bool:
        """Return whether a document that was processed is void."""
        return document.key in self._void


def read_model(document: ControlDocument) -> ModelRef:
    """Return the model that a document of kind `model` names.

    Raises:
        InvalidMessage: The content is not a model reference, or its version is not the key's.
    """
    try:
        ref = ModelRef.model_validate(document.content)
    except ValidationError as error:
        raise _verdict(error, "content.") from None
    if ref.version != document.version:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            "content.version: expected the version that the key names",
            "content.version",
        )
    return ref


def read_rules(document: ControlDocument) -> RuleSet:
    """Return the rule set that a document of kind `rules` holds.

    Raises:
        InvalidMessage: The content is not a rule set, or its version is not the key's.
    """
    try:
        rules = RuleSet.model_validate(document.content)
    except ValidationError as error:
        raise _verdict(error, "content.") from None
    # Parsing normalises line breaks, so older documents may match only by their raw content.
    if not any(
        same_version(document.version, of_content)
        for of_content in (rules.version, version_of(document.content))
    ):
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE, "content: expected the version that the key names", "content"
        )
    return rules


def list_version(change_id: str, part: int) -> str:
    """Return the document version of one part of a change to a list."""
    return f"{change_id}.{part}"


def read_list_change(document: ControlDocument) -> tuple[str, ListChange]:
    """Return the id of a change to a list, which its parts share, and the change.

    Raises:
        InvalidMessage: The list name or the content is invalid, or the key names another part.
    """
    if not re.fullmatch(LIST_NAME, document.name):
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE, "name: expected small letters, digits and _, at most 64", "name"
        )
    try:
        change = ListChange.model_validate(document.content)
    except ValidationError as error:
        raise _verdict(error, "content.") from None
    change_id, _, part = document.version.partition(".")
    if part != str(change.part):
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            "content.part: expected the part that the key names",
            "content.part",
        )
    return change_id, change


def _loaded(value: bytes) -> dict[str, Any]:
    try:
        loaded = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise InvalidMessage(ErrorCode.NOT_JSON, "value: expected JSON in UTF-8") from None
    if not isinstance(loaded, dict):
        raise InvalidMessage(ErrorCode.NOT_AN_OBJECT, "value: expected a JSON object")
    return loaded


def _verdict(error: ValidationError, prefix: str = "") -> InvalidMessage:
    first = error.errors(include_input=False, include_url=False)[0]
    field = prefix + ".".join(str(part) for part in first["loc"])
    missing = first["type"] == "missing"
    reason = ErrorCode.MISSING_FIELD if missing else ErrorCode.WRONG_TYPE
    return InvalidMessage(reason, f"{field}: {first['msg']}", field)
