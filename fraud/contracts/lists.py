"""Lists of entities, addresses and the like, and the changes that build them.

A list is the result of all its changes, applied in the order of the control topic. Each change is
the content of a control document of kind `list` with the name of the list. The keys of the documents
are unique, so compaction keeps every change, with its author, time and reasons.
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
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fraud.contracts.addresses import network_of
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.versions import EARLIER_DIGITS

LIST_NAME: Final = r"^[a-z0-9][a-z0-9_]{0,63}$"
MAX_VALUE: Final = 320
"""Maximum length of a value in characters: that of the longest e-mail address."""

CHANGE_BYTES: Final = 524_288
"""Size above which a change is split: a record of the control topic holds at most 1 MiB."""

MAX_PARTS: Final = 10_000
"""Maximum number of parts of a change."""


class ListType(StrEnum):
    """Type of the values on a list, which determines how they are compared."""

    ENTITY = "entity"
    """Entity ids, compared exactly."""
    EMAIL = "email"
    """E-mail addresses, and domains (`example.com`) for all their addresses; case is ignored."""
    IP = "ip"
    """IPv4 and IPv6 addresses and networks (CIDR), see `fraud.contracts.addresses`."""
    BIN = "bin"
    """First digits of card numbers; an entry matches all longer BINs that begin with it."""
    PHONE = "phone"
    """Phone numbers, of which only the digits are compared."""
    DEVICE = "device"
    """Device ids, compared exactly."""
    TEXT = "text"
    """Any text, compared exactly; such lists have an effect only in rules."""

    @property
    def field(self) -> str | None:
        """Transaction field that is looked up on the list; None for lists of type text."""
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
    """Approve the transaction, whatever rules and other lists ask for."""
    BLOCK = "block"
    """Block the transaction, unless it is on an allow list."""
    WATCH = "watch"
    """Ask at least for a review, unless the transaction is on an allow list."""
    REFERENCE = "reference"
    """No effect of its own; rules test it by `in @name`."""


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ListEntry(_Contract):
    """A value on a list. The control document of the change has its author and time."""

    value: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]
    source: Annotated[
        str | None, Field(max_length=200, description="Whence: a case, a vendor, a file.")
    ] = None
    reason: Annotated[str | None, Field(max_length=500, description="Why.")] = None
    expires_at: Annotated[
        AwareDatetime | None, Field(description="From then on it is as if it were not there.")
    ] = None


class ListedEntry(ListEntry):
    """An entry of a snapshot, with the author and time that it already had."""

    author: str
    added_ms: int


class ListChange(_Contract):
    """One change of a list, the content of a control document of kind `list`."""

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
    listed: Annotated[
        tuple[ListedEntry, ...], Field(description="Of a snapshot: all that is on the list.")
    ] = ()
    version: Annotated[
        str | None, Field(description="Of a snapshot: version of the list, which stays the same.")
    ] = None
    follows: Annotated[
        str | None,
        Field(
            description="Of a snapshot: id of the last change in it. Where another came between, the snapshot is void."
        ),
    ] = None
    part: Annotated[int, Field(ge=1, le=MAX_PARTS)] = 1
    parts: Annotated[
        int, Field(ge=1, le=MAX_PARTS, description="Parts that the change was cut into: it counts once the last is there.")
    ] = 1  # fmt: skip

    @property
    def digest(self) -> str:
        """Hash of what the change says, whatever parts it was split into."""
        said = self.model_dump_json(exclude={"part", "parts"}, exclude_defaults=True)
        return hashlib.sha256(said.encode()).hexdigest()

    @staticmethod
    def joined(parts: Sequence[ListChange]) -> ListChange:
        """Return the change that was split into these parts."""
        remove = tuple(chain.from_iterable(part.remove for part in parts))
        add = tuple(chain.from_iterable(part.add for part in parts))
        listed = tuple(chain.from_iterable(part.listed for part in parts))
        return parts[-1].model_copy(update={"remove": remove, "add": add, "listed": listed})

    def cut(self, limit_bytes: int = CHANGE_BYTES) -> list[ListChange]:
        """Split a change into parts that each fit into a record."""
        parts: list[ListChange] = []
        removed: list[str] = []
        added: list[ListEntry] = []
        listed: list[ListedEntry] = []
        size = 0

        def close() -> None:
            entries = {"remove": tuple(removed), "add": tuple(added), "listed": tuple(listed)}
            parts.append(self.model_copy(update=entries))
            for items in (removed, added, listed):
                items.clear()

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
        for kept in self.listed:
            fits(kept.model_dump_json(exclude_none=True).encode())
            listed.append(kept)
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
    """Return the normal form of a value, in which lists of this type compare it.

    Raises:
        ValueError: The value is not of this type; the message never contains the value.

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
    """Return the normal form of an e-mail address or a domain, in which lists compare it.

    It is in lower case; the domain has no trailing dot and is in ASCII (IDNA).

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
    """Return the digits of a phone number, with digits of other scripts converted to 0-9.

    Example:
        >>> digits_of("+1 (202) 555-0143")
        '12025550143'
    """
    digits = _NOT_DIGITS.sub("", text)
    if digits.isascii():
        return digits
    return "".join(str(unicodedata.decimal(digit)) for digit in digits)


class KeptEntry(NamedTuple):
    """A list entry with its author. A tuple, because memory holds lists of a million entries.

    Attributes:
        value: Value as it was written.
        source: Origin of the entry, such as a case, a vendor or a file.
        reason: Why the value is on the list.
        expires_at: Time from which the entry no longer counts; None means never.
        author: Author of the change that added it.
        added_ms: Time of that change, UTC epoch milliseconds.
    """

    value: str
    source: str | None
    reason: str | None
    expires_at: datetime | None
    author: str
    added_ms: int

    @property
    def expires_ms(self) -> int:
        """Expiry, UTC epoch milliseconds; 0 means never, and any expiry before 1970 becomes 1."""
        end = self.expires_at
        return 0 if end is None else max(1, int(end.timestamp() * 1000))

    def counts(self, at_ms: int) -> bool:
        """Return whether the entry has not yet expired at a time, UTC epoch milliseconds."""
        return self.expires_at is None or at_ms < self.expires_ms


@dataclass(frozen=True)
class ListState:
    """Immutable state of a list after some of its changes.

    Attributes:
        name: Name of the list.
        type: Type of its values.
        use: Effect of being on the list.
        description: Purpose of the list.
        version: Hash of the changes since the last that replaced all entries, 64 hexadecimal digits.
        entries: Entries by the normal form of their values.
        since: Version of the state returned before this one; None if all entries may differ.
        changed: Values added, updated or removed since that version, in normal form.
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

    def snapshot(self, follows: str) -> ListChange:
        """Return the list as a change that supersedes all earlier ones.

        Args:
            follows: Id of the last change of this state.
        """
        return ListChange(
            type=self.type,
            use=self.use,
            description=self.description,
            version=self.version,
            follows=follows,
            listed=tuple(
                ListedEntry.model_construct(**entry._asdict()) for entry in self.entries.values()
            ),
        )

    def with_entries(self, entries: Sequence[ListEntry]) -> ListState:
        """Return a copy of the list with more entries.

        Raises:
            InvalidMessage: A value is not of the list's type; the message names its position.
        """
        more = {value: _kept(entry, "", 0) for value, entry in _entries(self.type, entries)}
        version = f"{self.version} and more"
        return replace(self, version=version, entries={**self.entries, **more}, since=None)


class _Folded:
    """Mutable state of a list: entries are changed in place until a `ListState` shares them."""

    def __init__(self, change: ListChange) -> None:
        self.type = change.type
        self.use = change.use
        self.description = ""
        self.version = ""
        self.last_change = ""
        self.earlier_version = ""
        self.entries: dict[str, KeptEntry] = {}
        self.given: ListState | None = None
        self.since: str | None = None
        self.changed: set[str] = set()


class ListFold:
    """Applies changes to lists. Other threads may read while one thread applies changes."""

    def __init__(self) -> None:
        self._folded: dict[str, _Folded] = {}
        self._waiting: dict[str, list[ListChange]] = {}
        # Digest of each known part of a change, by list, change id and part.
        self._known: dict[tuple[str, str, int], str] = {}
        self._lock = threading.Lock()

    def states(self) -> dict[str, ListState]:
        """Return all lists by name."""
        with self._lock:
            return {name: self._given(name) for name in self._folded}

    def state(self, name: str) -> ListState | None:
        """Return one list; None if it is unknown."""
        with self._lock:
            return self._given(name) if name in self._folded else None

    def versions(self) -> dict[str, str]:
        """Return the versions of all lists by name."""
        with self._lock:
            return {name: folded.version for name, folded in self._folded.items()}

    def earlier_versions(self) -> dict[str, str]:
        """Return the versions of all lists in the form that they had before: of 12 digits."""
        with self._lock:
            return {name: folded.earlier_version for name, folded in self._folded.items()}

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
        """Apply the next change, or store a part of one until its last part arrives.

        Entries are copied only if a `ListState` was returned since the previous change, so the cost
        of thousands of changes in a row does not depend on the length of the list.

        Args:
            name: Name of the list.
            change_id: Id of the change, the same for all its parts.
            change: The change, or one part of it.
            author: Author of the change.
            time_ms: Time of the change, UTC epoch milliseconds.

        Raises:
            InvalidMessage: A value is not of the list's type, the change alters the type without
                replacing all entries, or its id is known with other content. The list stays as it
                was.
        """
        place = name, change_id, change.part
        digest = change.digest
        known = self._known.get(place)
        if known == digest:
            return
        if known is not None:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                f"content: expected what change {change_id} of the list {name} said before",
                "content",
            )
        if change.parts > 1:
            waiting = self._waiting.setdefault(f"{name}/{change_id}", [])
            if change.part == len(waiting) + 1:
                waiting.append(change)
                self._known[place] = digest
            if len(waiting) < change.parts:
                return
            parts = self._waiting.pop(f"{name}/{change_id}")
            digest = ListChange.joined(parts).digest
        else:
            parts = [change]
        if change.dropped:
            self._known[place] = digest
            with self._lock:
                self._folded.pop(name, None)
            return
        before = self._folded.get(name)
        if change.follows is not None:
            self._known.setdefault(place, digest)
            self._take_snapshot(name, change_id, parts)
            return
        if before is not None and before.type is not change.type and not change.replace:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                f"type: expected {before.type}, as the list {name} has been from its start",
                "type",
            )
        # Check all values before the list changes, so that an invalid one changes nothing.
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
            chained = digest if change.replace else f"{after.version}/{digest}"
            after.version = hashlib.sha256(chained.encode()).hexdigest()
            earlier = f"{after.earlier_version}/{change_id}"
            after.earlier_version = hashlib.sha256(earlier.encode()).hexdigest()[:EARLIER_DIGITS]
            after.last_change = change_id
            self._folded[name] = after
            self._known.setdefault(place, digest)

    def _take_snapshot(self, name: str, change_id: str, parts: Sequence[ListChange]) -> None:
        """Begin with a snapshot of a list whose earlier changes were removed."""
        snapshot = parts[-1]
        before = self._folded.get(name)
        if before is not None:
            # The snapshot says what is known, or it is void. A change that follows names it.
            if before.last_change == snapshot.follows:
                before.last_change = change_id
            return
        after = _Folded(snapshot)
        after.description = snapshot.description or ""
        after.version, after.last_change = snapshot.version or "", change_id
        for entry in chain.from_iterable(part.listed for part in parts):
            after.entries[normal(snapshot.type, entry.value)] = _kept(
                entry, entry.author, entry.added_ms
            )
        with self._lock:
            self._folded[name] = after

    @staticmethod
    def _opened(folded: _Folded, change: ListChange) -> _Folded:
        """Prepare a list for a change that must not affect the state that was returned last."""
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
