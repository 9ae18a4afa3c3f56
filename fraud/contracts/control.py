"""The control document: what is switched while everything runs, one record of `fraud_control`.

The key is `kind/name/version`, and for rules and models that are put in force
`kind/name/version@change` with an id of the change: compaction keeps every one of them, and with it
who switched when. Keys without the id are read, too. What is in force of a kind and name is its last
document on the topic that is not void (`Activations`); a list is the fold of all its changes
(`fraud.contracts.lists`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.lists import LIST_NAME, ListChange
from fraud.contracts.rules import RuleSet, content_version

MODEL: Final = "model"
"""Kind of the documents that say which model has a part; their content is a `ModelRef`."""

CHAMPION: Final = "champion"
"""Name of the model document that says which model decides."""

CHALLENGER: Final = "challenger"
"""Name of the model and the rule document that say what decides in shadow, beside."""

RULES: Final = "rules"
"""Kind of the documents that hold a whole rule set; their content is a `RuleSet`."""

ACTIVE: Final = "active"
"""Name of the rule document that decides: the last one, so that exactly one is active."""

DRAFT: Final = "draft"
"""Name of the rule documents that are kept and decide nothing yet."""

LIST: Final = "list"
"""Kind of the documents that change a list, named like it; their content is a `ListChange`."""

NONE: Final = "none"
"""Version of a challenger document that ends the shadow decisions; its content is empty."""

MAX_DOCUMENT_BYTES: Final = 983_040
"""Most bytes of a record's key and value: a producer takes a million unless told otherwise."""

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}"
_KEY: Final = re.compile(f"({_PART})/({_PART})/({_PART})", re.ASCII)


class _Body(BaseModel):
    """What the value of a record holds; the rest of the document is its key."""

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
    """A control document.

    Attributes:
        kind: What is switched, such as `model`. Readers pass over kinds that they do not know.
        name: Which one of that kind, such as `champion`.
        version: Of the content.
        change: Id of its own that a document which puts something in force has, letters and digits.
    """

    kind: str
    name: str
    version: str
    change: str | None = None

    @property
    def time_ms(self) -> int:
        """When, UTC epoch milliseconds."""
        return int(self.time.timestamp() * 1000)

    @property
    def key(self) -> bytes:
        """The record's key: kind/name/version, and @change where there is one.

        Raises:
            InvalidMessage: A part of it may not stand in a key.
        """
        change = "" if self.change is None else f"@{self.change}"
        key = f"{self.kind}/{self.name}/{self.version}{change}".encode()
        read_key(key)
        return key

    @property
    def value(self) -> bytes:
        """The record's value, JSON."""
        of_key = {"kind", "name", "version", "change"}
        unsaid = {"expected"} if self.expected is None else set()
        return _Body.model_dump_json(self, exclude=of_key | unsaid).encode()


def control_schema() -> dict[str, Any]:
    """Describe the value of a record of `fraud_control`."""
    return {**_Body.model_json_schema(), "title": "ControlDocument"}


def read_key(key: bytes | None) -> tuple[str, str, str]:
    """Return kind, name and version, with the id of the change where there is one.

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
    """Read one record of the control topic.

    Raises:
        InvalidMessage: It is not a control document. Null values are refused as well: documents are
            replaced, never deleted.
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
    """Says which documents that put rules in force are void, taken in the order of the topic.

    A document may name the version that it is to replace. It is void where another document did that
    before: of two people who change the same rules at once, one succeeds. Everyone who reads the
    topic comes to the same answer, for it hangs on keys and expectations alone. An expectation of
    what was never seen holds: it cannot be judged, as when an early document was lost.

    Attributes:
        now: Version put in force last, None before the first.
    """

    def __init__(self) -> None:
        self.now: str | None = None
        self._replaced: set[str] = set()
        self._void: set[bytes] = set()

    def take(self, document: ControlDocument) -> None:
        """Take the next document; those of other names change nothing."""
        if (document.kind, document.name) != (RULES, ACTIVE):
            return
        expected = document.expected
        if expected is not None and expected != self.now and expected in self._replaced:
            self._void.add(document.key)
            return
        self._void.discard(document.key)
        self._replaced.update(one for one in (self.now, expected) if one is not None)
        self.now = document.version

    def void(self, document: ControlDocument) -> bool:
        """Whether a document that was taken is void."""
        return document.key in self._void


def read_model(document: ControlDocument) -> ModelRef:
    """Return the model that a document of kind `model` names.

    Raises:
        InvalidMessage: It names none, or another version than its key.
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
        InvalidMessage: It holds none, or another version than its key.
    """
    try:
        rules = RuleSet.model_validate(document.content)
    except ValidationError as error:
        raise _verdict(error, "content.") from None
    # What earlier programs wrote may be read in another form, with other line breaks.
    if document.version not in (rules.version, content_version(document.content)):
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE, "content: expected the version that the key names", "content"
        )
    return rules


def list_version(change_id: str, part: int) -> str:
    """Name a part of a list's change, as the version of its document."""
    return f"{change_id}.{part}"


def read_list_change(document: ControlDocument) -> tuple[str, ListChange]:
    """Return the change that a document of kind `list` holds, and the id that its parts share.

    Raises:
        InvalidMessage: It holds none, or the key names another part.
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
