"""A rule's condition: parsed, checked, and evaluated on whole batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from fraud.rules.checking import Checker
from fraud.rules.errors import ExpressionError
from fraud.rules.parsing import parse
from fraud.rules.plan import Columns, Mask, Rows, Truth
from fraud.rules.tree import text_of
from fraud.rules.variables import Type


class Expression:
    """A condition that was accepted; `compile_expression` makes it.

    Attributes:
        text: As it was written.
        normal: The same in normal form: equal texts, equal meaning.
        variables: What it needs of `Columns`, by the names used there.
        lists: Names of the lists that it asks.
    """

    def __init__(
        self,
        text: str,
        normal: str,
        variables: frozenset[str],
        lists: frozenset[str],
        condition: Truth,
    ) -> None:
        self.text = text
        self.normal = normal
        self.variables = variables
        self.lists = lists
        self._condition = condition

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, columns: Columns, n: int) -> Mask:
        """Say for which transactions of a batch the condition holds.

        Args:
            columns: Their values.
            n: How many they are.

        Returns:
            Shape (n,): true where it is true, false where it is false or not known. A row's answer
            hangs on that row alone.
        """
        hits = np.empty(n, np.bool_)
        if n:
            with np.errstate(all="ignore"):
                hits[:] = self._condition.true(Rows(columns, n))
        return hits


def compile_expression(
    text: str, variables: Mapping[str, Type], lists: Collection[str] | None = None
) -> Expression:
    """Parse and check a condition.

    Args:
        text: In the rule language, see docs/rules.md.
        variables: Types of the variables there are; `fraud.decision.variables` has those of transactions.
        lists: Names of the lists there are; None takes any name.

    Raises:
        ExpressionError: It is no condition in the language, with line and column.

    Example:
        >>> compile_expression("$scor > 900", {"score": Type.NUMBER})
        Traceback (most recent call last):
            ...
        fraud.rules.errors.ExpressionError: line 1, column 1: unknown variable $scor: \
did you mean $score?
          $scor > 900
          ^
    """
    tree = parse(text)
    checker = Checker(variables, lists)
    try:
        condition = checker.condition(tree)
    except ExpressionError as error:
        raise error.in_text(text) from None
    return Expression(
        text,
        text_of(tree),
        frozenset(checker.used_variables),
        frozenset(checker.used_lists),
        condition,
    )
