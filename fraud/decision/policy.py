"""The policy: which rules turn a score into an outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

import orjson

from fraud.contracts.decision import ModelRef, Outcome


@dataclass(frozen=True, slots=True)
class Rule:
    """A named predicate on the score. Its id is never reused; a change raises its version.

    Attributes:
        id: Stable.
        version: 1 and up.
        outcome: What it asks for when it matches.
        min_score: Least score that matches, 0-1000.
        description: One sentence.
    """

    id: str
    version: int
    outcome: Outcome
    min_score: int
    description: str


DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    Rule("R001_high_score", 1, Outcome.BLOCK, 950, "The score is among the highest 1 % of legitimate traffic or above."),
    Rule("R002_elevated_score", 1, Outcome.REVIEW, 900, "The score is among the highest 2 % of legitimate traffic or above."),
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """Rules together with the model they judge.

    Attributes:
        rules: In their order; all that match are kept, and the most severe outcome wins.
        model: The model that scores.
    """

    rules: Sequence[Rule]
    model: ModelRef

    @cached_property
    def version(self) -> str:
        """Content hash that pins rules, thresholds and model."""
        pinned = {"rules": [asdict(rule) for rule in self.rules], "model": self.model.model_dump()}
        return hashlib.sha256(orjson.dumps(pinned, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def matching(self, score: int) -> list[Rule]:
        """Give the rules that match a score, in their order."""
        return [rule for rule in self.rules if score >= rule.min_score]


def most_severe(outcomes: Sequence[Outcome]) -> Outcome:
    """Give the outcome that wins, approve when there is none.

    Example:
        >>> most_severe([Outcome.REVIEW, Outcome.BLOCK]).value
        'block'
    """
    return max(outcomes, key=lambda outcome: outcome.severity, default=Outcome.APPROVE)
