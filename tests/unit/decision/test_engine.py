"""The engine: what a decision holds, and what it does when scoring fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from fraud.contracts.decision import Decision, ModelRef, Outcome
from fraud.contracts.lists import ListUse
from fraud.contracts.transaction import FIELDS, from_mapping
from fraud.contracts.versions import shown
from fraud.decision.columns import FieldsOfRecords, FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.policy import Policy, ShadowPolicy
from fraud.decision.rule_sets import shipped
from fraud.features.vector import FEATURE_NAMES
from tests.support.builders import a_record
from tests.support.deciding import AMOUNT, AmountScorer, a_batch, a_list, an_engine, rules


def decisions(batch: TransactionBatch, engine: Engine | None = None) -> list[dict[str, Any]]:
    return [orjson.loads(decided.json) for decided in (engine or an_engine()).decide(batch)]


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
        assert decision["versions"] == {"rules": shown(shipped().version), "lists": {}}


@pytest.mark.parametrize(
    "change",
    [{"transaction_amt": 11}, {"transaction_currency": "EUR"}, {"card_bin": "42"}, {"merchant_id": "x"}],
)  # fmt: skip
def test_the_same_id_with_other_content_is_an_event_of_its_own(change: dict[str, Any]) -> None:
    """It counts, it says so, and its own retries are duplicates."""
    first = a_record(transaction_amt=10)
    retry = {"event_time": "2026-03-01T09:31:00Z", "user_agent": "another"}
    batch = a_batch(first, first | retry, first | change, first | change | retry)
    once, again, reused, reused_again = decisions(batch)
    assert [each["duplicate"] for each in (once, again, reused, reused_again)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert [each["marks"] for each in (once, again, reused, reused_again)] == [
        [], [], ["EVENT_ID_REUSED"], [],
    ]  # fmt: skip
    assert reused["reasons"][0]["code"] == "EVENT_ID_REUSED"
    assert reused["features"]["entity_tx_count_24h"] == 2


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


def test_under_first_matched_one_rule_counts() -> None:
    """The others are as if they had not matched."""
    asked = (("$amount_base > 5", "review", ""), ("$amount_base > 1", "block", "x"))
    batch = a_batch(a_record(transaction_amt=7), a_record(event_id="e2", transaction_amt=3))
    first, second = decisions(batch, an_engine(rules(*asked, matching="FIRST_MATCHED")))
    assert (first["outcome"], first["outcomes"]) == ("review", ["review"])
    assert [rule["id"] for rule in second["rules"]] == ["R1"]
    assert decisions(batch, an_engine(rules(*asked)))[0]["outcome"] == "block"


def test_a_rules_own_reason_comes_first() -> None:
    """And is given for what is not approved, whatever the score."""
    asked = rules(
        ("$transaction_currency == 'USD'", "review", "Paid in dollars."),
        ("$email_address == 'jasonsnyder@lynch.org'", "approve", "A friend."),
    )
    (decision,) = decisions(a_batch(a_record(transaction_amt=5)), an_engine(asked))
    assert [rule["id"] for rule in decision["rules"]] == ["R0", "R1"]
    assert [reason["code"] for reason in decision["reasons"]] == ["R0", "AMOUNT_BASE"]
    assert decision["reasons"][0] == {
        "code": "R0",
        "text": "Paid in dollars.",
        "contribution": None,
    }


@pytest.mark.parametrize(
    ("uses", "outcome"),
    [
        ((), "review"),
        (("watch",), "review"),
        (("block",), "block"),
        (("block", "watch"), "block"),
        (("allow", "block", "watch"), "approve"),
        (("reference",), "review"),
    ],
)
def test_allow_goes_before_block_before_rules(uses: tuple[str, ...], outcome: str) -> None:
    """A watch list asks for review; a list of reference means nothing by itself."""
    on = [a_list(use, ListUse(use), {"value": "203.0.113.0/24"}) for use in uses]
    engine = an_engine(rules(("$amount_base > 1", "review", "")), *on)
    (decision,) = decisions(a_batch(a_record()), engine)
    assert decision["outcome"] == outcome
    assert decision["lists"] == [
        {"name": use, "use": use, "field": "ip_address"}
        for use in sorted(uses)
        if use != "reference"
    ]
    told = [reason["text"] for reason in decision["reasons"]]
    if outcome == "block":
        assert told[0] == "The IP address is on the block list block."


def test_a_watch_list_reviews_what_no_rule_asks_for() -> None:
    engine = an_engine(None, a_list("seen", ListUse.WATCH, {"value": "203.0.113.7"}))
    first, other = decisions(
        a_batch(a_record(), a_record(event_id="e2", ip_address="203.0.113.8")), engine
    )
    assert (first["outcome"], other["outcome"]) == ("review", "approve")
    assert other["lists"] == []


def test_an_entry_counts_until_it_expires() -> None:
    """By the time of the decision, which it names."""
    over = {"value": "203.0.113.7", "expires_at": "2026-03-01T00:00:00.500Z"}
    lasting = {"value": "203.0.113.7", "expires_at": "2026-03-01T00:00:00.501Z"}
    for entry, outcome in ((over, "approve"), (lasting, "block")):
        engine = an_engine(None, a_list("bad", ListUse.BLOCK, entry))
        (decision,) = decisions(a_batch(a_record()), engine)
        assert decision["outcome"] == outcome
        assert decision["scored_at"] == "2026-03-01T00:00:00.500Z"


def test_rules_ask_for_lists_by_name() -> None:
    """One that is gone holds nothing."""
    asked = rules(("$ip_address in @seen", "review", ""), ("$ip_address in @gone", "block", ""))
    engine = an_engine(asked, a_list("seen", ListUse.REFERENCE, {"value": "203.0.113.0/28"}))
    (decision,) = decisions(a_batch(a_record()), engine)
    assert [rule["id"] for rule in decision["rules"]] == ["R0"]
    assert decision["versions"]["lists"].keys() == {"seen"}


def test_fields_are_the_same_from_bytes_and_from_transactions() -> None:
    """The stream parses again, REST has parsed already."""
    records = [
        a_record(card_bin=411111, channel="", transaction_amt="9.50"),
        a_record(phone=None, billing_latitude="12.5"),
    ]
    transactions = [from_mapping(record) for record in records]
    of_bytes = FieldsOfRecords.of_values([orjson.dumps(record) for record in records])
    for field in FIELDS:
        assert of_bytes.column(field.name) == FieldsOfTransactions(transactions).column(field.name)


class DoubleScorer(AmountScorer):
    """A challenger: twice the probability; fails at 333."""

    ref = ModelRef(name="double", version="9")

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """See the class."""
        if (matrix[:, AMOUNT] == 333).any():
            raise ArithmeticError("cannot score ada@example.com")
        return super().predict(matrix) * 2


def test_a_challenging_model_is_recorded_and_decides_nothing() -> None:
    engine = an_engine(challenger=DoubleScorer())
    (decision,) = decisions(a_batch(a_record(transaction_amt=480)), engine)
    assert (decision["outcome"], decision["score"]) == ("approve", 480)
    assert decision["shadow"] == {
        "outcome": "block",
        "score": 960,
        "probability": 0.96,
        "rules": [
            {"id": "R001_high_score", "version": 1, "outcome": "block"},
            {"id": "R002_elevated_score", "version": 1, "outcome": "review"},
        ],
        "model": {"name": "double", "version": "9"},
        "rules_version": shown(shipped().version),
    }
    Decision.model_validate(decision)


def test_challenging_rules_judge_the_same_score() -> None:
    engine = an_engine(challenge=rules(("$score > 10", "block", "")))
    (decision,) = decisions(a_batch(a_record(transaction_amt=480)), engine)
    assert decision["outcome"] == "approve"
    assert (decision["shadow"]["outcome"], decision["shadow"]["score"]) == ("block", 480)
    assert decision["shadow"]["model"] == decision["model"]


def test_a_challenger_that_fails_costs_the_decision_nothing() -> None:
    engine = an_engine(challenger=DoubleScorer())
    (decided,) = engine.decide(a_batch(a_record(transaction_amt=333)))
    decision = orjson.loads(decided.json)
    assert (decided.outcome, decided.error) == (Outcome.APPROVE, "")
    assert decided.shadow_error == "ArithmeticError"
    assert decision["shadow"] is None


def test_a_policy_is_pinned_by_all_that_it_holds() -> None:
    """Another rule, entry, model or challenge is another version; the order of lists does not matter."""
    ref, other = AmountScorer.ref, ModelRef(name="amount", version="2")
    bad, seen = (a_list(name, ListUse.BLOCK, {"value": "10.0.0.1"}) for name in ("bad", "seen"))
    changed = rules(("$score >= 901", "review", ""))
    policies = [
        Policy(shipped(), ref),
        Policy(changed, ref),
        Policy(shipped(), other),
        Policy(shipped(), ref, {"bad": bad}),
        Policy(shipped(), ref, {"bad": bad, "seen": seen}),
        Policy(shipped(), ref, {}, ShadowPolicy(other, shipped())),
        Policy(shipped(), ref, {}, ShadowPolicy(ref, changed)),
    ]
    versions = {one.version for one in policies}
    assert len(versions) == len(policies)
    assert Policy(shipped(), ref, {"seen": seen, "bad": bad}).version in versions


def test_nothing_is_decided_for_nothing() -> None:
    """An empty batch comes when all records of it were invalid."""
    assert an_engine().decide(a_batch()) == []
