"""The decision: field `fd` of `processed_transactions`, and the answer of `POST /v1/score`.

`Decision` declares the type, index mapping and meaning of each field once. The JSON that the engine
writes, also when scoring failed, the index template, the columns that readers of past decisions
parse, the schema and docs/decision.md are all derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.json_values import loads
from fraud.contracts.transaction import DECISION_FIELD, MAX_RECORD_BYTES

MAX_PROCESSED_BYTES: Final = 2 * MAX_RECORD_BYTES
"""Longest value of `processed_transactions`, unpacked: a record with its decision is shorter."""


class Outcome(StrEnum):
    """What to do with a transaction, from mildest to most severe: `approve` < `review` < `block`."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """Rank of the outcome, 0 for approve; the most severe of several outcomes wins."""
        return _SEVERITY[self]


_SEVERITY: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}


class Mark(StrEnum):
    """Something unusual about a record, whatever its outcome."""

    EVENT_ID_REUSED = "EVENT_ID_REUSED"
    """Another event of its entity has the same event_id."""
    EVENT_TIME_AHEAD = "EVENT_TIME_AHEAD"
    """Its event_time is too far ahead of its arrival; it was scored as of its arrival."""
    EVENT_TIME_BEHIND = "EVENT_TIME_BEHIND"
    """Its event_time is far behind its arrival; it was scored as of its event_time."""


class Indexed(StrEnum):
    """How OpenSearch indexes a field; `indexer.template` has the mapping for each member."""

    KEYWORD = "keyword"
    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    DOUBLE = "double"
    DATE = "date"
    EPOCH_MS = "date, epoch milliseconds"
    FEATURES = "float by feature"
    COUNTS = "integer by key"
    STORED = "kept, not indexed"


class Shared(StrEnum):
    """What alone determines a field: decisions with the same ruling or policy share its JSON."""

    BY_RULING = "ruling"
    BY_POLICY = "policy"


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Reason(_Contract):
    """A reason for the outcome: a rule, a list, or one feature's contribution to the score."""

    code: Annotated[
        str, Indexed.KEYWORD, Field(description="Stable reason code, or the rule's id.")
    ]
    text: Annotated[
        str, Indexed.TEXT, Field(description="The reason in words a person understands.")
    ]
    contribution: Annotated[
        float | None,
        Indexed.DOUBLE,
        Field(description="Part of the feature in the log odds of fraud (TreeSHAP); above 0 raises the score. Null for the reason of a rule or list."),
    ]  # fmt: skip


class RuleHit(_Contract):
    """A rule that matched."""

    id: Annotated[str, Indexed.KEYWORD, Field(description="Stable rule id.")]
    version: Annotated[int, Indexed.INTEGER, Field(ge=1, description="Version of the rule.")]
    outcome: Annotated[
        Outcome, Indexed.KEYWORD, Field(description="Outcome that the rule asks for.")
    ]


class ListHit(_Contract):
    """An allow, block or watch list that the transaction is on."""

    name: Annotated[str, Indexed.KEYWORD, Field(description="The list's name.")]
    use: Annotated[
        str,
        Indexed.KEYWORD,
        Field(description="What being on it means: allow, block or watch."),
    ]
    field: Annotated[str, Indexed.KEYWORD, Field(description="The field whose value is on it.")]


class Versions(_Contract):
    """Versions of the rules and lists that `policy_version` pins."""

    rules: Annotated[str, Indexed.KEYWORD, Field(description="Version of the rule set.")]
    # Not indexed: users name the lists, and each name would become a field of the index.
    lists: Annotated[dict[str, str], Indexed.STORED, Field(description="Version of each list.")]


class ModelRef(_Contract):
    """The model that scored."""

    name: Annotated[str, Indexed.KEYWORD, "Name of the model."]
    version: Annotated[
        str, Indexed.KEYWORD, Field(description="Content hash of the model, shortened.")
    ]


class Shadow(_Contract):
    """What the challenger would have decided: recorded, never acted on."""

    outcome: Annotated[Outcome, Indexed.KEYWORD, Field(description="Its outcome.")]
    score: Annotated[int | None, Indexed.INTEGER, Field(ge=0, le=1000, description="Its score.")]
    probability: Annotated[
        float | None, Indexed.DOUBLE, Field(ge=0, le=1, description="Its model's output.")
    ]
    rules: Annotated[list[RuleHit], Field(description="Rules that matched.")]
    model: Annotated[ModelRef, "The challenging model."]
    rules_version: Annotated[str, Indexed.KEYWORD, Field(description="Version of its rule set.")]


class Source(_Contract):
    """Coordinates of the input record on Kafka."""

    topic: Annotated[str, Indexed.KEYWORD, "Topic of the input."]
    partition: Annotated[int, Indexed.INTEGER, "Partition of the topic.", Field(ge=0)]
    offset: Annotated[int, Indexed.LONG, "Offset in the partition.", Field(ge=0)]
    timestamp_ms: Annotated[
        int, Indexed.EPOCH_MS, Field(description="Kafka's timestamp, UTC epoch milliseconds.")
    ]


class Decision(_Contract):
    """The field `fd`. Durations are in milliseconds; a high score or probability means fraud."""

    outcome: Annotated[
        Outcome,
        Indexed.KEYWORD,
        Shared.BY_RULING,
        Field(description="What to do with the transaction."),
    ]
    outcomes: Annotated[
        list[Outcome],
        Indexed.KEYWORD,
        Shared.BY_RULING,
        Field(description="Outcomes of all rules that matched, in their order."),
    ]
    score: Annotated[
        int | None,
        Indexed.INTEGER,
        Field(ge=0, le=1000, description="0-1000, tied to the false-positive rate: 900 at 2 %, 950 at 1 %. Null when scoring failed."),
    ]  # fmt: skip
    probability: Annotated[
        float | None,
        Indexed.DOUBLE,
        Field(ge=0, le=1, description="The model's output. Null when scoring failed."),
    ]
    reasons: Annotated[
        list[Reason], Field(description="Of an approved transaction only those of its marks.")
    ]
    rules: Annotated[
        list[RuleHit], Shared.BY_RULING, Field(description="Rules that matched and count.")
    ]
    lists: Annotated[
        list[ListHit], Shared.BY_RULING, Field(description="Lists that the transaction is on.")
    ] = []
    model: Annotated[ModelRef, Shared.BY_POLICY, "The model that scored."]
    versions: Annotated[
        Versions | None, Shared.BY_POLICY, Field(description="What policy_version pins.")
    ] = None
    policy_version: Annotated[
        str,
        Indexed.KEYWORD,
        Shared.BY_POLICY,
        Field(description="Pins rules, lists, thresholds and models."),
    ]
    features: Annotated[
        dict[str, float | None],
        Indexed.FEATURES,
        Field(description="The feature vector by name; null = not known."),
    ]
    history: Annotated[
        dict[str, int],
        Indexed.COUNTS,
        Field(description="Rows of history seen per key, the transaction itself not counted."),
    ]
    shadow: Annotated[
        Shadow | None,
        Field(description="What the challenger would have decided; null without one."),
    ] = None
    duplicate: Annotated[
        bool,
        Indexed.BOOLEAN,
        Field(description="Whether the event was in its entity's history already: the same event_id, amount, currency, card_bin and merchant_id."),
    ]  # fmt: skip
    marks: Annotated[
        list[Mark], Indexed.KEYWORD, Field(description="What is unusual about the record.")
    ] = []
    scored_at: Annotated[
        str,
        Indexed.DATE,
        Field(
            description="When scoring began, ISO 8601, UTC: the time that rules and lists are judged at."
        ),
    ]
    frauddetector_time: Annotated[
        float, Indexed.DOUBLE, Field(ge=0, description="Time in scoring, ms: of its whole batch.")
    ]
    proc_time: Annotated[
        float,
        Indexed.DOUBLE,
        Field(description="From event_time to the start of scoring, ms."),
    ]
    ttdf: Annotated[
        float, Indexed.DOUBLE, Field(description="From event_time to the decision, ms.")
    ]
    source: Annotated[Source | None, Field(description="Null over REST.")]


@dataclass(frozen=True, slots=True)
class DecisionField:
    """A declared field of the decision or of one of its parts.

    Attributes:
        name: Key in the JSON object.
        annotation: Python type.
        parts: Class that declares the keys of the value or of its items; None for a plain value.
        is_list: Whether the value is a list.
        is_nullable: Whether the value may be null.
        is_required: Whether the key must be present.
        indexed: How the field is indexed; None if the fields of `parts` are indexed instead.
        shared: What alone determines the value; None if each decision has its own.
        meaning: One sentence for the docs.
    """

    name: str
    annotation: Any
    parts: type[BaseModel] | None
    is_list: bool
    is_nullable: bool
    is_required: bool
    indexed: Indexed | None
    shared: Shared | None
    meaning: str

    @property
    def empty(self) -> bytes:
        """JSON of an unknown value: null, or an empty list or object."""
        if self.is_nullable:
            return b"null"
        return b"[]" if self.is_list else b"{}"


@cache
def fields_of(declaration: type[BaseModel]) -> tuple[DecisionField, ...]:
    """Return the fields of `Decision` or of one of its parts, in declaration order."""
    return tuple(_read_field(name, field) for name, field in declaration.model_fields.items())


def _read_field(name: str, field: FieldInfo) -> DecisionField:
    annotation: Any = field.annotation
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    value = next(option for option in options if option is not NoneType)
    is_list = get_origin(value) is list
    item = get_args(value)[0] if is_list else value
    # Metadata is told apart by type: `Indexed`, `Shared`, or the meaning as a plain text.
    said = {type(entry): entry for entry in field.metadata}
    return DecisionField(
        name=name,
        annotation=annotation,
        parts=item if isinstance(item, type) and issubclass(item, BaseModel) else None,
        is_list=is_list,
        is_nullable=NoneType in options,
        is_required=field.is_required(),
        indexed=said.get(Indexed),
        shared=said.get(Shared),
        meaning=field.description or said[str],
    )


def decode_processed(raw: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse one record of `processed_transactions`.

    Checks only what every consumer relies on, because the engine wrote the decision.

    Returns:
        The fields of the input record, and the decision (`fd`), both as parsed JSON.

    Raises:
        InvalidMessage: The value is not a transaction with a decision.
    """
    if raw is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a JSON object, the value is null")
    if len(raw) > MAX_PROCESSED_BYTES:
        raise InvalidMessage(
            ErrorCode.TOO_LARGE, f"expected a record of at most {MAX_PROCESSED_BYTES} bytes"
        )
    record = loads(raw)
    if type(record) is not dict:
        raise InvalidMessage(ErrorCode.NOT_AN_OBJECT, "expected a JSON object")
    decision = record.pop(DECISION_FIELD, None)
    if type(decision) is not dict:
        raise InvalidMessage(
            ErrorCode.MISSING_FIELD, f"{DECISION_FIELD}: expected a decision", DECISION_FIELD
        )
    if decision.get("outcome") not in _SEVERITY:
        raise InvalidMessage(
            ErrorCode.OUT_OF_RANGE,
            f"{DECISION_FIELD}.outcome: expected one of {', '.join(Outcome)}",
            f"{DECISION_FIELD}.outcome",
        )
    source = decision.get("source")
    if type(source) is not dict or not Source.model_fields.keys() <= source.keys():
        raise InvalidMessage(
            ErrorCode.MISSING_FIELD,
            f"{DECISION_FIELD}.source: expected topic, partition, offset and timestamp_ms",
            f"{DECISION_FIELD}.source",
        )
    return record, decision
