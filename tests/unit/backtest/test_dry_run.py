"""A dry run counts what a plain scan over the decisions counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest

from fraud.backtest.dry_run import Report, RuleBacktest
from fraud.backtest.past_decisions import KnownLabels, PastReader, Wanted
from fraud.contracts.decision import Outcome
from fraud.contracts.lists import ListChange, ListEntry, ListFold, ListType, ListUse
from fraud.contracts.rules import Matching, Rule, RuleSet
from fraud.contracts.transaction import decode
from fraud.decision.columns import BatchColumns, FieldsOfTransactions
from fraud.decision.engine import Engine
from fraud.decision.lists import Lookup
from fraud.decision.policy import Policy, RuleEvaluator
from fraud.decision.rule_sets import CompiledRules, default_rules
from fraud.features.vector import FEATURE_NAMES
from tests.support.builders import START_MS
from tests.support.past import SpreadScorer, decided, transactions

EXPIRES_MS = START_MS + 20_000
"""Half of the decisions are made before."""

ACTIVE = CompiledRules(default_rules())
DRAFT = RuleSet(
    matching=Matching.ALL,
    rules=(
        Rule(id="D1", when="$score >= 940", outcome=Outcome.BLOCK),
        Rule(id="D2", when="$amount_base > 100 and $score > 500", outcome=Outcome.REVIEW),
        Rule(id="D3", when="$card_bin == '400000' and $entity_tx_count_1h >= 3", outcome=Outcome.REVIEW),
        Rule(id="D4", when="$ip_address in @watched", outcome=Outcome.REVIEW),
        Rule(id="D5", when="$probability < 0.01", outcome=Outcome.APPROVE),
        Rule(id="off", when="$score > 0", outcome=Outcome.BLOCK, enabled=False),
    ),
)  # fmt: skip


def a_list(name: str, kind: ListType, use: ListUse, *values: str, expires: bool = False) -> Lookup:
    end = datetime.fromtimestamp(EXPIRES_MS / 1000, UTC) if expires else None
    entries = tuple(ListEntry(value=value, expires_at=end) for value in values)
    fold = ListFold()
    fold.take(name, "c1", ListChange(type=kind, use=use, add=entries), "ada", 0)
    return Lookup(fold.states()[name])


LISTS = {
    "watched": a_list("watched", ListType.IP, ListUse.REFERENCE, "203.0.113.0/27", expires=True),
    "friends": a_list("friends", ListType.ENTITY, ListUse.ALLOW, "cust-001", "cust-002"),
    "phones": a_list("phones", ListType.PHONE, ListUse.BLOCK, "12025550199", expires=True),
}


def clocked(now: list[int]) -> Callable[[int], Engine]:
    scorer = SpreadScorer()
    engine = Engine(scorer, Policy(ACTIVE, scorer.ref, LISTS), lambda: now[0], lambda: 0.0)

    def of(batch: int) -> Engine:
        now[0] = START_MS + batch * 1000
        return engine

    return of


@pytest.fixture(scope="module")
def values() -> list[bytes]:
    """Six hundred decisions, some of an event that was decided before, some published twice."""
    sent = transactions(600)
    sent[300:300] = sent[100:120]
    made = list(decided(sent, clocked([0])))
    return [*made, *made[50:60], b"{", None]  # type: ignore[list-item]


@pytest.fixture(scope="module")
def labels(values: list[bytes]) -> KnownLabels:
    labels = KnownLabels()
    for at, value in enumerate(values[:500]):
        if value and at % 2:
            event_id = orjson.loads(value)["event_id"]
            for what in ("fraud", "legitimate") if at % 3 else ("legitimate", "fraud"):
                labels.add(
                    [
                        orjson.dumps(
                            {"event_id": event_id, "label": what, "label_time": "", "source": "x"}
                        )
                    ]
                )
    labels.add([b"?"])
    return labels


def run(values: list[bytes], labels: KnownLabels, size: int, **changes: Any) -> Report:
    parts: dict[str, Any] = {
        "active": ACTIVE,
        "draft": CompiledRules(DRAFT),
        "active_lists": LISTS,
        "draft_lists": LISTS,
    }
    dry = RuleBacktest(**(parts | changes), labels=labels)
    for first in range(0, len(values), size):
        dry.add(values[first : first + size])
    return dry.report(since_ms=START_MS)


class Naive:
    """Judges one record after the other, with the contract's own reader."""

    def __init__(self, values: list[bytes], labels: KnownLabels) -> None:
        self.rows: list[dict[str, Any]] = []
        seen = set()
        for value in values:
            try:
                record = orjson.loads(value or b"")
            except orjson.JSONDecodeError:
                continue
            fd = record.pop("fd")
            place = tuple(fd["source"].values())
            if fd["duplicate"] or place in seen:
                continue
            seen.add(place)
            features = [fd["features"][name] for name in FEATURE_NAMES]
            at_ms = round(datetime.fromisoformat(fd["scored_at"]).timestamp() * 1000)

            def judged(rules: CompiledRules) -> dict[str, Any]:
                columns = BatchColumns(
                    np.array([features], np.float32),  # noqa: B023
                    [fd["score"]],  # noqa: B023
                    np.array([fd["probability"]]),  # noqa: B023
                    FieldsOfTransactions([decode(orjson.dumps(record))]),  # noqa: B023
                    LISTS,
                    at_ms,  # noqa: B023
                )
                (ruling,) = RuleEvaluator(rules, LISTS).evaluate(columns)
                return {"outcome": ruling.outcome, **orjson.loads(b"{%b}" % ruling.json)}

            self.rows.append(
                {
                    "event_id": record["event_id"],
                    "scored_at": at_ms,
                    "decided": fd["outcome"],
                    "active": judged(ACTIVE),
                    "draft": judged(CompiledRules(DRAFT)),
                    "amount": fd["features"]["amount_base"],
                    "label": int(labels.of([record["event_id"]])[0]),
                }
            )


@pytest.fixture(scope="module")
def rows(values: list[bytes], labels: KnownLabels) -> list[dict[str, Any]]:
    return Naive(values, labels).rows


def tally(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def amount(some: list[dict[str, Any]]) -> float:
        return pytest.approx(sum(round(row["amount"] or 0, 2) for row in some), abs=0.005)  # type: ignore[no-any-return]

    fraud = [row for row in rows if row["label"] == 2]
    legitimate = [row for row in rows if row["label"] == 1]
    return {
        "transactions": len(rows),
        "amount": amount(rows),
        "without_rate": sum(row["amount"] is None for row in rows),
        "fraud": len(fraud),
        "fraud_amount": amount(fraud),
        "legitimate": len(legitimate),
        "legitimate_amount": amount(legitimate),
    }


def hits(row: dict[str, Any], who: str) -> set[str]:
    return {one["id"] for one in row[who]["rules"]}


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_dry_run_counts_what_a_plain_scan_counts(
    values: list[bytes], labels: KnownLabels, rows: list[dict[str, Any]], size: int
) -> None:
    """Whatever the batches, every figure is that of judging one transaction at a time."""
    report = run(values, labels, size)
    assert report.total.model_dump() == tally(rows)
    assert report.total.fraud > 50
    assert report.total.legitimate > 50
    assert report.period.model_dump() == {
        "since": "2026-03-01T00:00:00.000Z",
        "first_scored_at": "2026-03-01T00:00:00.000Z",
        "last_scored_at": "2026-03-01T00:00:38.000Z",
        "read": 632,
        "judged": 600,
        "duplicates": 20,
        "repeated": 10,
        "unscored": 0,
        "unreadable": 2,
    }
    for outcome in Outcome:
        assert report.decided[outcome].model_dump() == tally(
            [row for row in rows if row["decided"] == outcome]
        )
        assert report.by_draft[outcome].model_dump() == tally(
            [row for row in rows if row["draft"]["outcome"] == outcome]
        )
        # Decided by these very rules and lists, they decide the same again.
        assert report.by_active[outcome] == report.decided[outcome]
    for changes, before in (
        (report.against_decided, lambda row: row["decided"]),
        (report.against_active, lambda row: row["active"]["outcome"]),
    ):
        assert len(changes) == 9
        for one in changes:
            moved = [
                row
                for row in rows
                if before(row) == one.before and row["draft"]["outcome"] == one.after
            ]
            assert one.transactions.model_dump() == tally(moved)
            if one.before is not one.after:
                assert {example.event_id for example in one.examples} <= {
                    row["event_id"] for row in moved
                }
                assert len(one.examples) == min(5, len(moved))
    assert [rule.id for rule in report.rules] == ["D1", "D2", "D3", "D4", "D5"]
    for rule in report.rules:
        hit = [row for row in rows if rule.id in hits(row, "draft")]
        assert hit, rule.id
        assert rule.hits.model_dump() == tally(hit)
        assert rule.alone == sum(len(hits(row, "draft")) == 1 for row in hit)
        changed = [row for row in hit if row["active"]["outcome"] != row["draft"]["outcome"]]
        assert rule.changed == len(changed)
        common = Counter(other for row in hit for other in hits(row, "active"))
        assert {one.id: one.transactions for one in rule.overlap} == dict(common)
        latest = sorted(changed, key=lambda row: row["scored_at"], reverse=True)[:5]
        assert [example.scored_at for example in rule.examples[: len(latest)]] == [
            datetime.fromtimestamp(row["scored_at"] / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            for row in latest
        ]  # fmt: skip
    assert {one.name: one.hits.transactions for one in report.lists} == dict(
        Counter(one["name"] for row in rows for one in row["draft"]["lists"])
    )


def test_a_list_is_judged_as_of_each_decision(
    values: list[bytes], labels: KnownLabels, rows: list[dict[str, Any]]
) -> None:
    """An entry counts until it expired, not until now."""
    listed = [row for row in rows if "D4" in hits(row, "draft")]
    assert listed
    assert max(row["scored_at"] for row in listed) < EXPIRES_MS
    assert run(values, labels, 100).rules[3].hits.transactions == len(listed)


def test_a_draft_is_tried_with_other_lists(values: list[bytes], labels: KnownLabels) -> None:
    """Lists that are changed for the draft leave the active rules with theirs."""
    more = {
        **LISTS,
        "friends": a_list(
            "friends", ListType.ENTITY, ListUse.ALLOW, *(f"cust-{n:03d}" for n in range(30))
        ),
    }
    report = run(values, labels, 100, draft_lists=more)
    assert report.by_draft[Outcome.APPROVE].transactions == 600
    assert report.by_active == report.decided


def test_the_first_rule_that_matches_takes_all(values: list[bytes], labels: KnownLabels) -> None:
    """Under FIRST_MATCHED hits are of the rule that counts."""
    first = DRAFT.model_copy(update={"matching": Matching.FIRST})
    report = run(values, labels, 100, draft=CompiledRules(first))
    assert all(rule.alone == rule.hits.transactions for rule in report.rules)


def test_a_transaction_whose_scoring_failed_is_passed_over(labels: KnownLabels) -> None:
    """It is for review, whatever rules say."""
    now = [START_MS]
    scorer = SpreadScorer()
    scorer.predict = lambda matrix: 1 / 0  # type: ignore[method-assign, assignment]
    engine = Engine(scorer, Policy(ACTIVE, scorer.ref), lambda: now[0], lambda: 0.0)
    report = run(list(decided(transactions(5), lambda _: engine)), labels, 5)
    assert (report.period.unscored, report.period.judged) == (5, 0)
    assert report.period.first_scored_at is None


def test_a_report_travels_as_json(values: list[bytes], labels: KnownLabels) -> None:
    """What the API sends is the report."""
    report = run(values, labels, 100)
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("odd", [b"1e400", b'"\\ud800"', b'["\\udc00", 1e999]', b"7" * 5000])
def test_a_decision_is_read_whatever_json_an_undeclared_field_has(odd: bytes) -> None:
    """The stream passes it on unread."""
    plain = transactions(40)
    made = [
        list(decided(sent, clocked([0])))
        for sent in (plain, [value[:-1] + b',"extra":%b}' % odd for value in plain])
    ]
    wanted = Wanted(frozenset({"ip_address"}), frozenset(FEATURE_NAMES))
    read = []
    for values in made:
        reader = PastReader(wanted)
        read.append(reader.read_once(values))
        assert (reader.total, reader.unreadable) == (40, 0)
    assert read[0].event_ids == read[1].event_ids
    assert read[0].column("ip_address") == read[1].column("ip_address")
    assert read[0].scores == read[1].scores
    np.testing.assert_array_equal(read[0].matrix, read[1].matrix)
