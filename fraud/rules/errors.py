"""The error of an invalid expression, with its position."""

from __future__ import annotations


class ExpressionError(ValueError):
    """Raised for an invalid expression.

    Args:
        message: What was expected, in words for authors of rules.
        line: Line of the fault, from 1.
        column: Column of the fault, characters from 1.
        excerpt: That line with a caret under the fault; empty until `in_text` adds it.
    """

    def __init__(self, message: str, line: int, column: int, excerpt: str = "") -> None:
        super().__init__(message, line, column, excerpt)
        self.message = message
        self.line = line
        self.column = column
        self.excerpt = excerpt

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: {self.message}"
        return f"{where}\n{self.excerpt}" if self.excerpt else where

    def in_text(self, text: str) -> ExpressionError:
        """Return the same error with an excerpt from the text of the expression."""
        return ExpressionError(
            self.message, self.line, self.column, _excerpt(text, self.line, self.column)
        )


_MARGIN = 60
"""Number of characters shown on either side of the fault; longer lines are truncated."""


def _excerpt(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        return ""
    # Every character takes one column, so that the caret stands under the fault.
    shown = "".join(character if character.isprintable() else " " for character in lines[line - 1])
    at = min(column - 1, len(shown))
    first = max(0, at - _MARGIN)
    before = "..." if first else ""
    after = "..." if len(shown) > at + _MARGIN else ""
    return f"  {before}{shown[first : at + _MARGIN]}{after}\n  {' ' * (len(before) + at - first)}^"
