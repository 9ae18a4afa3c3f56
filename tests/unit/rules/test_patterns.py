"""A pattern says yes and no as RE2 itself says where it matches, and never takes long."""

from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.rules.patterns import MAX_STEPS, MAX_SUBJECT, matcher

PATTERNS = [
    "", "a", "^a", "^a$", "a$", "a|b", "^a|b", ".", ".*", "^", "$", "[^a]", "a+b?", "(a|b)*a(a|b)",
    r"\d+", r"\w+@\w+\.com", "(?i)AB", "(?s).", "(?m)^a$", r"\Aa\z", "é.", r"\pL+", "a{2,3}", r"\$",
    "(a)(b)?",
]  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from(PATTERNS), st.text(st.sampled_from("ab@.com1é\n$😀AB"), max_size=6))
def test_the_whole_text_is_matched_or_its_beginning_after_a_caret(pattern: str, text: str) -> None:
    compiled = re2.compile(pattern)
    match = compiled.match if pattern.startswith("^") else compiled.fullmatch
    assert matcher(pattern)(text) is (match(text) is not None)


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+$b", r"(a|a)*b", r"(a|aa)+c", r"(.*)*x", r"(x+x+)+y", r"([a-z]+)*[0-9]", r"(a?){99}a{99}b"],
)  # fmt: skip
def test_patterns_that_stall_others_are_answered(pattern: str) -> None:
    """Python's own engine takes for ever on these; it reads them all the same."""
    assert re.compile(pattern)
    assert matcher(pattern)("a" * 1_000) is False


def test_whether_a_very_long_text_matches_is_not_known() -> None:
    match = matcher("a*")
    assert match("a" * MAX_SUBJECT) is True
    assert match("a" * (MAX_SUBJECT + 1)) is None


def test_a_long_pattern_is_asked_of_shorter_texts() -> None:
    """All of its instructions may count at every character."""
    pattern = ".*a.{150}"
    longest = MAX_STEPS // re2.compile(pattern).programsize
    assert 500 <= longest < MAX_SUBJECT
    match = matcher(pattern)
    assert match("ab" * (longest // 2)) is False
    assert match("b" * (longest - 151) + "a" + "b" * 150) is True
    assert match("b" * (longest + 1)) is None


def test_a_text_of_broken_characters_is_not_known() -> None:
    assert matcher(".*")("\ud800") is None
