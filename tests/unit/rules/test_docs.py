"""What docs/rules.md shows is accepted, each line a rule of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraud.decision.variables import standard_variables
from fraud.rules import ExpressionError, compile_expression

PAGE = Path(__file__).parents[3] / "docs" / "rules.md"
BLOCKS = re.findall(r"```detectorpl\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
SHOWN = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("text", SHOWN)
def test_an_expression_of_the_docs_is_accepted(text: str) -> None:
    assert compile_expression(text, standard_variables()).variables


def test_the_error_that_the_docs_show_is_the_one_given() -> None:
    shown = re.search(r"((?:    .*\n)*    +\^\n)", PAGE.read_text("utf-8"))
    assert shown is not None
    lines = [line[4:] for line in shown[1].splitlines()]
    with pytest.raises(ExpressionError) as caught:
        compile_expression(lines[1].strip(), standard_variables())
    assert str(caught.value).splitlines() == lines
