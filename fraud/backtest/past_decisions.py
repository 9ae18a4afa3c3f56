"""Past decisions, read from records of `processed_transactions` only as far as they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pydantic import BaseModel

from fraud.contracts.decision import Decision, DecisionField, Source, fields_of
from fraud.contracts.label import LabelValue
from fraud.contracts.transaction import DECISION_FIELD, FIELD_BY_NAME, event_time_to_ms
from fraud.decision.columns import Columns, read_values
from fraud.decision.lists import Lookup
from fraud.decision.rule_sets import CompiledRules
from fraud.features.vector import FEATURE_AT, FEATURE_NAMES

UNKNOWN, LEGITIMATE, FRAUD = 0, 1, 2
"""What a transaction turned out to be, as far as it is known."""


class PastDecision(Decision):
    """The type of what a reader returns: a decision of the stream, as far as it was asked for.

    The objects themselves are msgspec structs of the fields that were asked for, see `struct_of`:
    they are read several times as fast.
    """

    source: Annotated[Source, "Never null on the stream."]
    features: Annotated[Any, "An attribute for each that was asked for."]


ALWAYS_READ: Final = ("outcome", "source", "scored_at", "score", "probability", "duplicate")
"""Fields that are read of every decision."""


@cache
def struct_of(declaration: type[BaseModel], names: Collection[str] | None = None) -> type[Struct]:
    """Make the struct that reads some fields of a declaration; all of its parts.

    Args:
        declaration: `PastDecision` or a part of it.
        names: The fields, None for all.
    """
    return msgspec.defstruct(
        declaration.__name__,
        [
            (field.name, _struct_type(field))
            if field.is_required
            else (field.name, _struct_type(field), declaration.model_fields[field.name].default)
            for field in fields_of(declaration)
            if names is None or field.name in names
        ],
        frozen=True,
        gc=False,
        kw_only=True,
    )


def _struct_type(field: DecisionField) -> Any:
    if field.parts is None:
        return field.annotation
    parts: Any = struct_of(field.parts)
    if field.is_list:
        return list[parts]
    return parts | None if field.is_nullable else parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of the records.

    Attributes:
        fields: Of the input's own fields, by name.
        features: Of the features, by name.
    """

    fields: frozenset[str]
    features: frozenset[str]

    @classmethod
    def by(cls, rules: Iterable[CompiledRules], lists: Iterable[Lookup]) -> Wanted:
        """Return what rules and lists need to evaluate a decision."""
        names = {name for one in rules for rule in one for name in rule.expression.variables}
        names |= {one.type.field for one in lists if one.type.field is not None}
        return cls(
            frozenset(name for name in names if name in FIELD_BY_NAME and name not in FEATURE_AT),
            frozenset(name for name in names if name in FEATURE_AT),
        )

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(self.fields | other.fields, self.features | other.features)


ALL: Final = Wanted(frozenset(FIELD_BY_NAME), frozenset(FEATURE_NAMES))


@lru_cache(maxsize=65_536)
def _ms(text: str) -> int:
    # All decisions of a batch have the same one.
    return event_time_to_ms(text)


class Past:
    """Decisions of n transactions; `PastReader` makes it.

    Args:
        rows: The records: fields, and the decision as `fd`.
        features: Names of those that were read.
    """

    def __init__(self, rows: Sequence[Any], features: Sequence[str]) -> None:
        self.rows = rows
        self.decisions: list[PastDecision] = [row.fd for row in rows]
        self._features = features
        self._columns: dict[str, Sequence[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, chosen: Sequence[int]) -> Past:
        """Return some of them, by their places."""
        return Past([self.rows[at] for at in chosen], self._features)

    def column(self, name: str) -> Sequence[Any]:
        """Return one field of all transactions, see `fraud.decision.columns.Fields`."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = read_values(
                FIELD_BY_NAME[name], list(map(attrgetter(name), self.rows))
            )
        return column

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """Feature vectors, shape (n, features); NaN where it is not known, or was not read.

        JSON has a float32 in as many digits as give the same bits again.
        """
        matrix = np.full((len(self), len(FEATURE_NAMES)), np.nan, np.float32)
        if self._features and len(self):
            # The struct's values are in the order of its features.
            known = [msgspec.structs.astuple(one.features) for one in self.decisions]
            matrix[:, [FEATURE_AT[name] for name in self._features]] = np.array(known, np.float32)
        return matrix

    @cached_property
    def scores(self) -> list[int]:
        """Scores, 0-1000."""
        return [one.score or 0 for one in self.decisions]

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities, 0-1; NaN where scoring failed."""
        return np.array([one.probability for one in self.decisions], np.float64)

    @cached_property
    def scored_at_ms(self) -> NDArray[np.int64]:
        """When rules and lists were judged, UTC epoch milliseconds."""
        return np.array([_ms(one.scored_at) for one in self.decisions], np.int64)

    def columns(self, lists: Mapping[str, Lookup]) -> Columns:
        """Return what rules may ask of them, as it was when they were decided.

        Args:
            lists: By name; entries count that had not expired then.
        """
        return Columns(self.matrix, self.scores, self.probabilities, self, lists, self.scored_at_ms)


class PastReader:
    """Reads values of `processed_transactions`.

    Args:
        wanted: What is read of record and features.
        fields: Fields of the decision, read besides `ALWAYS_READ`.
    """

    def __init__(self, wanted: Wanted, fields: Sequence[str] = ()) -> None:
        self._features = sorted(wanted.features)
        features = msgspec.defstruct(
            "Features", [(name, float | None, None) for name in self._features], gc=False
        )
        decision = msgspec.defstruct(
            "WithFeatures",
            [("features", features, msgspec.field(default_factory=features))],
            bases=(struct_of(PastDecision, (*ALWAYS_READ, *fields)),),
            frozen=True,
            gc=False,
            kw_only=True,
        )
        own_fields = sorted(wanted.fields | {"event_id"})
        record = msgspec.defstruct(
            "Record",
            [(DECISION_FIELD, decision), *((name, Any, None) for name in own_fields)],
            gc=False,
        )
        self._decode = msgspec.json.Decoder(record).decode
        self.unreadable = 0
        """Values that are no such records; they are passed over."""

    def read(self, values: Iterable[bytes | None]) -> Past:
        """Read values, in their order."""
        rows = []
        decode = self._decode
        for value in values:
            try:
                rows.append(decode(value or b""))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.unreadable += 1
        return Past(rows, self._features)


class Once:
    """Tells a transaction that was seen from one that was not: by its coordinates, a bit for each."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[str, int, int], bytearray] = {}

    def first(self, source: Source) -> bool:
        """Return whether it is the first with these coordinates, and remember them."""
        key = (source.topic, source.partition, source.offset >> 15)
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._chunks[key] = bytearray(4096)
        at, bit = (source.offset >> 3) & 4095, 1 << (source.offset & 7)
        if chunk[at] & bit:
            return False
        chunk[at] |= bit
        return True


class _Label(msgspec.Struct, gc=False):
    event_id: str
    label: LabelValue


class Labels:
    """What transactions turned out to be; of several labels of an event the last one counts.

    Events are told apart by 64 bits of their ids: of ten million labels and a million transactions
    one in two million such runs takes one for another.
    """

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Label).decode
        self._events = array("q")
        self._values = array("b")
        self._sorted: tuple[NDArray[np.int64], NDArray[np.int8]] | None = None
        self.unreadable = 0
        """Values that are no labels; they are passed over."""

    def take(self, values: Iterable[bytes | None]) -> None:
        """Take values of the topic `labels`, in their order."""
        self._sorted = None
        for value in values:
            try:
                label = self._decode(value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.unreadable += 1
                continue
            self._events.append(hash(label.event_id))
            self._values.append(FRAUD if label.label is LabelValue.FRAUD else LEGITIMATE)

    def of(self, event_ids: Collection[str]) -> NDArray[np.int8]:
        """Return `UNKNOWN`, `LEGITIMATE` or `FRAUD` for each event, shape (n,)."""
        if self._sorted is None:
            events = np.frombuffer(self._events, np.int64)[::-1]
            # The first of the reversed ones is the last.
            known, at = np.unique(events, return_index=True)
            self._sorted = known, np.frombuffer(self._values, np.int8)[::-1][at]
        known, values = self._sorted
        asked = np.fromiter(map(hash, event_ids), np.int64, len(event_ids))
        if not len(known):
            return np.zeros(len(asked), np.int8)
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(known[at] == asked, values[at], np.int8(UNKNOWN))
