"""Batches, rules and lists, and an engine that scores by the amount alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListChange, ListFold, ListUse
from fraud.contracts.rules import RuleSet
from fraud.contracts.transaction import from_mapping
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.lists import Lookup
from fraud.decision.policy import Policy, ShadowPolicy
from fraud.decision.rule_sets import CompiledRules, shipped
from fraud.decision.scale import ScoreScale
from fraud.features.packing import pack
from fraud.features.vector import FEATURE_NAMES
from tests.support.builders import START_MS, Memory

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


def rules(*rules: tuple[str, str, str], matching: str = "ALL_MATCHED") -> CompiledRules:
    """Compile rules of an expression, an outcome and a reason, called R0 and so on."""
    return CompiledRules(
        RuleSet.model_validate(
            {
                "matching": matching,
                "rules": [
                    {"id": f"R{at}", "when": when, "outcome": outcome, "reason": reason}
                    for at, (when, outcome, reason) in enumerate(rules)
                ],
            }
        )
    )


def a_list(name: str, use: ListUse, *entries: dict[str, str], kind: str = "ip") -> Lookup:
    change = ListChange.model_validate({"type": kind, "use": use, "add": entries})
    fold = ListFold()
    fold.take(name, "c0", change, "ada", 0)
    return Lookup(fold.states()[name])


def an_engine(
    rules: CompiledRules | None = None,
    *lists: Lookup,
    challenge: CompiledRules | None = None,
    challenger: Any = None,
) -> Engine:
    scorer = AmountScorer()
    shadow = challenge or (shipped() if challenger else None)
    policy = Policy(
        rules or shipped(),
        scorer.ref,
        {one.name: one for one in lists},
        shadow and ShadowPolicy((challenger or scorer).ref, shadow),
    )
    return Engine(
        scorer,
        policy,
        clock=lambda: START_MS + 500,
        timer=lambda: 1.0,
        challenger=challenger,
    )


def a_batch(*records: dict[str, Any]) -> TransactionBatch:
    """Pack records as they come, remembering them."""
    transactions = [from_mapping(record) for record in records]
    packed = pack(transactions)
    rings, duplicates = Memory().remember(packed)
    source = {"topic": "transactions", "partition": 0, "offset": 7, "timestamp_ms": 1}
    return TransactionBatch(
        packed,
        FieldsOfTransactions(transactions),
        rings,
        duplicates,
        [source] * len(packed),
    )
