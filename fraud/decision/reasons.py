"""Reasons that explain a score to a person, from the features that raised it most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import Mark
from fraud.features.catalogue import FEATURES

MAX_REASONS: Final = 5
SCORING_FAILED: Final = "SCORING_FAILED"

_MARK_TEXTS: Final = {
    Mark.EVENT_ID_REUSED: "The event_id came before, with another amount, currency, card or merchant.",
    Mark.EVENT_TIME_AHEAD: "The event_time is ahead of the record's arrival, so the arrival was used.",
}
"""Texts of the marks that are reasons. `EVENT_TIME_BEHIND` is none: replays of old files are ordinary."""

_CODES: Final = tuple(feature.name.upper() for feature in FEATURES)


def reason_text(feature: int, value: float) -> str:
    """Return the reason text for the value of a feature.

    Args:
        feature: Position in `FEATURES`.
        value: Value of the feature; NaN means unknown.
    """
    declared = FEATURES[feature]
    if np.isnan(value):
        return f"Not known: {declared.meaning[0].lower()}{declared.meaning[1:]}"
    if value == 0 and declared.reason_when_0:
        return declared.reason_when_0
    return declared.reason.format(value=value)


def mark_reasons(marks: Iterable[Mark]) -> list[dict[str, Any]]:
    """Return the reasons of marks, in the form of the contract's `Reason`."""
    return [
        {"code": mark.value, "text": _MARK_TEXTS[mark], "contribution": None}
        for mark in marks
        if mark in _MARK_TEXTS
    ]


def top_reasons(
    vector: NDArray[np.float32], contributions: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return the features that raised the score most, largest contribution first.

    Args:
        vector: Feature values, shape (features,).
        contributions: Their contributions to the log odds of fraud, shape (features,).

    Returns:
        At most `MAX_REASONS` reasons, in the form of the contract's `Reason`.
    """
    order = np.argsort(-contributions, kind="stable")[:MAX_REASONS]
    return [
        {
            "code": _CODES[feature],
            "text": reason_text(feature, float(vector[feature])),
            "contribution": round(float(contributions[feature]), 4),
        }
        for feature in order.tolist()
        if contributions[feature] > 0
    ]
