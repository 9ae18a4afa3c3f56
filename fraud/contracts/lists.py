"""Lists of entities, addresses and the like, and the changes that make them.

A list is the fold of all its changes in the order of the control topic. Each change is the content
of a control document of kind `list`, named like the list; its key is unique, so compaction keeps
every change, and with it who made which entry, when and why.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fraud.contracts.addresses import network_of
from fraud.contracts.errors import ErrorCode, InvalidMessage

LIST_NAME: Final = r"^[a-z0-9][a-z0-9_]{0,63}$"
MAX_VALUE: Final = 320
"""Longest value of an entry, characters: the longest e-mail address."""

CHANGE_BYTES: Final = 524_288
"""A change of more than this is cut into parts: the control topic takes 1 MiB a record."""

MAX_PARTS: Final = 10_000
"""Most parts of a change."""


class ListType(StrEnum):
    """What a list is of; it says how values are written and compared."""

    ENTITY = "entity"
    """Entity ids, exactly."""
    EMAIL = "email"
    """E-mail addresses, and domains as `example.com` (all addresses there), in any case."""
    IP = "ip"
    """IP addresses and networks (CIDR), of both versions; see `fraud.contracts.addresses`."""
    BIN = "bin"
    """First digits of card numbers; one of six digits holds all of eight that begin with it."""
    PHONE = "phone"
    """Phone numbers: their digits are compared, whatever is between."""
    DEVICE = "device"
    """Device ids, exactly."""
    TEXT = "text"
    """Any text, exactly; of use in rules only."""

    @property
    def field(self) -> str | None:
        """The transaction's field that is looked up, None for text."""
        return _FIELDS.get(self)


_FIELDS: Final = MappingProxyType(
    {
        ListType.ENTITY: "entity_id",
        ListType.EMAIL: "email_address",
        ListType.IP: "ip_address",
        ListType.BIN: "card_bin",
        ListType.PHONE: "phone",
        ListType.DEVICE: "device_id",
    }
)


class ListUse(StrEnum):
    """What it means to be on a list. Precedence: allow, then block, then rules and watch."""

    ALLOW = "allow"
    """Approved, whatever else says."""
    BLOCK = "block"
    """Blocked, unless on an allow list."""
    WATCH = "watch"
    """Reviewed at least."""
    REFERENCE = "reference"
    """Nothing by itself: rules ask by `in @name`."""


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ListEntry(_Contract):
    """A value on a list. Who put it there and when is said by the change's document."""

    value: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]
    source: Annotated[
        str | None, Field(max_length=200, description="Whence: a case, a vendor, a file.")
    ] = None
    reason: Annotated[str | None, Field(max_length=500, description="Why.")] = None
    expires_at: Annotated[
        AwareDatetime | None, Field(description="From then on it is as if it were not there.")
    ] = None


class ListChange(_Contract):
    """One change of a list: what every document of kind `list` holds."""

    type: Annotated[
        ListType,
        Field(
            description="What the list is of; the same as before, unless all that was on it goes."
        ),
    ]
    use: Annotated[ListUse, Field(description="What being on it means from now on.")]
    description: Annotated[
        str | None, Field(max_length=1_000, description="What it is for; null leaves it.")
    ] = None
    replace: Annotated[bool, Field(description="Whether what was there goes.")] = False
    dropped: Annotated[bool, Field(description="Whether the list goes altogether.")] = False
    remove: Annotated[
        tuple[str, ...], Field(description="Values taken off, before others are added.")
    ] = ()
    add: Annotated[tuple[ListEntry, ...], Field(description="Entries put on or put anew.")] = ()
    part: Annotated[int, Field(ge=1, le=MAX_PARTS)] = 1
    parts: Annotated[
        int, Field(ge=1, le=MAX_PARTS, description="Parts that the change was cut into: it counts once the last is there.")
    ] = 1  # fmt: skip

    def cut(self, limit_bytes: int = CHANGE_BYTES) -> list[ListChange]:
        """Cut a long change into parts that records can hold."""
        parts: list[ListChange] = []
        removed: list[str] = []
        added: list[ListEntry] = []
        size = 0

        def close() -> None:
            parts.append(self.model_copy(update={"remove": tuple(removed), "add": tuple(added)}))
            removed.clear()
            added.clear()

        def fits(item: bytes) -> None:
            nonlocal size
            if size and size + len(item) > limit_bytes:
                close()
                size = 0
            size += len(item) + 1

        for value in self.remove:
            fits(orjson.dumps(value))
            removed.append(value)
        for entry in self.add:
            fits(entry.model_dump_json(exclude_none=True).encode())
            added.append(entry)
        close()
        return [
            part.model_copy(update={"part": number, "parts": len(parts)})
            for number, part in enumerate(parts, start=1)
        ]


_NOT_DIGITS: Final = re.compile(r"\D")
_LONGEST_DOMAIN: Final = 253
_BIN: Final = re.compile(r"[0-9]{4,8}", re.ASCII)
_DOMAIN: Final = re.compile(r"@?(?:[a-z0-9_-]+\.)+[a-z0-9-]+")


def normal(kind: ListType, value: str) -> str:
    """Write a value as lists of this type compare it.

    Raises:
        ValueError: The value is not of this type; the text says what was expected, without the value.

    Example:
        >>> normal(ListType.EMAIL, " Ada@Example.com"), normal(ListType.IP, "10.1.2.3/8")
        ('ada@example.com', '10.0.0.0/8')
    """
    text = value.strip()
    if not text or len(text) > MAX_VALUE:
        raise ValueError(f"expected 1 to {MAX_VALUE} characters")
    match kind:
        case ListType.EMAIL:
            text = mailbox_of(text)
            if text.count("@") == 1 and not text.startswith("@"):
                return text
            if not _DOMAIN.fullmatch(text):
                raise ValueError("expected an e-mail address or a domain")
            return text.removeprefix("@")
        case ListType.IP:
            try:
                return network_of(text).text
            except ValueError:
                raise ValueError("expected an IP address or a network such as 10.0.0.0/8") from None
        case ListType.BIN:
            if not _BIN.fullmatch(text):
                raise ValueError("expected 4 to 8 digits")
        case ListType.PHONE:
            text = digits_of(text)
            if not 4 <= len(text) <= 20:
                raise ValueError("expected a phone number of 4 to 20 digits")
    return text


def mailbox_of(text: str) -> str:
    """Write an e-mail address or a domain as lists compare it.

    In small letters; the domain without the dot that may end it, and in ASCII (IDNA).

    Example:
        >>> mailbox_of("Ada@Example.com."), mailbox_of("x@m\u00fcnchen.example")
        ('ada@example.com', 'x@xn--mnchen-3ya.example')
    """
    text = text.strip().lower().rstrip(".")
    if text.isascii():
        return text
    local, at, domain = text.rpartition("@")
    if domain.isascii() or len(domain) > _LONGEST_DOMAIN:
        return text
    try:
        return local + at + domain.encode("idna").decode("ascii")
    except UnicodeError:
        return text


def digits_of(text: str) -> str:
    """Return the digits of a phone number, those of other scripts as 0 to 9.

    Example:
        >>> digits_of("+1 (202) 555-0143")
        '12025550143'
    """
    digits = _NOT_DIGITS.sub("", text)
    if digits.isascii():
        return digits
    return "".join(str(unicodedata.decimal(digit)) for digit in digits)


class KeptEntry(NamedTuple):
    """An entry of a list, and whose it is. A tuple: lists of a million entries are held in memory.

    Attributes:
        value: As it was written.
        source: Whence.
        reason: Why.
        expires_at: From then on it is as if it were not there; None is never.
        author: Who put it there.
        added_ms: When, UTC epoch milliseconds.
    """

    value: str
    source: str | None
    reason: str | None
    expires_at: datetime | None
    author: str
    added_ms: int

    @property
    def expires_ms(self) -> int:
        """When it expires, UTC epoch milliseconds; 0 is never, and an end before 1970 is 1."""
        end = self.expires_at
        return 0 if end is None else max(1, int(end.timestamp() * 1000))

    def counts(self, at_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or at_ms < self.expires_ms


@dataclass(frozen=True)
class ListState:
    """A list as it is after some changes. It is never changed, only replaced.

    Attributes:
        name: Its name.
        type: What it is of.
        use: What being on it means.
        description: What it is for.
        version: Names this state: a hash over all changes up to here, 12 hexadecimal digits.
        entries: By value, as lists compare it.
        since: Version of the state given before this one, None where that is of no use.
        changed: Values put on, put anew or taken off since then.
    """

    name: str
    type: ListType
    use: ListUse
    description: str
    version: str
    entries: Mapping[str, KeptEntry] = field(repr=False)
    since: str | None = field(default=None, repr=False, compare=False)
    changed: Collection[str] = field(default=(), repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.entries)

    def with_entries(self, entries: Sequence[ListEntry]) -> ListState:
        """Return the list as it would be with more entries.

        Raises:
            InvalidMessage: A value is not of the list's type; names its place.
        """
        more = {value: _kept(entry, "", 0) for value, entry in _entries(self.type, entries)}
        version = f"{self.version} and more"
        return replace(self, version=version, entries={**self.entries, **more}, since=None)


class _Folded:
    """A list while it is folded: its entries are changed in place until they are given away."""

    def __init__(self, change: ListChange) -> None:
        self.type = change.type
        self.use = change.use
        self.description = ""
        self.version = ""
        self.entries: dict[str, KeptEntry] = {}
        self.given: ListState | None = None
        self.since: str | None = None
        self.changed: set[str] = set()


class ListFold:
    """Folds changes into lists. Threads may look while one folds."""

    def __init__(self) -> None:
        self._folded: dict[str, _Folded] = {}
        self._waiting: dict[str, list[ListChange]] = {}
        self._lock = threading.Lock()

    def states(self) -> dict[str, ListState]:
        """Return all lists by name."""
        with self._lock:
            return {name: self._given(name) for name in self._folded}

    def state(self, name: str) -> ListState | None:
        """Return one list; None when it is unknown."""
        with self._lock:
            return self._given(name) if name in self._folded else None

    def versions(self) -> dict[str, str]:
        """Return the versions of all lists by name."""
        with self._lock:
            return {name: folded.version for name, folded in self._folded.items()}

    def _given(self, name: str) -> ListState:
        folded = self._folded[name]
        if folded.given is None:
            folded.given = ListState(
                name,
                folded.type,
                folded.use,
                folded.description,
                folded.version,
                folded.entries,
                folded.since,
                frozenset(folded.changed),
            )
        return folded.given

    def take(
        self, name: str, change_id: str, change: ListChange, author: str, time_ms: int
    ) -> None:
        """Apply the next change, or the next part of one. It counts once its last part is there.

        A list is copied only if its state was given away since the change before: thousands of
        changes in a row cost what they hold.

        Args:
            name: Of the list.
            change_id: Of the change, the same for its parts.
            change: What changes.
            author: Who made it.
            time_ms: When, UTC epoch milliseconds.

        Raises:
            InvalidMessage: A value is not of the list's type, or the type is another than before
                of a list that is not replaced whole; then nothing changes.
        """
        if change.parts > 1:
            waiting = self._waiting.setdefault(f"{name}/{change_id}", [])
            if change.part == len(waiting) + 1:
                waiting.append(change)
            if change.part < change.parts or len(waiting) < change.parts:
                return
            parts = self._waiting.pop(f"{name}/{change_id}")
        else:
            parts = [change]
        if change.dropped:
            with self._lock:
                self._folded.pop(name, None)
            return
        before = self._folded.get(name)
        if before is not None and before.type is not change.type and not change.replace:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                f"type: expected {before.type}, as the list {name} has been from its start",
                "type",
            )
        # All values are read before the first is put on the list.
        read = [
            (list(_values(change.type, part.remove)), _entries(part.type, part.add))
            for part in parts
        ]
        with self._lock:
            after = _Folded(change) if before is None else self._opened(before, change)
            for removed, added in read:
                for value in removed:
                    after.entries.pop(value, None)
                for value, entry in added:
                    after.entries[value] = _kept(entry, author, time_ms)
                if after.since is not None:
                    after.changed.update(removed, (value for value, _ in added))
            if change.description is not None:
                after.description = change.description
            chained = f"{after.version}/{change_id}"
            after.version = hashlib.sha256(chained.encode()).hexdigest()[:12]
            self._folded[name] = after

    @staticmethod
    def _opened(folded: _Folded, change: ListChange) -> _Folded:
        """Make a list ready to be changed: the state that was given away stays as it is."""
        if folded.given is not None:
            folded.since, folded.changed = folded.given.version, set()
            if not change.replace:
                folded.entries = dict(folded.entries)
            folded.given = None
        if change.replace:
            folded.entries, folded.since, folded.changed = {}, None, set()
        folded.type, folded.use = change.type, change.use
        return folded


def _entries(kind: ListType, entries: Sequence[ListEntry]) -> list[tuple[str, ListEntry]]:
    return list(zip(_values(kind, (entry.value for entry in entries)), entries, strict=True))


def _kept(entry: ListEntry, author: str, added_ms: int) -> KeptEntry:
    return KeptEntry(entry.value, entry.source, entry.reason, entry.expires_at, author, added_ms)


def _values(kind: ListType, values: Iterable[str]) -> Iterator[str]:
    for position, value in enumerate(values):
        try:
            yield normal(kind, value)
        except ValueError as problem:
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE,
                f"entry {position} of a list of type {kind}: {problem}",
                "value",
            ) from None
