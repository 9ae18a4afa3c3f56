"""Decisions computed again: whether each is what its rules, lists and models give.

A decision names its versions and keeps its features, so it can be computed again from the control
topic and the models alone. Whatever was switched while it was made: one that is a mixture of two
policies does not come out the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.past_decisions import Past, PastDecision, PastReader, Wanted, struct_of
from fraud.contracts.control import LIST, ControlDocument, decode_control
from fraud.contracts.decision import (
    Decision,
    ModelRef,
    Outcome,
    RuleHit,
    Shared,
    Source,
    fields_of,
)
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.lists import ListType
from fraud.contracts.times import DAY_MS
from fraud.contracts.topics import Topic
from fraud.decision.columns import Columns
from fraud.decision.lists import Lookup
from fraud.decision.policy import RuleEvaluator, Ruling, policy_version
from fraud.decision.rule_sets import CompiledRules, InvalidRules
from fraud.decision.scorer import Scorer
from fraud.features.vector import FEATURE_NAMES
from fraud.kafka.range_reader import TopicSpan
from fraud.policy.state import PolicyState
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.settings import KafkaSettings

SHOWN: Final = 20
"""Differences that are told in full."""

_AT_ONCE: Final = 50_000
"""Decisions held in memory while the control topic is folded once."""


Scorers = Callable[[ModelRef], Scorer | None]
"""Gives a model, None when it is not there."""


_RULED: Final = tuple(
    field.name for field in fields_of(Decision) if field.shared is Shared.BY_RULING
)
_COMPUTED_AGAIN: Final = (*_RULED, "reasons", "model", "versions", "policy_version", "shadow")

_read_ruled = msgspec.json.Decoder(struct_of(PastDecision, _RULED)).decode
_read_rules = msgspec.json.Decoder(list[struct_of(RuleHit)]).decode  # type: ignore[misc]


class Difference(BaseModel):
    """What a decision says, and what it should say."""

    model_config = ConfigDict(frozen=True)

    source: Annotated[str, Field(description="Topic, partition and offset of the input.")]
    event_id: str
    field: Annotated[str, Field(description="The field of fd that differs.")]
    says: Any
    computed: Any


class Rechecked(BaseModel):
    """What computing decisions again came to."""

    model_config = ConfigDict(frozen=True)

    decisions: Annotated[int, Field(description="Decisions read.")]
    computed: Annotated[int, Field(description="Decisions computed again.")]
    differing: Annotated[int, Field(description="Decisions that differ in any field.")]
    by_field: Annotated[dict[str, int], Field(description="How many differ in each field.")]
    not_computed: Annotated[
        dict[str, int],
        Field(description="Decisions that could not be computed again, by what was missing."),
    ]
    unreadable: Annotated[int, Field(description="Records that are no decisions.")]
    failed: Annotated[
        int, Field(description="Decisions whose scoring had failed: they are for review.")
    ]
    policies: Annotated[dict[str, int], Field(description="Decisions of each policy_version.")]
    examples: Annotated[list[Difference], Field(description=f"The first {SHOWN} differences.")]

    @property
    def holds(self) -> bool:
        """Whether every decision came out the same."""
        return not self.differing and not self.not_computed and not self.unreadable


class Recheck:
    """Computes decisions again. Pure: `recheck` reads them from Kafka.

    Args:
        documents: Those of the control topic, all of them, in its order.
        scorers: Gives the models.
    """

    def __init__(self, documents: Iterable[ControlDocument], scorers: Scorers) -> None:
        self._list_changes: list[ControlDocument] = []
        policy_state = PolicyState()
        for document in documents:
            if document.kind == LIST:
                self._list_changes.append(document)
            else:
                # What is broken is in force nowhere.
                with suppress(InvalidMessage):
                    policy_state.apply(document)
        self._rules: dict[str, CompiledRules] = {}
        for kept in policy_state.rule_versions():
            with suppress(InvalidRules):
                self._rules[kept.rules.version] = CompiledRules(kept.rules)
        self._scorers = scorers
        self._known: dict[ModelRef, Scorer | None] = {}
        self._reader = PastReader(self._wanted(), _COMPUTED_AGAIN)
        self._held: list[Past] = []
        self._decisions = self._computed = self._differing = self._failed = 0
        self._by_field: Counter[str] = Counter()
        self._not_computed: Counter[str] = Counter()
        self._policies: Counter[str] = Counter()
        self._examples: list[Difference] = []

    def _wanted(self) -> Wanted:
        of_lists = frozenset(kind.field for kind in ListType if kind.field is not None)
        return Wanted.by(self._rules.values(), ()) | Wanted(of_lists, frozenset(FEATURE_NAMES))

    def take(self, values: Sequence[bytes | None]) -> None:
        """Take values of `processed_transactions`."""
        past = self._reader.read(values)
        if len(past):
            self._decisions += len(past)
            self._held.append(past)
        if sum(map(len, self._held)) >= _AT_ONCE:
            self._check()

    def result(self) -> Rechecked:
        """Return what was found."""
        self._check()
        return Rechecked(
            decisions=self._decisions,
            computed=self._computed,
            differing=self._differing,
            by_field=dict(self._by_field.most_common()),
            not_computed=dict(self._not_computed.most_common()),
            unreadable=self._reader.unreadable,
            failed=self._failed,
            policies=dict(self._policies.most_common()),
            examples=self._examples,
        )

    def _check(self) -> None:
        """Compute what is held, each decision with the lists as they were in the versions it names."""
        held, self._held = self._held, []
        waiting: dict[tuple[tuple[str, str], ...], list[Past]] = {}
        for past in held:
            groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
            for at, one in enumerate(past.decisions):
                self._policies[one.policy_version] += 1
                if one.versions is None:
                    self._not_computed["versions"] += 1
                else:
                    groups.setdefault(tuple(sorted(one.versions.lists.items())), []).append(at)
            for key, chosen in groups.items():
                waiting.setdefault(key, []).append(past.some(chosen))
        for key, lists in self._states():
            for past in waiting.pop(key, ()):
                self._with_lists(past, lists())
            if not waiting:
                break
        for missing in waiting.values():
            self._not_computed["lists of these versions"] += sum(map(len, missing))

    def _states(
        self,
    ) -> Iterator[tuple[tuple[tuple[str, str], ...], Callable[[], dict[str, Lookup]]]]:
        """Yield all lists as they were after each change: their versions, and how to get them."""
        policy_state = PolicyState()
        made: dict[str, Lookup] = {}

        def lists() -> dict[str, Lookup]:
            states = policy_state.lists()
            for name, state in states.items():
                if name not in made or made[name].version != state.version:
                    made[name] = Lookup(state, made.get(name))
            return {name: made[name] for name in states}

        yield (), lists
        for document in self._list_changes:
            with suppress(InvalidMessage):
                policy_state.apply(document)
            yield tuple(sorted(policy_state.list_versions().items())), lists

    def _with_lists(self, past: Past, lists: Mapping[str, Lookup]) -> None:
        groups: dict[tuple[ModelRef, str, ModelRef | None, str], list[int]] = {}
        for at, one in enumerate(past.decisions):
            shadow = one.shadow
            key = (
                one.model,
                one.versions.rules if one.versions is not None else "",
                None if shadow is None else shadow.model,
                "" if shadow is None else shadow.rules_version,
            )
            groups.setdefault(key, []).append(at)
        for (model, rules, other_model, other_rules), chosen in groups.items():
            missing = self._missing(model, rules) or (
                None if other_model is None else self._missing(other_model, other_rules)
            )
            if missing is not None:
                self._not_computed[missing] += len(chosen)
            else:
                self._compute(past.some(chosen), lists, rules)

    def _missing(self, model: ModelRef, rules: str) -> str | None:
        if rules not in self._rules:
            return f"rules {rules}"
        if self._scorer(model) is None:
            return f"model {model.name}@{model.version}"
        return None

    def _scorer(self, model: ModelRef) -> Scorer | None:
        if model not in self._known:
            self._known[model] = self._scorers(ModelRef(name=model.name, version=model.version))
        return self._known[model]

    def _compute(self, past: Past, lists: Mapping[str, Lookup], rules: str) -> None:
        """Compute decisions of one model, one rule set and one state of the lists."""
        first = past.decisions[0]
        rulings, scores, probabilities = self._judged(past, lists, first.model, rules)
        shadows = None
        if first.shadow is not None:
            shadows = self._judged(past, lists, first.shadow.model, first.shadow.rules_version)
        self._computed += len(past)
        for at, one in enumerate(past.decisions):
            versions = one.versions
            if versions is None:
                continue
            shadow = one.shadow
            pinned = {"rules": versions.rules, "lists": versions.lists}
            challenge = None if shadow is None else (shadow.model, shadow.rules_version)
            expected: dict[str, tuple[Any, Any]] = {
                "policy_version": (one.policy_version, policy_version(pinned, one.model, challenge))
            }  # fmt: skip
            if one.score is None:
                self._failed += 1
                # Neither features nor the challenger are kept of it.
                expected = {"outcome": (one.outcome, Outcome.REVIEW)}
            else:
                expected |= _ruled(one, rulings[at], scores[at], probabilities[at])
                if shadow is not None and shadows is not None:
                    theirs, their_scores, their_probabilities = shadows
                    expected |= {
                        "shadow.outcome": (shadow.outcome, theirs[at].outcome),
                        "shadow.score": (shadow.score, their_scores[at]),
                        "shadow.probability": (shadow.probability, their_probabilities[at]),
                        "shadow.rules": (shadow.rules, _read_rules(theirs[at].rules)),
                    }
            wrong = {name: pair for name, pair in expected.items() if pair[0] != pair[1]}
            if wrong:
                self._differing += 1
                self._by_field.update(wrong.keys())
                for name, (says, computed) in wrong.items():
                    if len(self._examples) < SHOWN:
                        self._examples.append(
                            Difference(
                                source=_place(one.source),
                                event_id=str(past.rows[at].event_id),
                                field=name,
                                says=msgspec.to_builtins(says),
                                computed=msgspec.to_builtins(computed),
                            )
                        )

    def _judged(
        self, past: Past, lists: Mapping[str, Lookup], model: ModelRef, rules: str
    ) -> tuple[list[Ruling], list[int], list[float]]:
        scorer = self._scorer(model)
        if scorer is None:
            raise AssertionError("models that are not there are sorted out before")
        matrix: NDArray[np.float32] = np.ascontiguousarray(past.matrix)
        probabilities = scorer.predict(matrix)
        scores = scorer.scale.score(probabilities).tolist()
        columns = Columns(matrix, scores, probabilities, past, lists, past.scored_at_ms)
        rulings = RuleEvaluator(self._rules[rules], lists).evaluate(columns)
        return rulings, scores, probabilities.tolist()


def _ruled(
    one: PastDecision, ruling: Ruling, score: int, probability: float
) -> dict[str, tuple[Any, Any]]:
    """Return, by field, what a decision says and what it should say."""
    ruled = _read_ruled(b"{%b}" % ruling.json)
    reasons = [] if one.outcome is Outcome.APPROVE else list(ruling.reasons)
    return {
        **{name: (getattr(one, name), getattr(ruled, name)) for name in _RULED},
        "score": (one.score, score),
        "probability": (one.probability, probability),
        # Those of features hang on the model alone, and follow those of rules and lists.
        "reasons": (msgspec.to_builtins(one.reasons[: len(ruling.reasons)]), reasons),
    }


def _place(source: Source) -> str:
    return f"{source.topic}-{source.partition}-{source.offset}"


def recheck(
    settings: KafkaSettings,
    scorers: Scorers,
    *,
    days: float = 30,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    stop: Event | None = None,
    clock: Clock = system_clock,
) -> Rechecked:
    """Compute the decisions of the last days again.

    Args:
        settings: How to reach Kafka.
        scorers: Gives the models.
        days: How far back, by the time of publication.
        limit: Most decisions, the latest; None is all.
        on_progress: Called with the records read and how many there are.
        stop: Ends it when set.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: `stop` was set.
    """
    since_ms = max(0, clock() - round(days * DAY_MS))
    with TopicSpan(
        settings, Topic.PROCESSED, since_ms=since_ms, latest=limit, service="fraudstream_recheck"
    ) as span:
        # The control topic is read after the end is fixed: what decided is on it by then.
        again = Recheck(control_documents(settings, stop), scorers)
        for values in span.values(on_progress, stop):
            again.take(values)
    return again.result()


def control_documents(settings: KafkaSettings, stop: Event | None = None) -> list[ControlDocument]:
    """Read the control topic; what is no document is passed over, as followers do.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: `stop` was set.
    """
    documents = []
    with TopicSpan(settings, Topic.CONTROL, service="fraudstream_recheck_control") as span:
        for batch in span.batches(stop):
            for message in batch:
                try:
                    key = message.key()
                    documents.append(
                        decode_control(key if key is None else bytes(key), message.value())
                    )
                except InvalidMessage:
                    continue
    return documents
