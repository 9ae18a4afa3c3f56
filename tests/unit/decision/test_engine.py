"""The engine: what a decision holds, and what it does when scoring fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from fraud.contracts.decision import Decision, ModelRef, Outcome
from fraud.contracts.transaction import from_mapping
from fraud.decision.engine import Batch, Engine
from fraud.decision.policy import DEFAULT_RULES, Policy, Rule
from fraud.decision.scale import ScoreScale
from fraud.features.packing import pack
from fraud.features.vector import FEATURE_NAMES
from tests.builders import START_MS, Memory, a_record

AMOUNT = FEATURE_NAMES.index("amount_base")


class AmountScorer:
    """Takes a thousandth of the amount for the probability; fails at 666."""

    ref = ModelRef(name="amount", version="1")
    scale = ScoreScale([0, 1], [0, 1000])

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """See the class."""
        if (matrix[:, AMOUNT] == 666).any():
            raise ArithmeticError("cannot score ada@example.com")
        return np.nan_to_num(matrix[:, AMOUNT].astype(np.float64)) / 1000

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """All of it is the amount's."""
        parts = np.zeros(matrix.shape)
        parts[:, AMOUNT] = matrix[:, AMOUNT] / 100
        parts[:, AMOUNT + 1] = -1
        return parts


def an_engine(rules: tuple[Rule, ...] = DEFAULT_RULES) -> Engine:
    scorer = AmountScorer()
    return Engine(
        scorer, Policy(rules, scorer.ref), clock=lambda: START_MS + 500, timer=lambda: 1.0
    )


def a_batch(*records: dict[str, Any]) -> Batch:
    """Pack records as they come, remembering them."""
    packed = pack([from_mapping(record) for record in records])
    rings, duplicates = Memory().remember(packed)
    source = {"topic": "transactions", "partition": 0, "offset": 7, "timestamp_ms": 1}
    return Batch(packed, rings, duplicates, [source] * len(packed))


def decisions(batch: Batch) -> list[dict[str, Any]]:
    return [orjson.loads(decided.json) for decided in an_engine().decide(batch)]


@pytest.mark.parametrize(
    ("amount", "outcome", "outcomes", "rules"),
    [
        (10, "approve", ["approve"], []),
        (899, "approve", ["approve"], []),
        (900, "review", ["review"], ["R002_elevated_score"]),
        (950, "block", ["block", "review"], ["R001_high_score", "R002_elevated_score"]),
        (1000, "block", ["block", "review"], ["R001_high_score", "R002_elevated_score"]),
    ],
)
def test_the_default_rules_review_from_900_and_block_from_950(
    amount: float, outcome: str, outcomes: list[str], rules: list[str]
) -> None:
    """All rules that match are named, and the most severe outcome wins."""
    (decision,) = decisions(a_batch(a_record(transaction_amt=amount)))
    assert decision["score"] == amount
    assert decision["outcome"] == outcome
    assert decision["outcomes"] == outcomes
    assert [rule["id"] for rule in decision["rules"]] == rules


def test_a_decision_is_as_the_contract_declares() -> None:
    """Every field, with its type, and nothing else."""
    batch = a_batch(*[a_record(event_id=str(n), transaction_amt=n * 100) for n in range(11)])
    for decision in decisions(batch):
        assert set(Decision.model_fields) == set(decision)
        Decision.model_validate(decision)
        assert list(decision["features"]) == list(FEATURE_NAMES)


def test_reasons_are_given_for_what_is_not_approved_alone() -> None:
    """Largest part first, and only what raised the score."""
    approved, blocked = decisions(
        a_batch(a_record(transaction_amt=5), a_record(event_id="e2", transaction_amt=999.5))
    )
    assert approved["reasons"] == []
    assert blocked["reasons"] == [
        {"code": "AMOUNT_BASE", "text": "The amount is 999.50 USD.", "contribution": 9.995}
    ]


def test_times_are_those_of_the_contract() -> None:
    """From event_time to the start of scoring, and to the decision."""
    (decision,) = decisions(a_batch(a_record(event_time="2026-03-01T00:00:00Z")))
    assert (decision["proc_time"], decision["ttdf"], decision["frauddetector_time"]) == (
        500,
        500,
        0,
    )
    assert decision["scored_at"] == "2026-03-01T00:00:00.500Z"


def test_a_scoring_failure_is_a_review_and_costs_no_other_row() -> None:
    """The failing row alone is reviewed; its error names no value."""
    batch = a_batch(*[a_record(event_id=str(n), transaction_amt=n) for n in (1, 666, 2)])
    decided = an_engine().decide(batch)
    assert [one.outcome for one in decided] == [Outcome.APPROVE, Outcome.REVIEW, Outcome.APPROVE]
    assert [one.error for one in decided] == ["", "ArithmeticError", ""]
    failed = orjson.loads(decided[1].json)
    Decision.model_validate(failed)
    assert failed["score"] is None
    assert [reason["code"] for reason in failed["reasons"]] == ["SCORING_FAILED"]


def test_a_duplicate_is_decided_as_if_its_repeats_were_not_there() -> None:
    """It is told apart, and gets the score that it got before."""
    before = a_record(event_id="e0", transaction_amt=3, event_time="2026-02-28T23:30:00Z")
    first, second = a_record(transaction_amt=7), a_record(transaction_amt=7)
    _, one, two = decisions(a_batch(before, first, second))
    assert (one["duplicate"], two["duplicate"]) == (False, True)
    assert one["features"] == two["features"]
    assert (one["history"], two["history"]) == ({"entity": 1, "ip": 1, "merchant": 1},) * 2


def test_an_unknown_currency_is_scored_without_the_amount() -> None:
    """Features in the base currency are null then, all others stand."""
    (decision,) = decisions(a_batch(a_record(transaction_currency="ZWD", transaction_amt=10)))
    assert decision["features"]["amount_base"] is None
    assert decision["features"]["entity_tx_count_1h"] == 1


def test_a_policy_is_pinned_by_all_that_it_holds() -> None:
    """Another threshold, rule or model is another version."""
    ref = AmountScorer.ref
    changed = (DEFAULT_RULES[0], Rule("R002_elevated_score", 2, Outcome.REVIEW, 901, "x"))
    versions = {
        Policy(DEFAULT_RULES, ref).version,
        Policy(DEFAULT_RULES[:1], ref).version,
        Policy(changed, ref).version,
        Policy(DEFAULT_RULES, ModelRef(name="amount", version="2")).version,
    }
    assert len(versions) == 4
    assert Policy(DEFAULT_RULES, ref).version in versions


def test_nothing_is_decided_for_nothing() -> None:
    """An empty batch comes when all records of it were invalid."""
    assert an_engine().decide(a_batch()) == []
