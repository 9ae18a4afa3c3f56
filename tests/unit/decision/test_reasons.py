"""Reasons are true sentences."""

from __future__ import annotations

import numpy as np
import pytest

from fraud.decision.reasons import MAX_REASONS, reason_text, top_reasons
from fraud.features.vector import FEATURE_NAMES, FEATURES


@pytest.mark.parametrize("feature", range(len(FEATURES)), ids=FEATURE_NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1234.5678, float("nan")])
def test_every_feature_reads_as_a_sentence(feature: int, value: float) -> None:
    """Of any value, also of one that is not known."""
    text = reason_text(feature, value)
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert "nan" not in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("entity_ip_is_new", 1.0, "This IP address is new for this customer."),
        ("entity_ip_is_new", 0.0, "This customer has used this IP address before."),
        ("entity_amount_ratio_30d", 3.2, "3.2 times this customer's 30-day average."),
        ("entity_amount_ratio_30d", float("nan"), "Not known: amount over the mean of the prior transactions in the last 30 days."),
        ("entity_tx_count_10m", 12.0, "12 transactions in the last 10 minutes."),
    ],
)  # fmt: skip
def test_a_reason_says_what_the_value_says(name: str, value: float, text: str) -> None:
    """A flag that is not set must not be told as if it were."""
    assert reason_text(FEATURE_NAMES.index(name), value) == text


def test_flags_say_both_what_they_mean_and_what_they_do_not() -> None:
    """Else a part of theirs would be told wrongly."""
    flags = [feature for feature in FEATURES if feature.unit.startswith("0 or 1")]
    assert flags
    assert all(flag.reason_when_0 for flag in flags)


def test_the_largest_parts_come_first_and_few() -> None:
    """Parts that lowered the score are no reasons for it."""
    parts = np.linspace(-1, 1, len(FEATURES))
    reasons = top_reasons(np.ones(len(FEATURES), np.float32), parts)
    contributions = [reason["contribution"] for reason in reasons]
    assert len(reasons) == MAX_REASONS
    assert contributions == sorted(contributions, reverse=True)
    assert top_reasons(np.ones(len(FEATURES), np.float32), -np.abs(parts)) == []
