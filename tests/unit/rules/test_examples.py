"""Each function's own example, which docs/rules.md shows, is true."""

from __future__ import annotations

import numpy as np
import pytest

from fraud.decision.variables import standard_variables
from fraud.rules import compile_expression
from fraud.rules.functions import FUNCTIONS, Function

NOW_MS = 1_772_323_200_000.0


class Moment:
    """Columns of one row that knows the time alone."""

    def number(self, name: str) -> np.ndarray:
        assert name == "scored_at"
        return np.array([NOW_MS])

    def text(self, name: str) -> list[str | None]:
        raise AssertionError(name)

    def member(self, name: str, values: object, variable: str | None) -> np.ndarray:
        raise AssertionError(name)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_the_example_of_a_function_is_true(function: Function) -> None:
    expression = compile_expression(function.example, standard_variables())
    assert function.name in expression.text
    assert expression.evaluate(Moment(), 1).tolist() == [True]
