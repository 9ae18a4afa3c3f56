"""The dry run: try a draft rule set on past transactions before it is activated.

Rules and lists are evaluated by the code of the stream, on the feature vectors, scores and fields
stored with past decisions; no transaction is scored again.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import attrgetter
from time import perf_counter
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.counts import Tally, no_sums, sums_by_group, tally
from fraud.backtest.past_decisions import (
    KnownLabels,
    PastDecisions,
    PastReader,
    Wanted,
    redecide,
)
from fraud.backtest.resampling import Floats
from fraud.backtest.runner import BacktestRunner
from fraud.contracts.decision import Outcome
from fraud.contracts.rules import RuleSet
from fraud.contracts.times import utc_text
from fraud.contracts.versions import shown
from fraud.decision.lists import Lookup, lookups
from fraud.decision.policy import RuleEvaluator, Ruling
from fraud.decision.rule_sets import CompiledRules, numbered
from fraud.features.declaration import AMOUNT
from fraud.policy.state import PolicyState

EXAMPLES: Final = 5
"""Maximum number of examples of a rule, and of a change of outcome."""

_OUTCOMES: Final = tuple(Outcome)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Example(_Part):
    """One transaction, to be looked up."""

    event_id: str
    scored_at: Annotated[str, Field(description="When it was decided, ISO 8601, UTC.")]
    score: int
    decided: Annotated[Outcome, Field(description="What was decided.")]
    active: Annotated[Outcome, Field(description="What the active rules decide.")]
    draft: Annotated[Outcome, Field(description="What the draft decides.")]


class Overlap(_Part):
    """How many transactions an active rule has in common with one of the draft."""

    id: str
    version: int
    transactions: int


class RuleReport(_Part):
    """Transactions that a rule matched; under FIRST_MATCHED, only those it was the first to match."""

    id: str
    version: int
    outcome: Outcome
    hits: Tally
    alone: Annotated[
        int, Field(description="Of these, how many no other rule of the draft matched.")
    ]
    changed: Annotated[
        int, Field(description="Of these, how many end otherwise than by the active rules.")
    ]
    precision: Annotated[
        float | None,
        Field(description="Share of fraud among the hits whose label is known; null without one."),
    ]
    recall: Annotated[
        float | None,
        Field(description="Share of the known fraud that it matched; null without any."),
    ]
    overlap: Annotated[
        list[Overlap],
        Field(description="With each active rule that has some in common, most first."),
    ]
    examples: Annotated[
        list[Example], Field(description="The latest, those that end otherwise first.")
    ]


class ListReport(_Part):
    """Transactions on a list that acts without a rule."""

    name: str
    use: str
    hits: Tally


class OutcomeChange(_Part):
    """Transactions by their outcome before, and by that of the draft."""

    before: Outcome
    after: Outcome
    transactions: Tally
    examples: Annotated[
        list[Example], Field(description="The latest; empty where nothing changes.")
    ]


class DryRunPeriod(_Part):
    """The decisions that were read."""

    since: Annotated[str, Field(description="From when on, ISO 8601, UTC.")]
    first_scored_at: str | None
    last_scored_at: str | None
    read: Annotated[int, Field(description="Records read.")]
    judged: Annotated[int, Field(description="Transactions that rules and lists were asked about.")]
    duplicates: Annotated[int, Field(description="Passed over: their event was decided before.")]
    repeated: Annotated[int, Field(description="Passed over: the same record, published again.")]
    unscored: Annotated[
        int,
        Field(
            description="Passed over: scoring had failed, which is for review whatever rules say."
        ),
    ]
    unreadable: Annotated[int, Field(description="Passed over: no record of a decision.")]


class Report(_Part):
    """What a draft would have done; `model_dump_json` writes it."""

    draft: Annotated[str, Field(description="Version of the draft.")]
    active: Annotated[str, Field(description="Version of the active rules.")]
    period: DryRunPeriod
    total: Tally
    decided: Annotated[dict[Outcome, Tally], Field(description="By outcome, as it was decided.")]
    by_active: Annotated[
        dict[Outcome, Tally],
        Field(description="By outcome, as the active rules and today's lists decide."),
    ]
    by_draft: Annotated[
        dict[Outcome, Tally], Field(description="By outcome, as the draft decides.")
    ]
    against_decided: Annotated[
        list[OutcomeChange], Field(description="From what was decided to the draft.")
    ]
    against_active: Annotated[
        list[OutcomeChange], Field(description="From the active rules to the draft.")
    ]
    rules: Annotated[
        list[RuleReport], Field(description="Enabled rules of the draft, in its order.")
    ]
    active_rules: Annotated[
        list[RuleReport],
        Field(description="The same of the active rules; overlap is with the draft's."),
    ]
    lists: Annotated[list[ListReport], Field(description="Lists that hold some by themselves.")]
    took_s: Annotated[float, Field(description="Time taken, s.")]


class Combination(NamedTuple):
    """Published outcome of transactions, and the rulings on them by active rules and draft.

    Attributes:
        decided: Severity of the published outcome, 0-2.
        active: Number of the active rules' ruling, see `_Rulings`.
        draft: Number of the draft's ruling.
    """

    decided: int
    active: int
    draft: int


class _Seen(NamedTuple):
    """One transaction; transactions compare by time, then by source coordinates."""

    scored_at_ms: int
    topic: str
    partition: int
    offset: int
    event_id: str
    score: int


@dataclass(slots=True)
class _Counted:
    """Sums over the transactions of one combination, and the latest of them."""

    sums: Floats = field(default_factory=no_sums)
    latest: list[_Seen] = field(default_factory=list)


class _Rulings:
    """The distinct rulings of some rules and lists, numbered in the order of appearance.

    Args:
        evaluator: The rules and lists.
        number_of: Returns the number of their ruling from a combination.
    """

    def __init__(self, evaluator: RuleEvaluator, number_of: Callable[[Combination], int]) -> None:
        self.evaluator = evaluator
        self._number_of = number_of
        self._numbers: dict[bytes, int] = {}
        self._rulings: list[Ruling] = []
        self._parsed: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rulings)

    def numbers(self, past: PastDecisions) -> NDArray[np.int64]:
        """Evaluate transactions, and return the numbers of their rulings, shape (n,)."""
        numbers = np.empty(len(past), np.int64)
        for place, ruling in enumerate(redecide(past, self.evaluator).rulings):
            number = self._numbers.get(ruling.json)
            if number is None:
                number = self._numbers[ruling.json] = len(self)
                self._rulings.append(ruling)
                self._parsed.append(orjson.loads(b"{%b}" % ruling.json))
            numbers[place] = number
        return numbers

    def outcome(self, combination: Combination) -> Outcome:
        return self._rulings[self._number_of(combination)].outcome

    def rules(self, combination: Combination) -> list[str]:
        """Return the ids of the matching rules that count."""
        return [rule["id"] for rule in self._parsed[self._number_of(combination)]["rules"]]

    def lists(self, combination: Combination) -> list[str]:
        return [held["name"] for held in self._parsed[self._number_of(combination)]["lists"]]


def _decided(combination: Combination) -> Outcome:
    return _OUTCOMES[combination.decided]


class RuleBacktest:
    """Decide past transactions by two rule sets, and count; `dry_run` reads them from Kafka.

    Args:
        active: The active rules.
        draft: The draft to try.
        active_lists: The current lists, by name.
        draft_lists: The lists that the draft is tried with, by name.
        labels: Labels of the transactions.
    """

    def __init__(
        self,
        active: CompiledRules,
        draft: CompiledRules,
        active_lists: Mapping[str, Lookup],
        draft_lists: Mapping[str, Lookup],
        labels: KnownLabels,
    ) -> None:
        self._active = _Rulings(RuleEvaluator(active, active_lists), attrgetter("active"))
        self._draft = _Rulings(RuleEvaluator(draft, draft_lists), attrgetter("draft"))
        self._labels = labels
        self._counted: defaultdict[Combination, _Counted] = defaultdict(_Counted)
        self._first_ms: int | None = None
        self._last_ms = 0
        lists = [*active_lists.values(), *draft_lists.values()]
        self._reader = PastReader(
            Wanted.by((active, draft), lists) | Wanted(frozenset(), frozenset({AMOUNT}))
        )

    def add(self, values: Sequence[bytes | None]) -> None:
        """Process the values of the next records of `processed_transactions`, in reading order."""
        past = self._reader.read_once(values)
        if not len(past):
            return
        decided = np.fromiter(
            (decision.outcome.severity for decision in past.decisions), np.int64, len(past)
        )
        numbers = (decided, self._active.numbers(past), self._draft.numbers(past))
        # One code for each combination, so that transactions are grouped by one sort.
        shape = (len(Outcome), len(self._active), len(self._draft))
        codes, group = np.unique(np.ravel_multi_index(numbers, shape), return_inverse=True)
        combinations = zip(*(part.tolist() for part in np.unravel_index(codes, shape)), strict=True)
        label = self._labels.of(past.event_ids)
        times = past.scored_at_ms
        first_ms = int(times.min())
        self._first_ms = first_ms if self._first_ms is None else min(first_ms, self._first_ms)
        self._last_ms = max(int(times.max()), self._last_ms)
        # Sorted by group, then by time, so that the latest of a group come last.
        order = np.lexsort((times, group))
        ends = np.searchsorted(group[order], np.arange(len(codes)), "right").tolist()
        for sums, end, combination in zip(
            sums_by_group(group, len(codes), past.amounts, label), ends, combinations, strict=True
        ):
            counted = self._counted[Combination(*combination)]
            counted.sums += sums
            # The first sum is the number of transactions.
            latest = order[end - min(EXAMPLES, int(sums[0])) : end].tolist()
            counted.latest = heapq.nlargest(
                EXAMPLES, [*counted.latest, *(_seen(past, place) for place in latest)]
            )

    def report(self, *, since_ms: int, took_s: float = 0.0) -> Report:
        """Return the report on all transactions processed so far.

        Args:
            since_ms: Time from which records were read, UTC epoch milliseconds.
            took_s: Time taken, seconds.
        """
        reader, everything = self._reader, self._total(self._counted)
        return Report(
            draft=shown(self._draft.evaluator.rules.version),
            active=shown(self._active.evaluator.rules.version),
            period=DryRunPeriod(
                since=utc_text(since_ms),
                first_scored_at=None if self._first_ms is None else utc_text(self._first_ms),
                last_scored_at=None if self._first_ms is None else utc_text(self._last_ms),
                read=reader.total,
                judged=everything.transactions,
                duplicates=reader.duplicates,
                repeated=reader.repeated,
                unscored=reader.unscored,
                unreadable=reader.unreadable,
            ),
            total=everything,
            decided=self._by_outcome(_decided),
            by_active=self._by_outcome(self._active.outcome),
            by_draft=self._by_outcome(self._draft.outcome),
            against_decided=self._changes(_decided),
            against_active=self._changes(self._active.outcome),
            rules=self._rules(self._draft, self._active, everything),
            active_rules=self._rules(self._active, self._draft, everything),
            lists=self._lists(),
            took_s=round(took_s, 3),
        )

    def _total(self, combinations: Iterable[Combination]) -> Tally:
        return tally(*(self._counted[combination].sums for combination in combinations))

    def _by_outcome(self, outcome_of: Callable[[Combination], Outcome]) -> dict[Outcome, Tally]:
        return {
            outcome: self._total(key for key in self._counted if outcome_of(key) is outcome)
            for outcome in Outcome
        }

    def _changes(self, outcome_before: Callable[[Combination], Outcome]) -> list[OutcomeChange]:
        changes = []
        for before, after in product(Outcome, repeat=2):
            combinations = [
                key
                for key in self._counted
                if outcome_before(key) is before and self._draft.outcome(key) is after
            ]
            changes.append(
                OutcomeChange(
                    before=before,
                    after=after,
                    transactions=self._total(combinations),
                    examples=self._examples(combinations) if before is not after else [],
                )
            )
        return changes

    def _rules(self, ours: _Rulings, theirs: _Rulings, everything: Tally) -> list[RuleReport]:
        reports = []
        for compiled in ours.evaluator.rules:
            rule = compiled.rule
            hit = [key for key in self._counted if rule.id in ours.rules(key)]
            alone = [key for key in hit if len(ours.rules(key)) == 1]
            changed = [
                key for key in hit if self._active.outcome(key) is not self._draft.outcome(key)
            ]
            hits = self._total(hit)
            common: Counter[str] = Counter()
            for key in hit:
                for other_id in theirs.rules(key):
                    common[other_id] += int(self._counted[key].sums[0])
            # Transactions with another outcome come first, as they matter most to the author.
            examples = self._examples(changed)
            examples += self._examples(key for key in hit if key not in changed)
            reports.append(
                RuleReport(
                    id=rule.id,
                    version=rule.version,
                    outcome=rule.outcome,
                    hits=hits,
                    alone=self._total(alone).transactions,
                    changed=self._total(changed).transactions,
                    precision=hits.precision,
                    recall=hits.fraud / everything.fraud if everything.fraud else None,
                    overlap=sorted(
                        (
                            Overlap(
                                id=other.rule.id,
                                version=other.rule.version,
                                transactions=common[other.rule.id],
                            )
                            for other in theirs.evaluator.rules
                            if other.rule.id in common
                        ),
                        key=lambda overlap: -overlap.transactions,
                    ),
                    examples=examples[:EXAMPLES],
                )
            )
        return reports

    def _lists(self) -> list[ListReport]:
        holding: defaultdict[str, list[Combination]] = defaultdict(list)
        for combination in self._counted:
            for name in self._draft.lists(combination):
                holding[name].append(combination)
        lists = self._draft.evaluator.lists
        return [
            ListReport(name=name, use=lists[name].use.value, hits=self._total(combinations))
            for name, combinations in sorted(holding.items())
        ]

    def _examples(self, combinations: Iterable[Combination]) -> list[Example]:
        found = ((seen, key) for key in combinations for seen in self._counted[key].latest)
        return [
            Example(
                event_id=seen.event_id,
                scored_at=utc_text(seen.scored_at_ms),
                score=seen.score,
                decided=_decided(key),
                active=self._active.outcome(key),
                draft=self._draft.outcome(key),
            )
            for seen, key in heapq.nlargest(EXAMPLES, found)
        ]


def _seen(past: PastDecisions, place: int) -> _Seen:
    decision = past.decisions[place]
    source = decision.source
    return _Seen(
        int(past.scored_at_ms[place]), source.topic, source.partition, source.offset,
        past.rows[place].event_id, decision.score or 0,
    )  # fmt: skip


def dry_run(
    runner: BacktestRunner,
    policy_state: PolicyState,
    rules: RuleSet,
    *,
    lists: Mapping[str, Lookup] | None = None,
) -> Report:
    """Evaluate a draft rule set on the transactions of the last days.

    List entries apply from the start of the period until they expire, whenever they were added: the
    report shows what would have happened had they been on the list all along.

    Args:
        runner: Reads the transactions.
        policy_state: Rules and lists that are in force now.
        rules: The draft; versions of rules may be left out.
        lists: Lists for the draft, by name; None for those in force.

    Raises:
        InvalidRules: The draft has an invalid expression or rule version.
        CannotRead: Kafka could not be read.
        Stopped: The runner was stopped.
    """
    started = perf_counter()
    present = lookups(policy_state.lists())
    tried = present if lists is None else lists
    draft = CompiledRules(numbered(rules, policy_state.meanings()), tried)
    active = CompiledRules(policy_state.active_rules)
    backtest = runner.run(
        lambda: RuleBacktest(active, draft, present, tried, runner.labels()),
        service="fraudstream_dry_run",
    )
    return backtest.report(since_ms=runner.since_ms, took_s=perf_counter() - started)
