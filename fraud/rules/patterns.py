"""Regular expressions, by RE2: the time is linear in the text, whatever the pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import re2

MAX_PATTERN: Final = 1_000
"""Longest pattern, characters."""

MAX_PROGRAM: Final = 2_000
"""Most instructions that a pattern may come to: repetitions such as `x{500}` multiply them."""

MAX_SUBJECT: Final = 2_048
"""Longest text that is matched, characters: whether a longer one matches is not known."""

MAX_STEPS: Final = 1_000_000
"""Most instructions times characters of a match, some 5 ms: where RE2's automaton would have too many
states (`.*a.{150}`), it follows all instructions at every character. Of a long pattern shorter texts
are matched."""


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def matcher(pattern: str) -> Callable[[str], bool | None]:
    r"""Compile a pattern of `regex_match`.

    The whole text has to match; of a pattern that begins with `^`, a text that begins so.

    Raises:
        ValueError: The pattern is wrong or too large, in words for whoever wrote it.

    Example:
        >>> gmail = matcher(r".*@gmail\.com")
        >>> gmail("ada@gmail.com"), gmail("ada@gmail.com.example")
        (True, False)
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"expected a pattern of at most {MAX_PATTERN} characters")
    try:
        compiled = re2.compile(pattern, _options())
    except UnicodeEncodeError:
        raise ValueError("expected a pattern of whole characters") from None
    except re2.error as error:
        raise ValueError(f"expected a regular expression: {_words(error)}") from None
    if compiled.programsize > MAX_PROGRAM:
        raise ValueError("expected a smaller pattern: its repetitions are too many")
    # A set of one answers yes or no, without the cost of finding what matched.
    one = (
        re2.Set.MatchSet(_options())
        if pattern.startswith("^")
        else re2.Set.FullMatchSet(_options())
    )
    one.Add(pattern)
    one.Compile()
    match = one.Match
    longest = min(MAX_SUBJECT, MAX_STEPS // max(1, compiled.programsize))

    def matches(text: str) -> bool | None:
        if len(text) > longest:
            return None
        try:
            return bool(match(text))
        except UnicodeEncodeError:
            return None

    return matches


def _words(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)
