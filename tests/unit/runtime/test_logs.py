"""Personal data is taken out of free text, in a time that grows as the text does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.personal import REDACTED, mask

NAIVE = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")


@given(st.text(st.sampled_from("abü.@+-_% !\n"), max_size=30))
def test_addresses_are_found_as_the_plain_pattern_finds_them(text: str) -> None:
    assert mask(text) == NAIVE.sub(REDACTED, text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("to ada@example.com, bo+x@mail.example.org.", "to [redacted], [redacted]."),
        ("call +1 (202) 555-0143 now", "call [redacted] now"),
        ("id 070-69-2161", "id [redacted]"),
        ("2026-03-01T12:00:00+00:00 offset 12345678 @home", "2026-03-01T12:00:00+00:00 offset 12345678 @home"),
    ],
)  # fmt: skip
def test_personal_data_is_taken_out_and_the_rest_stays(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "unit", ["a", "a.", "a@", "a@b.", "@", "+1", "+1 ", "1-", "123-45-", "+ ("]
)
def test_a_long_text_is_read_to_its_end(unit: str) -> None:
    """Three million characters: what took a step for each pair of them would not end today."""
    length = 3_000_000 // len(unit)
    masked = mask(unit * length + " ada@example.com")
    assert masked.endswith(REDACTED)
