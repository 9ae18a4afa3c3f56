"""Recompute past decisions, and compare them with what was published.

A decision names the versions of its rules, lists and models and keeps its features, so it can be
recomputed from the control topic and the models alone. A decision that mixed two policies, because
one was switched while it was made, shows up as a difference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.past_decisions import (
    PastDecision,
    PastDecisions,
    PastReader,
    Redecided,
    Wanted,
    redecide,
    struct_of,
)
from fraud.backtest.runner import BacktestRunner
from fraud.contracts.control import LIST, ControlDocument, decode_control
from fraud.contracts.decision import Decision, ModelRef, Outcome, RuleHit, Shadow, Shared, fields_of
from fraud.contracts.list_log import KEPT_MS
from fraud.contracts.lists import ListType
from fraud.contracts.times import DAY_MS
from fraud.contracts.versions import EARLIER_DIGITS, shown, written_as
from fraud.decision.lists import Lookup, lookups
from fraud.decision.policy import RuleEvaluator, policy_version
from fraud.decision.rule_sets import CompiledRules, InvalidRules
from fraud.decision.scorer import Scorer
from fraud.features.vector import FEATURE_NAMES
from fraud.policy.state import PolicyState

SHOWN: Final = 20
"""Maximum number of differences that are reported in full."""

_AT_ONCE: Final = 50_000
"""Decisions held in memory for each pass over the changes of lists."""


_NO_LISTS: Final = (
    f"lists of these versions; superseded changes of lists are kept for {KEPT_MS // DAY_MS} days"
)

Scorers = Callable[[ModelRef], Scorer | None]
"""Loads a model, or returns None if it is missing."""

ListVersions = tuple[tuple[str, str], ...]
"""Name and version of each list, sorted by name."""


_RULED: Final = tuple(
    field.name for field in fields_of(Decision) if field.shared is Shared.BY_RULING
)
_COMPUTED_AGAIN: Final = (*_RULED, "reasons", "model", "versions", "policy_version", "shadow")

_read_ruled = msgspec.json.Decoder(struct_of(PastDecision, _RULED)).decode
_read_rules = msgspec.json.Decoder(list[struct_of(RuleHit)]).decode  # type: ignore[misc]


class _DecidedBy(NamedTuple):
    """The versions by which a decision says that it was made.

    Attributes:
        lists: Versions of the lists.
        model: The champion's model.
        rules: Version of the champion's rules.
        challenger: Model and version of rules of the challenger, None without one.
    """

    lists: ListVersions
    model: ModelRef
    rules: str
    challenger: tuple[ModelRef, str] | None

    @property
    def is_earlier(self) -> bool:
        """Whether the policy was named while versions had 12 digits, of which it was the hash."""
        return len(self.rules) == EARLIER_DIGITS

    @property
    def earlier_policy_version(self) -> str:
        pinned = {"rules": self.rules, "lists": dict(self.lists)}
        return shown(policy_version(pinned, self.model, self.challenger))


class FieldDifference(BaseModel):
    """Published and recomputed value of one field of a decision."""

    model_config = ConfigDict(frozen=True)

    source: Annotated[str, Field(description="Topic, partition and offset of the input.")]
    event_id: str
    field: Annotated[str, Field(description="The field of fd that differs.")]
    says: Any
    computed: Any


class Rechecked(BaseModel):
    """Number of recomputed decisions, and their differences."""

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
    examples: Annotated[list[FieldDifference], Field(description=f"The first {SHOWN} differences.")]

    @property
    def holds(self) -> bool:
        """Whether every decision was recomputed, without any difference."""
        return not self.differing and not self.not_computed and not self.unreadable


class Recheck:
    """Recompute decisions; `recheck` reads them from Kafka.

    Args:
        documents: All documents of the control topic, in topic order.
        scorers: Loads the models.
    """

    def __init__(self, documents: Iterable[ControlDocument], scorers: Scorers) -> None:
        # Kept as bytes: a month of long lists would take gigabytes once decoded.
        self._list_changes: list[tuple[bytes, bytes]] = []
        others: list[ControlDocument] = []
        for document in documents:
            if document.kind == LIST:
                self._list_changes.append((document.key, document.value))
            else:
                others.append(document)
        policy_state = PolicyState.folded(others)
        self._rules: dict[str, CompiledRules] = {}
        for kept in policy_state.rule_versions():
            with suppress(InvalidRules):
                compiled = CompiledRules(kept.rules)
                self._rules |= dict.fromkeys(written_as(kept.rules.version), compiled)
        self._scorers = scorers
        self._loaded: dict[ModelRef, Scorer | None] = {}
        of_lists = frozenset(kind.field for kind in ListType if kind.field is not None)
        self._reader = PastReader(
            Wanted.by(self._rules.values(), ()) | Wanted(of_lists, frozenset(FEATURE_NAMES)),
            _COMPUTED_AGAIN,
        )
        self._held: list[PastDecisions] = []
        self._computed = self._differing = self._failed = 0
        self._by_field: Counter[str] = Counter()
        self._not_computed: Counter[str] = Counter()
        self._policies: Counter[str] = Counter()
        self._examples: list[FieldDifference] = []

    def add(self, values: Sequence[bytes | None]) -> None:
        """Process the values of the next records of `processed_transactions`."""
        self._held.append(self._reader.read(values))
        if sum(map(len, self._held)) >= _AT_ONCE:
            self._check()

    def result(self) -> Rechecked:
        """Process the decisions still held, and return the result."""
        self._check()
        return Rechecked(
            decisions=self._reader.total - self._reader.unreadable,
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
        """Recompute the held decisions, each with the lists in the versions that it names."""
        held, self._held = self._held, []
        waiting: defaultdict[ListVersions, list[tuple[_DecidedBy, PastDecisions]]] = defaultdict(
            list
        )
        for past in held:
            for decided_by, places in self._groups(past).items():
                waiting[decided_by.lists].append((decided_by, past.select(places)))
        for versions, lists in self._list_states():
            for decided_by, past in waiting.pop(versions, ()):
                self._check_group(decided_by, past, lists())
            if not waiting:
                break
        for missing in waiting.values():
            self._not_computed[_NO_LISTS] += sum(len(past) for _, past in missing)

    def _groups(self, past: PastDecisions) -> dict[_DecidedBy, list[int]]:
        """Group the indices of decisions by the versions that made them."""
        groups: defaultdict[_DecidedBy, list[int]] = defaultdict(list)
        for place, decision in enumerate(past.decisions):
            self._policies[decision.policy_version] += 1
            versions, shadow = decision.versions, decision.shadow
            if versions is None:
                self._not_computed["versions"] += 1
                continue
            challenger = None if shadow is None else (shadow.model, shadow.rules_version)
            lists = tuple(sorted(versions.lists.items()))
            groups[_DecidedBy(lists, decision.model, versions.rules, challenger)].append(place)
        return groups

    def _list_states(self) -> Iterator[tuple[ListVersions, Callable[[], dict[str, Lookup]]]]:
        """Yield the list versions after each change, with a function that returns the lists."""
        policy_state = PolicyState()
        made: dict[str, Lookup] = {}

        def lists() -> dict[str, Lookup]:
            nonlocal made
            made = lookups(policy_state.lists(), made)
            return made

        yield (), lists
        for key, value in self._list_changes:
            policy_state.apply_valid(decode_control(key, value))
            versions = sorted(policy_state.list_versions().items())
            yield tuple((name, shown(version)) for name, version in versions), lists
            yield tuple(sorted(policy_state.earlier_list_versions().items())), lists

    def _check_group(
        self,
        decided_by: _DecidedBy,
        past: PastDecisions,
        lists: Mapping[str, Lookup],
    ) -> None:
        """Recompute decisions that were made by the same versions."""
        sides = [(decided_by.model, decided_by.rules)]
        if decided_by.challenger is not None:
            sides.append(decided_by.challenger)
        made = []
        in_full: list[tuple[ModelRef, str]] = []
        for model, rules in sides:
            scorer = self._scorer(model)
            if rules not in self._rules or scorer is None:
                what = (
                    f"model {model.name}@{shown(model.version)}"
                    if rules in self._rules
                    else f"rules {rules}"
                )
                self._not_computed[what] += len(past)
                return
            made.append(redecide(past, RuleEvaluator(self._rules[rules], lists), scorer))
            in_full.append((scorer.ref, self._rules[rules].version))
        self._computed += len(past)
        version = (
            decided_by.earlier_policy_version
            if decided_by.is_earlier
            else _policy_version(in_full, lists)
        )
        for place, decision in enumerate(past.decisions):
            if decision.score is None:
                self._failed += 1
                # Scoring failed, so neither features nor the challenger's decision were kept.
                expected: _Expected = {"outcome": (decision.outcome, Outcome.REVIEW)}
            else:
                expected = {"policy_version": (decision.policy_version, version)}
                expected |= _of_champion(decision, made[0], place)
                if decision.shadow is not None:
                    expected |= _of_challenger(decision.shadow, made[1], place)
            wrong = {field: pair for field, pair in expected.items() if pair[0] != pair[1]}
            self._differing += bool(wrong)
            self._by_field.update(wrong.keys())
            source = decision.source
            for field, (says, computed) in wrong.items():
                if len(self._examples) < SHOWN:
                    self._examples.append(
                        FieldDifference(
                            source=f"{source.topic}-{source.partition}-{source.offset}",
                            event_id=str(past.rows[place].event_id),
                            field=field,
                            says=msgspec.to_builtins(says),
                            computed=msgspec.to_builtins(computed),
                        )
                    )

    def _scorer(self, model: ModelRef) -> Scorer | None:
        if model not in self._loaded:
            self._loaded[model] = self._scorers(ModelRef(name=model.name, version=model.version))
        return self._loaded[model]


def _policy_version(sides: Sequence[tuple[ModelRef, str]], lists: Mapping[str, Lookup]) -> str:
    """Return the version of a policy as decisions name it, from model and rules of each side."""
    (model, rules), *challenger = sides
    pinned = {"rules": rules, "lists": {name: lookup.version for name, lookup in lists.items()}}
    return shown(policy_version(pinned, model, challenger[0] if challenger else None))


_Expected = dict[str, tuple[Any, Any]]
"""Published and recomputed value, by field."""


def _of_champion(decision: PastDecision, made: Redecided, place: int) -> _Expected:
    ruling = made.rulings[place]
    ruled = _read_ruled(b"{%b}" % ruling.json)
    # The model's reasons come after those of rules and lists, and are not compared.
    reasons = [] if decision.outcome is Outcome.APPROVE else list(ruling.reasons)
    return {
        **{field: (getattr(decision, field), getattr(ruled, field)) for field in _RULED},
        "score": (decision.score, made.scores[place]),
        "probability": (decision.probability, made.probabilities[place].item()),
        "reasons": (msgspec.to_builtins(decision.reasons[: len(ruling.reasons)]), reasons),
    }


def _of_challenger(shadow: Shadow, made: Redecided, place: int) -> _Expected:
    ruling = made.rulings[place]
    return {
        "shadow.outcome": (shadow.outcome, ruling.outcome),
        "shadow.score": (shadow.score, made.scores[place]),
        "shadow.probability": (shadow.probability, made.probabilities[place].item()),
        "shadow.rules": (shadow.rules, _read_rules(ruling.rules)),
    }


def recheck(runner: BacktestRunner, scorers: Scorers) -> Rechecked:
    """Recompute the decisions of the last days.

    Args:
        runner: Reads the decisions and the control topic.
        scorers: Loads the models.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: The runner was stopped.
    """
    return runner.run(
        lambda: Recheck(runner.control_documents(), scorers), service="fraudstream_recheck"
    ).result()
