"""What Amazon Fraud Detector's public rule-language reference says, case by case; then what we add.

The reference's sections are named in the order in which it has them. Its operators and functions
have to be read and to mean the same; where it leaves something open, docs/decisions/0020 says what
was chosen, and the cases here hold it.
"""

from __future__ import annotations

import pytest

from fraud.rules import ExpressionError, compile_expression
from tests.support.expressions import ADDED, LISTS, MISSING, NOTHING, PRECEDENCE, REFERENCE, ROW
from tests.support.rows import VARIABLES, Rows, answers


@pytest.mark.parametrize(("text", "expected"), REFERENCE)
def test_the_reference_is_kept(text: str, expected: bool | None) -> None:
    assert answers(text, [ROW], LISTS) == [expected]


@pytest.mark.parametrize(("text", "expected"), PRECEDENCE)
def test_operators_bind_as_tightly_as_the_docs_say(text: str, expected: bool) -> None:
    assert answers(text, [ROW], LISTS) == [expected]


@pytest.mark.parametrize(("text", "expected"), ADDED)
def test_what_is_added_to_the_reference(text: str, expected: bool | None) -> None:
    assert answers(text, [ROW], LISTS) == [expected]


@pytest.mark.parametrize(("text", "expected"), MISSING)
def test_what_is_not_known_stays_so_until_it_does_not_matter(
    text: str, expected: bool | None
) -> None:
    assert answers(text, [NOTHING], LISTS) == [expected]


def test_rows_are_answered_each_for_itself() -> None:
    rows = [{"amount": 1.0}, {"amount": 3.0}, NOTHING, {"amount": 2.0}]
    assert answers("$amount >= 2", rows) == [False, True, None, True]
    hits = compile_expression("$amount >= 2", VARIABLES).evaluate(Rows(rows), 4)
    assert hits.tolist() == [False, True, False, True]


def test_a_condition_without_variables_is_the_same_for_all_rows() -> None:
    assert answers("1 < 2", [NOTHING] * 3) == [True] * 3
    assert compile_expression("1 < 2", VARIABLES).evaluate(Rows([]), 0).shape == (0,)


def test_an_expression_tells_what_it_needs_and_asks_for_no_more() -> None:
    expression = compile_expression("$fd_score > 9 and $email in @emails", VARIABLES)
    assert expression.variables == {"score", "email"}
    assert expression.lists == {"emails"}
    columns = Rows([{"score": 1, "email": "a"}], LISTS)
    assert not expression.evaluate(columns, 1).any()
    # No row is left for the list to matter.
    assert columns.asked == ["score"]


def test_or_asks_no_further_once_all_rows_hold() -> None:
    columns = Rows([{"score": 10}], LISTS)
    hits = compile_expression("$score > 9 or $email in @emails", VARIABLES).evaluate(columns, 1)
    assert hits.tolist() == [True]
    assert columns.asked == ["score"]


@pytest.mark.parametrize("name", ["fd_score", "fraud_model_insightscore", "2nd_insightscore"])
def test_the_score_has_the_names_of_amazon_fraud_detector(name: str) -> None:
    expression = compile_expression(f"${name} > 900", VARIABLES)
    assert expression.variables == {"score"}
    assert expression.evaluate(Rows([ROW]), 1).tolist() == [True]


@pytest.mark.parametrize("text", [text for text, _ in REFERENCE + PRECEDENCE + ADDED + MISSING])
def test_the_normal_form_means_the_same_and_is_its_own(text: str) -> None:
    normal = compile_expression(text, VARIABLES).normal
    assert compile_expression(normal, VARIABLES).normal == normal
    assert answers(normal, [ROW, NOTHING], LISTS) == answers(text, [ROW, NOTHING], LISTS)


def test_the_normal_form_has_no_needless_parentheses() -> None:
    text = "((($amount)) > (1+2)*3) &&!(($flag) || $score in[1,2,])# why"
    normal = compile_expression(text, VARIABLES).normal
    assert normal == "$amount > (1 + 2) * 3 and not ($flag or $score in [1, 2])"


def test_comparisons_do_not_chain() -> None:
    with pytest.raises(ExpressionError, match="comparisons do not chain"):
        compile_expression("$amount > 99 == true", VARIABLES)
