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
    """A valid condition, compiled by `compile_expression`.

    Attributes:
        text: The condition as written.
        normal: The condition in normal form: equal texts have equal meaning.
        variables: Names of the variables that it reads from `Columns`.
        lists: Names of the lists that it uses.
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
        """Return for which transactions of a batch the condition is true.

        Args:
            columns: Values of the transactions.
            n: Number of transactions.

        Returns:
            Shape (n,): true where the condition is true, false where it is false or unknown. Each
            row depends only on its own values.
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
        text: Condition in the rule language, see docs/rules.md.
        variables: Type of each variable; `fraud.decision.variables` has those of transactions.
        lists: Names of the existing lists; None accepts any name.

    Raises:
        ExpressionError: The text is not a valid condition; the error has line and column.

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
