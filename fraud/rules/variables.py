"""Variables of the rule language and their types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Type(StrEnum):
    """Type of a variable or of a part of an expression."""

    NUMBER = "number"
    """A double-precision number."""
    SINGLE = "single"
    """A single-precision number, such as a feature; numbers compared with it are rounded to that."""
    TEXT = "text"
    """Text, compared character by character."""
    IP = "ip"
    """Text that holds an IP address; `in [..]` compares addresses and networks."""
    BOOLEAN = "boolean"
    """True or false."""
    TIME = "time"
    """A point in time, UTC epoch milliseconds."""

    @property
    def is_number(self) -> bool:
        """Whether arithmetic can use the type."""
        return self in (Type.NUMBER, Type.SINGLE)

    @property
    def is_text(self) -> bool:
        """Whether values of the type are texts."""
        return self in (Type.TEXT, Type.IP)

    @property
    def words(self) -> str:
        """Name of the type in error messages."""
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
"""Name of the variable with the time of the decision, which `getcurrentdatetime()` returns."""

RESULTS: Final = MappingProxyType(
    {
        "score": "Score, 0 to 1000, high is fraud; also `$fd_score` and `$<any model>_insightscore`.",
        "probability": "Probability of fraud, 0 to 1.",
        SCORED_AT: "When it is decided: what `getcurrentdatetime()` gives.",
    }
)
"""Variables that the model and the engine add to a transaction, with their meaning."""

_INSIGHTSCORE: Final = re.compile(r"[A-Za-z0-9_]+_insightscore")


def variable_named(name: str, variables: Mapping[str, Type]) -> str | None:
    """Return the variable that a name refers to; None if it is unknown.

    Amazon Fraud Detector calls a model's score `<model>_insightscore`; any model name is accepted,
    because only one model decides here. `fd_score` is the name in the AWS sample.

    Example:
        >>> variable_named("fraud_model_insightscore", {"score": Type.NUMBER})
        'score'
    """
    if name in variables:
        return name
    if "score" in variables and (name == "fd_score" or _INSIGHTSCORE.fullmatch(name)):
        return "score"
    return None
