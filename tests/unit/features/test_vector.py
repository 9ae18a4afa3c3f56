"""The identity of the vector, by which a model is accepted."""

from __future__ import annotations

from fraud.features.vector import FEATURES_HASH


def test_no_model_is_refused_by_accident() -> None:
    """Names, units and meanings are part of it: whoever rewords one makes everybody train again."""
    assert FEATURES_HASH == "507acad914b11555"
