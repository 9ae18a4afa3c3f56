"""Rules and rule sets: versioned data that maps score, features and fields to an outcome.

A rule set is the content of a control document of kind `rules`; `fraud.decision.rule_sets` compiles it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fraud.contracts.decision import Outcome
from fraud.contracts.versions import version_of

MAX_RULES: Final = 500
"""Maximum number of rules in a set."""

MAX_EXPRESSION: Final = 4_096
"""Maximum length of an expression in characters, as in Amazon Fraud Detector."""

MAX_VERSION: Final = 2_147_483_647
"""Highest version of a rule: the largest integer that OpenSearch indexes as `integer`."""

RULE_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class Matching(StrEnum):
    """Which matching rules count, by the names of Amazon Fraud Detector."""

    FIRST = "FIRST_MATCHED"
    """Only the first matching rule, in the order of the set."""
    ALL = "ALL_MATCHED"
    """All matching rules; the most severe outcome wins."""


class RuleStatus(StrEnum):
    """Status of a version of the rule set."""

    DRAFT = "DRAFT"
    """The version has never decided."""
    ACTIVE = "ACTIVE"
    """The version decides; exactly one is active."""
    INACTIVE = "INACTIVE"
    """The version decided in the past."""


def _one_newline(text: str) -> str:
    # Rule files have one kind of line break; other ones would not survive writing and reading back.
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
        """Content hash, see `fraud.contracts.versions`: equal rule sets have the same version."""
        return version_of(self.model_dump(mode="json"))
