"""The engine: decides packed transactions from their features and history.

The stream's UDF and the REST endpoint both decide by it alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.decision import Decision, Mark, Outcome, Shared, fields_of
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import EventTime
from fraud.contracts.versions import shown
from fraud.decision.columns import BatchColumns, Fields
from fraud.decision.encoding import DECISION, SHADOW, shared_json
from fraud.decision.policy import Policy, RuleEvaluator, Ruling, shown_model
from fraud.decision.reasons import SCORING_FAILED, mark_reasons, top_reasons
from fraud.decision.scorer import Scorer
from fraud.features.catalogue import KEYS
from fraud.features.packing import Packed
from fraud.features.vector import FEATURE_NAMES, vectors

_FEATURES_JSON: Final = (
    b"{" + b",".join(orjson.dumps(name) + b":%b" for name in FEATURE_NAMES) + b"}"
)
_HISTORY_JSON: Final = b"{" + b",".join(orjson.dumps(key.name) + b":%d" for key in KEYS) + b"}"
_NULL: Final = b"null"
_EVENT_TIME_MARKS: Final = {
    EventTime.AHEAD: Mark.EVENT_TIME_AHEAD,
    EventTime.BEHIND: Mark.EVENT_TIME_BEHIND,
}
_FAILED_RULING: Final = shared_json(
    Shared.BY_RULING,
    {"outcome": Outcome.REVIEW, "outcomes": [Outcome.REVIEW], "rules": [], "lists": []},
)
_FAILED_REASONS: Final = orjson.dumps(
    [
        {
            "code": SCORING_FAILED,
            "text": "Scoring failed, so a person has to look.",
            "contribution": None,
        }
    ]
)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, with the errors that occurred.

    Attributes:
        outcome: Outcome of the decision.
        json: The field `fd`, as JSON.
        error: Type of the exception if scoring failed (the outcome is then review), else empty.
        shadow_error: Type of the exception if the challenger failed, else empty. The decision does
            not depend on it.
        marks: What is unusual about the record.
    """

    outcome: Outcome
    json: bytes
    error: str = ""
    shadow_error: str = ""
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class TransactionBatch:
    """Transactions that are decided together; all attributes have length n.

    Attributes:
        packed: The transactions.
        fields: Their fields, parsed only if a rule or list needs one.
        rings: Per key, each transaction's ring after it was added; empty if it lacks the key.
        duplicates: Whether the event was already in its entity's ring: the same id and content.
        sources: Coordinates of the input record as the contract's `Source`; None over REST.
    """

    packed: Packed
    fields: Fields
    rings: Mapping[str, Sequence[bytes]]
    duplicates: Sequence[bool]
    sources: Sequence[Mapping[str, Any] | None]

    def __len__(self) -> int:
        return len(self.packed)

    def row(self, at: int) -> TransactionBatch:
        """Return a batch of the transaction at one position."""
        return TransactionBatch(
            Packed(
                {key: values[at : at + 1] for key, values in self.packed.keys.items()},
                {key: rows[at : at + 1] for key, rows in self.packed.records.items()},
                self.packed.own[at : at + 1],
                self.packed.event_times[at : at + 1],
            ),
            _OneRow(self.fields, at),
            {key: rings[at : at + 1] for key, rings in self.rings.items()},
            self.duplicates[at : at + 1],
            self.sources[at : at + 1],
        )


@dataclass(frozen=True, slots=True)
class _OneRow:
    fields: Fields
    at: int

    def column(self, name: str) -> Sequence[Any]:
        return self.fields.column(name)[self.at : self.at + 1]


class Engine:
    """Scores and decides batches with one policy and its models.

    Args:
        scorer: The model that the policy names.
        policy: Rules, lists and models.
        clock: Returns the current time, UTC epoch milliseconds.
        timer: Returns monotonic seconds, for `frauddetector_time`.
        challenger: Model of the challenger; None without one, or if it uses the same model.
    """

    def __init__(
        self,
        scorer: Scorer,
        policy: Policy,
        clock: Callable[[], int],
        timer: Callable[[], float] = time.perf_counter,
        challenger: Scorer | None = None,
    ) -> None:
        self.scorer = scorer
        self.policy = policy
        self._clock = clock
        self._timer = timer
        self._pinned = shared_json(Shared.BY_POLICY, policy.named)
        self._evaluator = RuleEvaluator(policy.rules, policy.lists)
        self._shadow: _Shadow | None = None
        if policy.challenge is not None:
            self._shadow = _Shadow(
                challenger or scorer, RuleEvaluator(policy.challenge.rules, policy.lists)
            )

    def decide(self, batch: TransactionBatch) -> list[Decided]:
        """Return the decisions of a batch, in order.

        A bad transaction never raises: if its scoring fails, the outcome is review with the reason
        `SCORING_FAILED`.
        """
        if not len(batch):
            return []
        started_ms, started = self._clock(), self._timer()
        try:
            matrix, history, reused = vectors(batch.packed, batch.rings)
            marks = _marks(batch, reused)
            probabilities = self.scorer.predict(matrix)
            scores = self.scorer.scale.score(probabilities).tolist()
            columns = BatchColumns(
                matrix, scores, probabilities, batch.fields, self._evaluator.lists, started_ms
            )
            rulings = self._evaluator.evaluate(columns)
            reasons = self._reasons(matrix, rulings)
            for row, of_row in marks.items():
                reasons[row] = [*mark_reasons(of_row), *reasons.get(row, ())]
        except Exception as error:
            # One bad row fails the whole batch, so every row is decided again by itself.
            if len(batch) > 1:
                return [
                    decided for row in range(len(batch)) for decided in self.decide(batch.row(row))
                ]
            return [self._failed(batch, started_ms, started, error)]
        shadows, shadow_error = self._shadows(columns, matrix, scores, probabilities)
        # Splits `[[1.0,null],[2.0,3.0]]` into its rows, without their brackets.
        features = orjson.dumps(matrix, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
        taken_ms = (self._timer() - started) * 1000
        json = DECISION.encode(
            {
                **self._unscored_fields(batch, started_ms, taken_ms),
                Shared.BY_RULING: [ruling.json for ruling in rulings],
                "score": _items(orjson.dumps(scores)),
                "probability": _items(orjson.dumps(probabilities.tolist())),
                "reasons": [
                    orjson.dumps(reasons[row]) if row in reasons else b"[]"
                    for row in range(len(batch))
                ],
                "features": [_FEATURES_JSON % tuple(row.split(b",")) for row in features],
                "history": [
                    _HISTORY_JSON % counts
                    for counts in zip(*(history[key.name] for key in KEYS), strict=True)
                ],
                "shadow": shadows or [_NULL] * len(batch),
                "marks": [
                    orjson.dumps(marks[row]) if row in marks else b"[]" for row in range(len(batch))
                ],
            }
        )
        return [
            Decided(ruling.outcome, decision, shadow_error=shadow_error, marks=marks.get(row, ()))
            for row, (ruling, decision) in enumerate(zip(rulings, json, strict=True))
        ]

    def _shadows(
        self,
        columns: BatchColumns,
        matrix: NDArray[np.float32],
        scores: Sequence[int],
        probabilities: NDArray[np.float64],
    ) -> tuple[list[bytes] | None, str]:
        """Return the `shadow` of each decision; None and the type of the error if the challenger fails."""
        if self._shadow is None:
            return None, ""
        try:
            if self._shadow.scorer is not self.scorer:
                probabilities = self._shadow.scorer.predict(matrix)
                scores = self._shadow.scorer.scale.score(probabilities).tolist()
                columns = columns.rescored(scores, probabilities)
            return self._shadow.decide(columns, scores, probabilities), ""
        except Exception as error:
            return None, type(error).__name__

    def _unscored_fields(
        self, batch: TransactionBatch, started_ms: int, taken_ms: float
    ) -> dict[str, list[bytes]]:
        """Return the JSON of the fields that do not depend on scoring."""
        count = len(batch)
        event_times = batch.packed.records[KEYS[0].name]["event_time_ms"].tolist()
        now_ms = self._clock()
        return {
            Shared.BY_POLICY: [self._pinned] * count,
            "duplicate": [b"true" if duplicate else b"false" for duplicate in batch.duplicates],
            # The time at which rules and lists were evaluated, needed to reproduce the decision.
            "scored_at": [b'"%b"' % utc_text(started_ms).encode()] * count,
            "frauddetector_time": [b"%.3f" % taken_ms] * count,
            "proc_time": [b"%d" % (started_ms - event_time_ms) for event_time_ms in event_times],
            "ttdf": [b"%d" % (now_ms - event_time_ms) for event_time_ms in event_times],
            "source": [orjson.dumps(source) for source in batch.sources],
        }

    def _reasons(
        self, matrix: NDArray[np.float32], rulings: Sequence[Ruling]
    ) -> dict[int, list[dict[str, Any]]]:
        """Return the reasons of each row that is not approved."""
        rows = [row for row, ruling in enumerate(rulings) if ruling.outcome is not Outcome.APPROVE]
        if not rows:
            return {}
        # Computing contributions takes time, and approved rows show no reasons.
        explained = np.ascontiguousarray(matrix[rows])
        contributions = self.scorer.contributions(explained)
        return {
            row: [*rulings[row].reasons, *top_reasons(vector, parts)]
            for row, vector, parts in zip(rows, explained, contributions, strict=True)
        }

    def _failed(
        self, batch: TransactionBatch, started_ms: int, started: float, error: Exception
    ) -> Decided:
        taken_ms = (self._timer() - started) * 1000
        (json,) = DECISION.encode(
            {field.name: [field.empty] for field in fields_of(Decision)}
            | self._unscored_fields(batch, started_ms, taken_ms)
            | {Shared.BY_RULING: [_FAILED_RULING], "reasons": [_FAILED_REASONS]}
        )
        # Only the type, because the text of an exception may quote personal values.
        return Decided(Outcome.REVIEW, json, error=type(error).__name__)


def _marks(batch: TransactionBatch, reused: Sequence[bool]) -> dict[int, list[Mark]]:
    """Return the marks of each row that has any."""
    marks = {
        row: [Mark.EVENT_ID_REUSED]
        for row, (is_reused, is_duplicate) in enumerate(zip(reused, batch.duplicates, strict=True))
        if is_reused and not is_duplicate
    }
    for row, event_time in enumerate(batch.packed.event_times):
        if event_time:
            marks.setdefault(row, []).append(_EVENT_TIME_MARKS[EventTime(event_time)])
    return marks


class _Shadow:
    """Makes the shadow decisions of the challenger."""

    def __init__(self, scorer: Scorer, evaluator: RuleEvaluator) -> None:
        self.scorer = scorer
        self._evaluator = evaluator
        self._model = orjson.dumps(shown_model(scorer.ref))
        self._rules_version = orjson.dumps(shown(evaluator.rules.version))

    def decide(
        self, columns: BatchColumns, scores: Sequence[int], probabilities: NDArray[np.float64]
    ) -> list[bytes]:
        rulings = self._evaluator.evaluate(columns)
        return SHADOW.encode(
            {
                "outcome": [orjson.dumps(ruling.outcome) for ruling in rulings],
                "score": _items(orjson.dumps(scores)),
                "probability": _items(orjson.dumps(probabilities.tolist())),
                "rules": [ruling.rules for ruling in rulings],
                "model": [self._model] * len(rulings),
                "rules_version": [self._rules_version] * len(rulings),
            }
        )


def _items(array: bytes) -> list[bytes]:
    """Split a JSON array of numbers."""
    return array[1:-1].split(b",")
