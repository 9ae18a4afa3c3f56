"""Variables of the rule language and their types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Type(StrEnum):
    """What a variable or a part of an expression is."""

    NUMBER = "number"
    """A double."""
    SINGLE = "single"
    """A number in single precision, as features are; what is compared with it is rounded to that."""
    TEXT = "text"
    """Text, compared character by character."""
    IP = "ip"
    """Text that holds an IP address; `in [..]` compares addresses and networks."""
    BOOLEAN = "boolean"
    """True or false."""
    TIME = "time"
    """A moment, in milliseconds."""

    @property
    def is_number(self) -> bool:
        """Whether one can calculate with it."""
        return self in (Type.NUMBER, Type.SINGLE)

    @property
    def is_text(self) -> bool:
        """Whether it is text."""
        return self in (Type.TEXT, Type.IP)

    @property
    def words(self) -> str:
        """What it is called in an error."""
        return _WORDS[self]


_WORDS: Final = MappingProxyType(
    {
        Type.NUMBER: "a number",
        Type.SINGLE: "a number",
        Type.TEXT: "text",
        Type.IP: "text",
        Type.BOOLEAN: "true or false",
        Type.TIME: "a time",
    }
)

SCORED_AT: Final = "scored_at"
"""The time of the decision: what `getcurrentdatetime()` gives."""

RESULTS: Final = MappingProxyType(
    {
        "score": "Score, 0 to 1000, high is fraud; also `$fd_score` and `$<any model>_insightscore`.",
        "probability": "Probability of fraud, 0 to 1.",
        SCORED_AT: "When it is decided: what `getcurrentdatetime()` gives.",
    }
)
"""What the model and the engine add to a transaction, and what each is."""

_INSIGHTSCORE: Final = re.compile(r"[A-Za-z0-9_]+_insightscore")


def variable_named(name: str, variables: Mapping[str, Type]) -> str | None:
    """Return the variable that a name stands for, None when there is none.

    Amazon Fraud Detector calls a model's score `<model>_insightscore`: any model's name is taken,
    as one model decides here. `fd_score` is the name in the AWS sample.

    Example:
        >>> variable_named("fraud_model_insightscore", {"score": Type.NUMBER})
        'score'
    """
    if name in variables:
        return name
    if "score" in variables and (name == "fd_score" or _INSIGHTSCORE.fullmatch(name)):
        return "score"
    return None
