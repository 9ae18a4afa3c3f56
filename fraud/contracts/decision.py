"""The decision: what the record gains as its field `fd` on `processed_transactions` and over REST."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import DECISION_FIELD


class Outcome(StrEnum):
    """What to do with a transaction, from mildest to most severe: `approve` < `review` < `block`."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """Rank, 0 for approve; the highest of several outcomes wins."""
        return _SEVERITY[self]


_SEVERITY: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Reason(_Contract):
    """Why: a rule's own reason, a list, or one feature's part in the score."""

    code: Annotated[str, Field(description="Stable reason code, or the rule's id.")]
    text: Annotated[str, Field(description="The reason in words a person understands.")]
    contribution: Annotated[
        float | None,
        Field(description="Part of the feature in the log odds of fraud (TreeSHAP); above 0 raises the score. Null for a reason that is no feature."),
    ]  # fmt: skip


class RuleHit(_Contract):
    """A rule that matched."""

    id: Annotated[str, Field(description="Stable rule id.")]
    version: Annotated[int, Field(ge=1, description="Version of the rule.")]
    outcome: Annotated[Outcome, Field(description="Outcome that the rule asks for.")]


class ListHit(_Contract):
    """A list that the transaction is on, of those that mean something by themselves."""

    name: Annotated[str, Field(description="The list's name.")]
    use: Annotated[str, Field(description="What being on it means: allow, block or watch.")]
    field: Annotated[str, Field(description="The field whose value is on it.")]


class Versions(_Contract):
    """What `policy_version` pins, by name: all that is needed to decide again."""

    rules: Annotated[str, Field(description="Version of the rule set.")]
    lists: Annotated[dict[str, str], Field(description="Version of each list.")]


class ModelRef(_Contract):
    """The model that scored."""

    name: str
    version: Annotated[str, Field(description="Content hash of the model, shortened.")]


class Shadow(_Contract):
    """What the challenger would have decided: recorded, never acted on."""

    outcome: Annotated[Outcome, Field(description="Its outcome.")]
    score: Annotated[int | None, Field(ge=0, le=1000, description="Its score.")]
    probability: Annotated[float | None, Field(ge=0, le=1, description="Its model's output.")]
    rules: Annotated[list[RuleHit], Field(description="Rules that matched.")]
    model: ModelRef
    rules_version: Annotated[str, Field(description="Version of its rule set.")]


class Source(_Contract):
    """Coordinates of the input record on Kafka."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    timestamp_ms: Annotated[int, Field(description="Kafka's timestamp, UTC epoch milliseconds.")]


class Decision(_Contract):
    """The field `fd`. Times in milliseconds; score and probability: high = fraud."""

    outcome: Annotated[Outcome, Field(description="What to do with the transaction.")]
    outcomes: Annotated[
        list[Outcome], Field(description="Outcomes of all rules that matched, in their order.")
    ]
    score: Annotated[
        int | None,
        Field(ge=0, le=1000, description="0-1000, tied to the false-positive rate: 900 at 2 %, 950 at 1 %. Null when scoring failed."),
    ]  # fmt: skip
    probability: Annotated[
        float | None, Field(ge=0, le=1, description="The model's output. Null when scoring failed.")
    ]
    reasons: Annotated[list[Reason], Field(description="Empty for approve.")]
    rules: Annotated[list[RuleHit], Field(description="Rules that matched and count.")]
    lists: Annotated[list[ListHit], Field(description="Lists that the transaction is on.")] = []
    model: ModelRef
    versions: Annotated[Versions | None, Field(description="What policy_version pins.")] = None
    policy_version: Annotated[str, Field(description="Pins rules, lists, thresholds and models.")]
    features: Annotated[
        dict[str, float | None], Field(description="The feature vector by name; null = not known.")
    ]
    history: Annotated[
        dict[str, int],
        Field(description="Rows of history seen per key, the transaction itself not counted."),
    ]
    shadow: Annotated[
        Shadow | None,
        Field(description="What the challenger would have decided; null without one."),
    ] = None
    duplicate: Annotated[
        bool, Field(description="Whether the event_id was in its entity's history already.")
    ]
    scored_at: Annotated[
        str,
        Field(
            description="When scoring began, ISO 8601, UTC: the time that rules and lists are judged at."
        ),
    ]
    frauddetector_time: Annotated[
        float, Field(ge=0, description="Time in scoring, ms: of its whole batch.")
    ]
    proc_time: Annotated[float, Field(description="From event_time to the start of scoring, ms.")]
    ttdf: Annotated[float, Field(description="From event_time to the decision, ms.")]
    source: Annotated[Source | None, Field(description="Null over REST.")]


def decode_processed(raw: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read one record of `processed_transactions`.

    Only what every consumer relies on is checked: the decision comes from us.

    Returns:
        The input record's own fields, and the decision (`fd`), both as JSON has them.

    Raises:
        InvalidMessage: The value is not such a record.
    """
    if raw is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a JSON object, the value is null")
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidMessage(ErrorCode.NOT_JSON, "expected JSON in UTF-8") from None
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
    if (
        type(source) is not dict
        or not {"topic", "partition", "offset", "timestamp_ms"} <= source.keys()
    ):
        raise InvalidMessage(
            ErrorCode.MISSING_FIELD,
            f"{DECISION_FIELD}.source: expected topic, partition, offset and timestamp_ms",
            f"{DECISION_FIELD}.source",
        )
    return record, decision
