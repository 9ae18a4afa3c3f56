"""The dry run: what a rule set would have done with past transactions, before it does anything.

It judges by the very code of the stream, on the feature vectors, scores and fields that decisions
keep: nothing is scored again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import Annotated, Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.counts import Sums, Tally, sums_by_group, total
from fraud.backtest.past_decisions import Labels, Once, Past, PastReader, Wanted
from fraud.contracts.decision import Outcome
from fraud.contracts.lists import ListState
from fraud.contracts.rules import RuleSet
from fraud.contracts.times import DAY_MS, utc_text
from fraud.contracts.topics import Topic
from fraud.decision.lists import Lookup
from fraud.decision.policy import RuleEvaluator, Ruling
from fraud.decision.rule_sets import CompiledRules, numbered
from fraud.features.declaration import AMOUNT
from fraud.features.vector import FEATURE_AT
from fraud.kafka.range_reader import TopicSpan
from fraud.policy.state import PolicyState
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.settings import KafkaSettings

EXAMPLES: Final = 5
"""Examples given of a rule, and of a change of outcome."""

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
    """What a rule of the draft matched. Under FIRST_MATCHED only the first that matches counts."""

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
    """What a list that means something by itself holds."""

    name: str
    use: str
    hits: Tally


class Change(_Part):
    """Transactions that ended one way and end another, or the same, by the draft."""

    before: Outcome
    after: Outcome
    transactions: Tally
    examples: Annotated[list[Example], Field(description="The latest; none where nothing changes.")]


class Period(_Part):
    """What was read."""

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
    period: Period
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
        list[Change], Field(description="From what was decided to the draft.")
    ]
    against_active: Annotated[
        list[Change], Field(description="From the active rules to the draft.")
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


@dataclass(slots=True)
class _Combination:
    """Transactions of which the same was decided and found: counted, and the latest of them."""

    sums: Sums = field(default_factory=Sums)
    latest: list[tuple[int, str, int, int, str, int]] = field(default_factory=list)


class _Found:
    """Numbers what an evaluator finds: rulings of equal rules and lists have one number."""

    def __init__(self, evaluator: RuleEvaluator) -> None:
        self.evaluator = evaluator
        self._numbers: dict[bytes, int] = {}
        self.rulings: list[Ruling] = []
        self._parsed: list[dict[str, Any]] = []

    def of(self, past: Past) -> NDArray[np.int64]:
        """RuleEvaluator transactions; give the number of each one's ruling."""
        numbers = self._numbers
        found = np.empty(len(past), np.int64)
        for at, ruling in enumerate(self.evaluator.evaluate(past.columns(self.evaluator.lists))):
            number = numbers.get(ruling.json)
            if number is None:
                number = numbers[ruling.json] = len(numbers)
                self.rulings.append(ruling)
                self._parsed.append(orjson.loads(b"{%b}" % ruling.json))
            found[at] = number
        return found

    def outcome(self, number: int) -> Outcome:
        return self.rulings[number].outcome

    def rules(self, number: int) -> list[str]:
        return [one["id"] for one in self._parsed[number]["rules"]]

    def lists(self, number: int) -> list[str]:
        return [one["name"] for one in self._parsed[number]["lists"]]


Key = tuple[int, int, int]
"""Place of the decided outcome in `Outcome`, number of the active ruling, number of the draft's."""


class DryRun:
    """Judges past transactions by two rule sets. Pure: `dry_run` reads them from Kafka.

    Args:
        active: The rules that decide now.
        draft: Those that are tried.
        active_lists: The lists that there are, by name.
        draft_lists: Those that the draft is tried with.
        labels: What transactions turned out to be.
    """

    def __init__(
        self,
        active: CompiledRules,
        draft: CompiledRules,
        active_lists: Mapping[str, Lookup],
        draft_lists: Mapping[str, Lookup],
        labels: Labels,
    ) -> None:
        self._active = _Found(RuleEvaluator(active, active_lists))
        self._draft = _Found(RuleEvaluator(draft, draft_lists))
        self._labels = labels
        self._found: dict[Key, _Combination] = {}
        self._once = Once()
        self._read = self._duplicates = self._repeated = self._unscored = 0
        self._first_ms: int | None = None
        self._last_ms = 0
        lists = [*active_lists.values(), *draft_lists.values()]
        self._reader = PastReader(
            Wanted.by((active, draft), lists) | Wanted(frozenset(), frozenset({AMOUNT}))
        )

    def take(self, values: Sequence[bytes | None]) -> None:
        """Take values of `processed_transactions`, in their order."""
        self._read += len(values)
        past = self._reader.read(values)
        chosen = list(self._chosen(past))
        if chosen:
            self._evaluator(past if len(chosen) == len(past) else past.some(chosen))

    def _chosen(self, past: Past) -> Iterator[int]:
        first = self._once.first
        for at, one in enumerate(past.decisions):
            if one.duplicate:
                self._duplicates += 1
            elif not first(one.source):
                self._repeated += 1
            elif one.score is None:
                self._unscored += 1
            else:
                yield at

    def _evaluator(self, past: Past) -> None:
        decided = np.fromiter((one.outcome.severity for one in past.decisions), np.int64, len(past))
        active, draft = self._active.of(past), self._draft.of(past)
        code = ((active << 31) | draft) << 2 | decided
        codes, at = np.unique(code, return_inverse=True)
        label = self._labels.of([row.event_id for row in past.rows])
        sums = sums_by_group(at, len(codes), past.matrix[:, FEATURE_AT[AMOUNT]], label)
        times = past.scored_at_ms
        self._first_ms = min(int(times.min()), self._first_ms or int(times.max()))
        self._last_ms = max(int(times.max()), self._last_ms)
        order = np.lexsort((times, at))
        ends = np.searchsorted(at[order], np.arange(len(codes)), "right").tolist()
        for number, one in enumerate(codes.tolist()):
            key = (one & 3, one >> 33, one >> 2 & 0x7FFFFFFF)
            known = self._found.get(key)
            if known is None:
                known = self._found[key] = _Combination()
            known.sums.add(sums[number])
            count = sums[number].transactions
            latest = order[ends[number] - min(EXAMPLES, count) : ends[number]]
            known.latest = heapq.nlargest(
                EXAMPLES, [*known.latest, *(_example(past, at) for at in latest.tolist())]
            )

    def report(self, *, since_ms: int, took_s: float = 0.0) -> Report:
        """Return what was found so far.

        Args:
            since_ms: From when on records were taken, UTC epoch milliseconds.
            took_s: Time taken, s.
        """
        everything = total(one.sums for one in self._found.values())
        return Report(
            draft=self._draft.evaluator.rules.version,
            active=self._active.evaluator.rules.version,
            period=Period(
                since=utc_text(since_ms),
                first_scored_at=None if self._first_ms is None else utc_text(self._first_ms),
                last_scored_at=None if self._first_ms is None else utc_text(self._last_ms),
                read=self._read,
                judged=everything.transactions,
                duplicates=self._duplicates,
                repeated=self._repeated,
                unscored=self._unscored,
                unreadable=self._reader.unreadable,
            ),
            total=everything,
            decided=self._by_outcome(lambda key: _OUTCOMES[key[0]]),
            by_active=self._by_outcome(lambda key: self._active.outcome(key[1])),
            by_draft=self._by_outcome(lambda key: self._draft.outcome(key[2])),
            against_decided=self._changes(lambda key: _OUTCOMES[key[0]]),
            against_active=self._changes(lambda key: self._active.outcome(key[1])),
            rules=self._rules(self._draft, 2, self._active, 1, everything),
            active_rules=self._rules(self._active, 1, self._draft, 2, everything),
            lists=self._lists(),
            took_s=round(took_s, 3),
        )

    def _by_outcome(self, outcome: Callable[[Key], Outcome]) -> dict[Outcome, Tally]:
        return {
            one: total(found.sums for key, found in self._found.items() if outcome(key) is one)
            for one in Outcome
        }

    def _changes(self, before: Callable[[Key], Outcome]) -> list[Change]:
        changes = []
        for one in Outcome:
            for other in Outcome:
                keys = [
                    key
                    for key in self._found
                    if before(key) is one and self._draft.outcome(key[2]) is other
                ]
                changes.append(
                    Change(
                        before=one,
                        after=other,
                        transactions=total(self._found[key].sums for key in keys),
                        examples=self._examples(keys) if one is not other else [],
                    )
                )
        return changes

    def _rules(
        self, ours: _Found, our: int, theirs: _Found, their: int, everything: Tally
    ) -> list[RuleReport]:
        reports = []
        others = [one.rule for one in theirs.evaluator.rules]
        for compiled in ours.evaluator.rules:
            rule = compiled.rule
            keys = [key for key in self._found if rule.id in ours.rules(key[our])]
            hits = total(self._found[key].sums for key in keys)
            common: dict[str, int] = {}
            for key in keys:
                for other in theirs.rules(key[their]):
                    common[other] = common.get(other, 0) + self._found[key].sums.transactions
            changed = [
                key
                for key in keys
                if self._active.outcome(key[1]) is not self._draft.outcome(key[2])
            ]
            examples = self._examples(changed)
            if len(examples) < EXAMPLES:
                same = [key for key in keys if key not in changed]
                examples += self._examples(same)[: EXAMPLES - len(examples)]
            reports.append(
                RuleReport(
                    id=rule.id,
                    version=rule.version,
                    outcome=rule.outcome,
                    hits=hits,
                    alone=sum(
                        self._found[key].sums.transactions
                        for key in keys
                        if len(ours.rules(key[our])) == 1
                    ),
                    changed=sum(self._found[key].sums.transactions for key in changed),
                    precision=hits.precision,
                    recall=hits.fraud / everything.fraud if everything.fraud else None,
                    overlap=sorted(
                        (
                            Overlap(id=one.id, version=one.version, transactions=common[one.id])
                            for one in others
                            if one.id in common
                        ),
                        key=lambda one: -one.transactions,
                    ),
                    examples=examples,
                )
            )
        return reports

    def _lists(self) -> list[ListReport]:
        keys_of: dict[str, list[Key]] = {}
        for key in self._found:
            for name in self._draft.lists(key[2]):
                keys_of.setdefault(name, []).append(key)
        lists = self._draft.evaluator.lists
        return [
            ListReport(
                name=name,
                use=lists[name].use.value,
                hits=total(self._found[key].sums for key in keys),
            )
            for name, keys in sorted(keys_of.items())
        ]

    def _examples(self, keys: Iterable[Key]) -> list[Example]:
        found = ((one, key) for key in keys for one in self._found[key].latest)
        return [
            Example(
                event_id=one[4],
                scored_at=utc_text(one[0]),
                score=one[5],
                decided=_OUTCOMES[key[0]],
                active=self._active.outcome(key[1]),
                draft=self._draft.outcome(key[2]),
            )
            for one, key in heapq.nlargest(EXAMPLES, found)
        ]


def _example(past: Past, at: int) -> tuple[int, str, int, int, str, int]:
    one = past.decisions[at]
    source = one.source
    return (
        int(past.scored_at_ms[at]), source.topic, source.partition, source.offset,
        past.rows[at].event_id, one.score or 0,
    )  # fmt: skip


def lookups(lists: Mapping[str, ListState]) -> dict[str, Lookup]:
    """Return the policy state's lists as deciding needs them."""
    return {name: Lookup(state) for name, state in lists.items()}


def dry_run(
    settings: KafkaSettings,
    policy_state: PolicyState,
    rules: RuleSet,
    *,
    lists: Mapping[str, Lookup] | None = None,
    days: float = 30,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    stop: Event | None = None,
    clock: Clock = system_clock,
) -> Report:
    """Try a rule set on the transactions of the last days.

    Entries of lists that are there now count from the start, and until they expired: it is asked
    what would have been, had they been there.

    Args:
        settings: How to reach Kafka.
        policy_state: What is in force now.
        rules: The draft; versions of rules may be left out.
        lists: Lists that the draft is tried with, instead of those that there are.
        days: How far back, by the time of publication; Kafka keeps 30 days by default.
        limit: Most transactions, the latest; None is all.
        on_progress: Called with the records read and how many there are, several times a second.
        stop: Ends it when set.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        InvalidRules: The draft could not decide.
        CannotRead: Kafka could not be read.
        Stopped: `stop` was set.
    """
    started = perf_counter()
    present = lookups(policy_state.lists())
    tried = present if lists is None else lists
    draft = CompiledRules(numbered(rules, policy_state.meanings()), tried)
    since_ms = max(0, clock() - round(days * DAY_MS))
    labels = read_labels(settings, since_ms, stop)
    run = DryRun(CompiledRules(policy_state.active_rules), draft, present, tried, labels)
    with TopicSpan(
        settings, Topic.PROCESSED, since_ms=since_ms, latest=limit, service="fraudstream_dry_run"
    ) as span:
        for values in span.values(on_progress, stop):
            run.take(values)
    return run.report(since_ms=since_ms, took_s=perf_counter() - started)


def read_labels(settings: KafkaSettings, since_ms: int, stop: Event | None = None) -> Labels:
    """Read the labels of transactions that were decided from a time on.

    A label comes after its transaction; a day before is read, too, for clocks that are not ours.

    Raises:
        CannotRead: Kafka could not be read.
        Stopped: `stop` was set.
    """
    labels = Labels()
    with TopicSpan(
        settings, Topic.LABELS, since_ms=max(0, since_ms - DAY_MS), service="fraudstream_labels"
    ) as span:
        for batch in span.batches(stop):
            labels.take([message.value() for message in batch])
    return labels
