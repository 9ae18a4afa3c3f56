"""Read past decisions from `processed_transactions`, parsing only the fields that are needed."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pydantic import BaseModel

from fraud.contracts.decision import Decision, DecisionField, Source, fields_of
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.json_values import loads
from fraud.contracts.label import LabelValue
from fraud.contracts.transaction import DECISION_FIELD, FIELD_BY_NAME, event_time_to_ms
from fraud.decision.columns import BatchColumns, read_values
from fraud.decision.lists import Lookup
from fraud.decision.policy import RuleEvaluator, Ruling
from fraud.decision.rule_sets import CompiledRules
from fraud.decision.scorer import Scorer
from fraud.features.declaration import AMOUNT
from fraud.features.vector import FEATURE_AT, FEATURE_NAMES

UNKNOWN, LEGITIMATE, FRAUD = 0, 1, 2
"""What labels say about a transaction."""


class PastDecision(Decision):
    """Declared type of the decisions that `PastReader` returns.

    The objects are msgspec structs that have only the requested fields (see `struct_of`), since
    these are decoded several times as fast.
    """

    source: Annotated[Source, "Never null on the stream."]
    features: Annotated[Any, "An attribute for each that was asked for."]


ALWAYS_READ: Final = ("outcome", "source", "scored_at", "score", "probability", "duplicate")
"""Fields of the decision that are always read."""


@cache
def struct_of(declaration: type[BaseModel], names: Collection[str] | None = None) -> type[Struct]:
    """Return a struct type for some fields of a model; the types of these fields are complete.

    Args:
        declaration: `PastDecision`, or the model of one of its fields.
        names: Names of the fields, None for all.
    """
    # Decoded structs hold no reference cycles, so gc=False spares the collector a scan of them.
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
    """Names of what is read from each record.

    Attributes:
        fields: Fields of the transaction.
        features: Features of the decision.
    """

    fields: frozenset[str]
    features: frozenset[str]

    @classmethod
    def by(cls, rules: Iterable[CompiledRules], lists: Iterable[Lookup]) -> Wanted:
        """Return what rules and lists need for their evaluation."""
        names = {
            name for rule_set in rules for rule in rule_set for name in rule.expression.variables
        }
        names |= {lookup.type.field for lookup in lists if lookup.type.field is not None}
        return cls(
            frozenset(name for name in names if name in FIELD_BY_NAME and name not in FEATURE_AT),
            frozenset(name for name in names if name in FEATURE_AT),
        )

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(self.fields | other.fields, self.features | other.features)


@lru_cache(maxsize=65_536)
def _ms(text: str) -> int:
    # Cached, since all decisions of a batch have the same time.
    return event_time_to_ms(text)


class PastDecisions:
    """Decisions of n transactions, as read by `PastReader`.

    Args:
        rows: The records, with fields of the transaction and the decision as `fd`.
        features: Names of the features that were read.
    """

    def __init__(self, rows: Sequence[Any], features: Sequence[str]) -> None:
        self.rows = rows
        self.decisions: list[PastDecision] = [row.fd for row in rows]
        self._features = features
        self._columns: dict[str, Sequence[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: Sequence[int]) -> PastDecisions:
        """Return the decisions at these indices."""
        return PastDecisions([self.rows[place] for place in chosen], self._features)

    @property
    def event_ids(self) -> list[str]:
        """Event ids of the transactions."""
        return [row.event_id for row in self.rows]

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
        """Feature vectors, shape (n, features); NaN where a feature is unknown or was not read.

        The values are exact: in JSON, a float32 has enough digits to restore its bits.
        """
        matrix = np.full((len(self), len(FEATURE_NAMES)), np.nan, np.float32)
        if self._features and len(self):
            # The features struct was declared with its fields in the order of `_features`.
            known = [msgspec.structs.astuple(decision.features) for decision in self.decisions]
            matrix[:, [FEATURE_AT[name] for name in self._features]] = np.array(known, np.float32)
        return matrix

    @property
    def amounts(self) -> NDArray[np.float32]:
        """Amounts in the base currency, shape (n,), NaN without a rate; needs feature `AMOUNT`."""
        return self.matrix[:, FEATURE_AT[AMOUNT]]

    @cached_property
    def scores(self) -> list[int]:
        """Scores, 0-1000; 0 where scoring failed."""
        return [decision.score or 0 for decision in self.decisions]

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities, 0-1, shape (n,); NaN where scoring failed."""
        return np.array([decision.probability for decision in self.decisions], np.float64)

    @cached_property
    def scored_at_ms(self) -> NDArray[np.int64]:
        """Times at which rules and lists were evaluated, UTC epoch milliseconds, shape (n,)."""
        return np.array([_ms(decision.scored_at) for decision in self.decisions], np.int64)


class Redecided(NamedTuple):
    """Results of deciding n transactions again.

    Attributes:
        rulings: Rulings of rules and lists.
        scores: Scores, 0-1000, high = fraud.
        probabilities: Probabilities, 0-1, high = fraud, shape (n,).
    """

    rulings: list[Ruling]
    scores: list[int]
    probabilities: NDArray[np.float64]


def redecide(
    past: PastDecisions, evaluator: RuleEvaluator, scorer: Scorer | None = None
) -> Redecided:
    """Decide past transactions again by the stream's code, on their stored features and fields.

    Args:
        past: The transactions, with their decisions.
        evaluator: Rules and lists. A list entry counts if it had not expired at the decision.
        scorer: The model; None keeps the published scores.
    """
    scores, probabilities = past.scores, past.probabilities
    if scorer is not None:
        probabilities = scorer.predict(past.matrix)
        scores = scorer.scale.score(probabilities).tolist()
    columns = BatchColumns(
        past.matrix, scores, probabilities, past, evaluator.lists, past.scored_at_ms
    )
    return Redecided(evaluator.evaluate(columns), scores, probabilities)


class PastReader:
    """Decode values of `processed_transactions`, and count those that are left out.

    Args:
        wanted: Fields of the transaction and features to read.
        fields: Fields of the decision to read besides `ALWAYS_READ`.

    Attributes:
        total: Values read.
        unreadable: Values that could not be decoded.
        duplicates: Decisions that `read_once` left out because their event was decided before.
        repeated: Decisions that it left out because they were published again.
        unscored: Decisions that it left out because scoring had failed.
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
        self._record = record
        self._decode = msgspec.json.Decoder(record).decode
        self._seen = _SeenSources()
        self.total = self.unreadable = self.duplicates = self.repeated = self.unscored = 0

    def read(self, values: Sequence[bytes | None]) -> PastDecisions:
        """Decode values in order; those that cannot be decoded are counted and left out."""
        self.total += len(values)
        rows = []
        decode = self._decode
        for value in values:
            try:
                rows.append(decode(value or b""))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._read_leniently(value or b"", rows)
        return PastDecisions(rows, self._features)

    def _read_leniently(self, value: bytes, rows: list[Any]) -> None:
        """Decode a value that msgspec cannot: it refuses escapes that undeclared fields may have."""
        try:
            rows.append(msgspec.convert(loads(value), self._record))
        except (msgspec.MsgspecError, InvalidMessage):
            self.unreadable += 1

    def read_once(self, values: Sequence[bytes | None]) -> PastDecisions:
        """Decode values, and keep the first decision of each transaction, if it has a score."""
        past = self.read(values)
        chosen = list(self._chosen(past))
        return past if len(chosen) == len(past) else past.select(chosen)

    def _chosen(self, past: PastDecisions) -> Iterator[int]:
        for place, decision in enumerate(past.decisions):
            if decision.duplicate:
                self.duplicates += 1
            elif not self._seen.add(decision.source):
                self.repeated += 1
            elif decision.score is None:
                self.unscored += 1
            else:
                yield place


_CHUNK_BYTES: Final = 4096


class _SeenSources:
    """Set of source coordinates, with one bit per offset in chunks of neighbouring offsets."""

    def __init__(self) -> None:
        self._chunks: defaultdict[tuple[str, int, int], bytearray] = defaultdict(
            lambda: bytearray(_CHUNK_BYTES)
        )

    def add(self, source: Source) -> bool:
        """Add coordinates, and return whether they are new."""
        byte, bit = divmod(source.offset, 8)
        number, place = divmod(byte, _CHUNK_BYTES)
        chunk = self._chunks[source.topic, source.partition, number]
        if chunk[place] & 1 << bit:
            return False
        chunk[place] |= 1 << bit
        return True


class _Label(msgspec.Struct, gc=False):
    event_id: str
    label: LabelValue


class KnownLabels:
    """Labels by event; the last label of an event counts.

    Events are compared by 64-bit hashes of their ids. With ten million labels and a million
    transactions, about one run in two million confuses two events.
    """

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Label).decode
        self._events = array("q")
        self._values = array("b")
        self._sorted: tuple[NDArray[np.int64], NDArray[np.int8]] | None = None

    def add(self, values: Iterable[bytes | None]) -> None:
        """Add values of the topic `labels`, in topic order; invalid labels are ignored."""
        self._sorted = None
        for value in values:
            try:
                label = self._decode(value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self._events.append(hash(label.event_id))
            self._values.append(FRAUD if label.label is LabelValue.FRAUD else LEGITIMATE)

    def of(self, event_ids: Collection[str]) -> NDArray[np.int8]:
        """Return `UNKNOWN`, `LEGITIMATE` or `FRAUD` for each event, shape (n,)."""
        if self._sorted is None:
            events = np.frombuffer(self._events, np.int64)[::-1]
            # `unique` returns the first index of each event; as the order is reversed, this is
            # its last label.
            known, places = np.unique(events, return_index=True)
            self._sorted = known, np.frombuffer(self._values, np.int8)[::-1][places]
        known, values = self._sorted
        asked = np.fromiter(map(hash, event_ids), np.int64, len(event_ids))
        if not len(known):
            return np.zeros(len(asked), np.int8)
        places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(known[places] == asked, values[places], np.int8(UNKNOWN))
