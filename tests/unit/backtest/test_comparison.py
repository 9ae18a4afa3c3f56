"""A comparison counts what a plain scan over the decisions counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import average_precision_score

from fraud.backtest.comparison import Comparisons, ShadowComparison
from fraud.backtest.past_decisions import KnownLabels
from fraud.contracts.decision import Outcome
from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import shown
from fraud.decision.engine import Engine
from fraud.decision.policy import Policy, ShadowPolicy
from fraud.decision.rule_sets import CompiledRules, shipped
from tests.support.builders import START_MS
from tests.support.past import SpreadScorer, decided, transactions

CHAMPION, CHALLENGER = SpreadScorer("1"), SpreadScorer("2", 0.41)
RULES = CompiledRules(
    RuleSet.model_validate(
        {"rules": [
            {"id": "R001_high_score", "when": "$score >= 800", "outcome": "block"},
            {"id": "N1", "when": "$amount_base > 200", "outcome": "review"},
        ]}
    )
)  # fmt: skip


def engines(*challenges: ShadowPolicy | None) -> list[Engine]:
    return [
        Engine(
            CHAMPION,
            Policy(shipped(), CHAMPION.ref, {}, challenge),
            lambda: START_MS,
            lambda: 0.0,
            None if challenge is None or challenge.model == CHAMPION.ref else CHALLENGER,
        )
        for challenge in challenges
    ]


@pytest.fixture(scope="module")
def values() -> list[bytes]:
    """A quarter without a challenger, one with another model, the rest with other rules, too."""
    made = engines(
        None, ShadowPolicy(CHALLENGER.ref, shipped()), ShadowPolicy(CHALLENGER.ref, RULES)
    )
    sent = transactions(800)
    sent[500:500] = sent[490:500]
    values = list(decided(sent, lambda batch: made[min(batch // 12, 2)]))
    return [*values, *values[700:720], b"?"]


def is_fraud(fd: dict[str, Any]) -> bool:
    """The challenger is right, and sees more of it than the champion."""
    return bool(int(fd["shadow"]["probability"] * 1000) % 1000 > 900) if fd["shadow"] else False


@pytest.fixture(scope="module")
def labels(values: list[bytes]) -> KnownLabels:
    labels = KnownLabels()
    for at, value in enumerate(values[:-1]):
        record = orjson.loads(value)
        if at % 4:
            what = "fraud" if is_fraud(record["fd"]) else "legitimate"
            labels.add([orjson.dumps({"event_id": record["event_id"], "label": what})])
    return labels


def compared(values: list[bytes], labels: KnownLabels, size: int) -> Comparisons:
    comparison = ShadowComparison(labels, resamples=50)
    for first in range(0, len(values), size):
        comparison.add(values[first : first + size])  # type: ignore[arg-type]
    return comparison.report(since_ms=START_MS)


@pytest.mark.parametrize("size", [5, 10_000])
def test_a_comparison_counts_what_a_plain_scan_counts(
    values: list[bytes], labels: KnownLabels, size: int
) -> None:
    """Each combination of champion, challenger and rules is told by itself."""
    found = compared(values, labels, size)
    rows = []
    seen = set()
    for value in values[:-1]:
        record = orjson.loads(value)
        if not record["fd"]["duplicate"] and record["event_id"] not in seen:
            seen.add(record["event_id"])
            rows.append(record)
    assert (found.read, found.unreadable, found.passed_over) == (831, 1, 30)
    assert found.without_challenger == 12 * 16
    assert {one.challenger_rules for one in found.combinations} == {
        shown(shipped().version),
        shown(RULES.version),
    }
    for one in found.combinations:
        assert (one.champion, one.challenger, one.rules) == (
            "spread@1",
            "spread@2",
            shown(shipped().version),
        )
        of_it = [
            row["fd"]
            for row in rows
            if row["fd"]["shadow"] and row["fd"]["shadow"]["rules_version"] == one.challenger_rules
        ]
        assert one.decisions == len(of_it)
        same = [fd for fd in of_it if fd["outcome"] == fd["shadow"]["outcome"]]
        assert one.agreement == pytest.approx(len(same) / len(of_it))
        pairs = Counter((fd["outcome"], fd["shadow"]["outcome"]) for fd in of_it)
        assert {
            (each.champion, each.challenger): each.transactions.transactions
            for each in one.outcomes
            if each.transactions.transactions
        } == dict(pairs)
        differences = np.array([fd["shadow"]["score"] - fd["score"] for fd in of_it])
        assert one.score.mean == pytest.approx(differences.mean())
        assert one.score.mean_absolute == pytest.approx(np.abs(differences).mean())
        assert one.score.p50 == np.percentile(differences, 50, method="inverted_cdf")
        assert one.score.p95 == np.percentile(differences, 95, method="inverted_cdf")
        assert (one.score.lower, one.score.higher) == (
            (differences < 0).sum(),
            (differences > 0).sum(),
        )
        for rule in one.rule_hits:
            ours, theirs = (
                [any((hit["id"], hit["version"]) == (rule.id, rule.version) for hit in side["rules"]) for side in sides]
                for sides in (of_it, [fd["shadow"] for fd in of_it])
            )  # fmt: skip
            assert (rule.champion, rule.challenger) == (sum(ours), sum(theirs))
            assert rule.both == sum(a and b for a, b in zip(ours, theirs, strict=True))


def test_labels_say_which_is_better(values: list[bytes], labels: KnownLabels) -> None:
    """The figures are those of scikit-learn and of counting; the intervals leave no doubt here."""
    for one in compared(values, labels, 100).combinations:
        of_it = [
            row
            for row in map(orjson.loads, values[:810])
            if not row["fd"]["duplicate"]
            and (row["fd"]["shadow"] or {}).get("rules_version") == one.challenger_rules
        ]
        known = [
            (row["fd"], what == 2)
            for row, what in zip(of_it, labels.of([row["event_id"] for row in of_it]), strict=True)
            if what
        ]
        fraud = np.array([is_it for _, is_it in known])
        quality = one.quality
        assert quality is not None
        assert (quality.labelled, quality.fraud) == (len(known), int(fraud.sum()))
        figures = {figure.name: figure for figure in quality.figures}
        precision = figures["average precision of the probabilities"]
        for said, side in (
            (precision.champion, [fd for fd, _ in known]),
            (precision.challenger, [fd["shadow"] for fd, _ in known]),
        ):
            assert said == pytest.approx(
                average_precision_score(fraud, [each["probability"] for each in side])
            )
        assert precision.better == "challenger"
        caught = figures["fraud caught (review or block)"]
        acted = np.array([fd["outcome"] != "approve" for fd, _ in known])
        assert caught.champion == pytest.approx((acted & fraud).sum() / fraud.sum())
        money = figures["fraudulent money caught"]
        amounts = np.array([fd["features"]["amount_base"] or 0 for fd, _ in known])
        assert money.champion == pytest.approx(
            amounts[acted & fraud].sum() / amounts[fraud].sum(), abs=1e-5
        )
        low, high = precision.interval or (0, 0)
        assert 0 < low <= high


def test_equal_challengers_are_no_better(labels: KnownLabels) -> None:
    """Only rules are tried, and they are the same: every interval holds 0."""
    (engine,) = engines(ShadowPolicy(CHAMPION.ref, shipped()))
    values = list(decided(transactions(200), lambda _: engine))
    known = KnownLabels()
    for at, value in enumerate(values):
        label = "fraud" if at % 5 == 0 else "legitimate"
        known.add([orjson.dumps({"event_id": orjson.loads(value)["event_id"], "label": label})])
    (one,) = compared(values, known, 64).combinations
    assert one.agreement == 1
    assert one.quality is not None
    assert {figure.better for figure in one.quality.figures} == {None}
    assert one.outcomes[0].champion is Outcome.APPROVE


def test_without_labels_nothing_is_said_of_quality(values: list[bytes]) -> None:
    """Agreement and differences are all there is."""
    found = compared(values, KnownLabels(), 100)
    assert [one.quality for one in found.combinations] == [None, None]
    assert Comparisons.model_validate_json(found.model_dump_json()) == found
