"""Rules and rule sets: from score, features and fields to an outcome, as versioned data.

A rule set is the content of a control document of kind `rules`; `fraud.decision.rule_sets` compiles it.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fraud.contracts.decision import Outcome

MAX_RULES: Final = 500
"""Most rules of a set."""

MAX_EXPRESSION: Final = 4_096
"""Longest expression of a rule, characters: that of Amazon Fraud Detector."""

MAX_VERSION: Final = 2_147_483_647
"""Highest version of a rule: what an index keeps as an integer."""

RULE_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class Matching(StrEnum):
    """Which of the rules that match count; the names are Amazon Fraud Detector's."""

    FIRST = "FIRST_MATCHED"
    """The first in the set's order, and no other."""
    ALL = "ALL_MATCHED"
    """All of them; the most severe outcome wins."""


class RuleStatus(StrEnum):
    """What a version of the rule set is."""

    DRAFT = "DRAFT"
    """It never decided."""
    ACTIVE = "ACTIVE"
    """It decides; exactly one does."""
    INACTIVE = "INACTIVE"
    """It decided once."""


def _one_newline(text: str) -> str:
    # Files are written with one kind of line break: with two, what is read back would be another text.
    return text.replace("\r\n", "\n").replace("\r", "\n")


_Lines = AfterValidator(_one_newline)


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Contract):
    """A named predicate. Its id is never reused for another meaning; a change raises its version."""

    id: Annotated[str, Field(pattern=RULE_ID, description="Stable id, such as R014_card_testing.")]
    version: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_VERSION,
            description="Raised by one with every change; left out, it is given.",
        ),
    ] = 1
    when: Annotated[
        str,
        Field(min_length=1, max_length=MAX_EXPRESSION, description="Expression in the rule language: `$score >= 900`."),
        _Lines,
    ]  # fmt: skip
    outcome: Annotated[Outcome, Field(description="What it asks for when it matches.")]
    description: Annotated[str, Field(max_length=1_000, description="What it is for."), _Lines] = ""
    reason: Annotated[
        str,
        Field(max_length=500, description="Why, in words for whoever reads a decision; empty for a rule on the score, whose reasons are the features'."),
        _Lines,
    ] = ""  # fmt: skip
    enabled: Annotated[
        bool, Field(description="A rule that is not enabled is snoozed: kept, and never asked.")
    ] = True


class RuleSet(_Contract):
    """Ordered rules, which decide together."""

    matching: Annotated[Matching, Field(description="Which of the rules that match count.")] = (
        Matching.ALL
    )
    description: Annotated[str, Field(max_length=1_000, description="What it is for."), _Lines] = ""
    rules: Annotated[
        tuple[Rule, ...], Field(max_length=MAX_RULES, description="In the order in which they are asked.")
    ]  # fmt: skip

    @model_validator(mode="after")
    def _ids_are_unique(self) -> RuleSet:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"rule id {rule.id}: expected each id once")
            seen.add(rule.id)
        return self

    @cached_property
    def version(self) -> str:
        """Content hash, 12 hexadecimal digits: the same rules are the same version."""
        return content_version(self.model_dump(mode="json"))


def content_version(content: dict[str, Any]) -> str:
    """Name a rule set's content as it is written, see `RuleSet.version`."""
    written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(written).hexdigest()[:12]
