"""Regular expressions by RE2, whose time is linear in the length of the text for any pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import re2

MAX_PATTERN: Final = 1_000
"""Maximum length of a pattern in characters."""

MAX_PROGRAM: Final = 2_000
"""Maximum number of instructions of a compiled pattern; repetitions (`x{500}`) multiply them."""

MAX_SUBJECT: Final = 2_048
"""Maximum length of a matched text in characters; for longer texts the result is unknown."""

MAX_STEPS: Final = 1_000_000
"""Maximum product of instructions and characters of a match, about 5 ms: if RE2's automaton would have
too many states (`.*a.{150}`), it follows all instructions at every character. Long patterns are
therefore matched only against shorter texts."""


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def matcher(pattern: str) -> Callable[[str], bool | None]:
    r"""Compile a pattern of `regex_match`.

    The whole text must match; if the pattern begins with `^`, only the beginning of the text.

    Returns:
        A function that tests a text, and returns None (unknown) for a text that is too long.

    Raises:
        ValueError: The pattern is invalid or too large; the message is for authors of rules.

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
    # A set of one pattern answers yes or no, without the cost of finding what matched.
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
