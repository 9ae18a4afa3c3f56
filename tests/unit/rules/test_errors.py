"""What is refused, where the fault is said to be, and in which words."""

from __future__ import annotations

import pickle

import pytest

from fraud.contracts.rules import MAX_EXPRESSION
from fraud.decision.variables import standard_variables
from fraud.rules import (
    ExpressionError,
    Type,
    compile_expression,
)
from fraud.rules.tree import MAX_DEPTH
from tests.support.rows import VARIABLES

VALUE = 'a value ($variable, number, "text", function or "(")'

SYNTAX = [
    ("", 1, "expected an expression such as $score >= 900"),
    ("  # only a comment", 19, f"expected {VALUE}, found the end"),
    ("$score >", 9, f"expected {VALUE}, found the end"),
    ("$score > ) 1", 10, f'expected {VALUE}, found ")"'),
    ("$score 900", 8, 'found "900"'),
    ("$score > 900 $amount", 14, 'found "$amount"'),
    ("($score > 900", 14, 'expected ")", found the end'),
    ("$score > 900)", 13, 'found ")"'),
    ("$score = 900", 8, "expected ==, found ="),
    ("$score => 900", 8, "expected ==, found ="),
    ("$score <> 900", 9, f'expected {VALUE}, found ">"'),
    ("1 < $score < 5", 12, "comparisons do not chain"),
    ("$score in [1] == true", 15, "comparisons do not chain"),
    ('$country == "US', 13, 'expected a closing " on the same line'),
    ("$country == 'US", 13, "expected a closing ' on the same line"),
    ('$country == "U\nS"', 13, 'expected a closing " on the same line'),
    ("$ > 1", 1, "expected a variable's name after $, such as $score"),
    ("$.a > 1", 1, "expected a variable's name after $, such as $score"),
    ("$country in @", 13, "expected a list's name after @"),
    ("$flag & $flag", 7, "expected && or and"),
    ("$flag | $flag", 7, "expected || or or"),
    ("$amount ^ 2 > 1", 9, "expected no such character: '^'"),
    ("$amount > 1; true", 12, "expected no such character: ';'"),
    ("$amount > 1\x00", 12, "expected no such character: '?'"),
    ("$country in 5", 13, 'expected "[" or @list, found "5"'),
    ("$country in [$email]", 14, 'found "$email"'),
    ("$country in ['a' 'b']", 18, 'expected "," or "]"'),
    ("@emails", 1, 'found "@emails"'),
    ("if $flag then 1", 4, 'found "$flag"'),
    ("min(1, ) == 1", 8, 'found ")"'),
    ("and $flag", 1, 'found "and"'),
    ("$flag and", 10, f"expected {VALUE}, found the end"),
    ("1e999 > 1", 1, "expected a smaller number"),
]

TYPES = [
    ("$score", 1, "expected a condition, which is true or false, found a number"),
    ("$country", 1, "expected a condition, which is true or false, found text"),
    ("$time", 1, "expected a condition, which is true or false, found a time"),
    ("null", 1, "expected null only after == and !="),
    ("$score > 1 and $amount", 16, "expected a condition, which is true or false, found a number"),
    ("not $amount", 5, "expected a condition, which is true or false, found a number"),
    ("!$amount > 1 or !$country", 18, "expected a condition, which is true or false, found text"),
    ('$country == 100', 13, 'expected text beside ==, found a number: write "100", in quotes'),
    ('411111 == $country', 1, 'expected text beside ==, found a number: write "411111"'),
    ('$score > "900"', 10, "expected a number beside >, found text: a number has no quotes"),
    ("$score > $country", 10, "expected a number beside >, found text: number(text) makes"),
    ("$country > $score", 12, "expected text beside >, found a number"),
    ("$flag == 1", 10, "expected true or false beside ==, found a number"),
    ('$flag == "yes"', 10, "expected true or false beside ==, found text"),
    ("$time > 5", 9, "expected a time beside >, found a number"),
    ('$time > "yesterday"', 9, "expected a time such as 2026-03-01T09:30:00Z"),
    ('$time > "2026-13-01T00:00:00"', 9, "expected a time such as 2026-03-01T09:30:00Z"),
    ("$country < $email", 10, "expected numbers or times around <, found text"),
    ("$flag >= false", 7, "expected numbers or times around >=, found true or false"),
    ("$score < null", 8, "expected null only after == and !="),
    ("null == null", 9, "expected null only after == and !="),
    ("$score + null > 1", 10, "expected null only after == and !="),
    ("$score + $country > 1", 10, "expected a number beside +, found text: number(text)"),
    ("$time - $scored_at > 1", 1, "expected a number beside -, found a time: getepochmilliseconds"),
    ("-$country == 1", 2, "expected a number after a sign, found text"),
    ("$flag * 2 > 1", 1, "expected a number beside *, found true or false"),
    ("$score in []", 8, "expected at least one item in the list"),
    ('$score in [1, "2"]', 15, "expected a number, as before in, found text"),
    ("$country in ['US', 1]", 20, "expected text, as before in, found a number"),
    ("$country in ['US', null]", 20, "expected no null in a list: write == null"),
    ("$flag in [1]", 11, "expected true or false, as before in, found a number"),
    ("$time in ['soon']", 11, "expected a time such as 2026-03-01T09:30:00Z"),
    ("$time in @emails", 1, "expected text or a number before in @emails, found a time"),
    ("$flag not in @emails", 1, "expected text or a number before in @emails, found true"),
    ("$ip in ['10.0.0.0/99']", 9, "expected an IP address or a network such as 10.0.0.0/8"),
    ("$ip in ['10.0.0.0/8', 'here']", 23, "expected an IP address or a network"),
    ("$ip == 'here'", 8, "expected an IP address or a network"),
    ("$ip == '10.0.0.0/8'", 8, 'expected an IP address: a network is asked for by in ["10.0.0.0/8"]'),
    ("lowercase($score) == 'a'", 11, "expected text as text of lowercase(text), found a number"),
    ("abs($country) > 1", 5, "expected a number as number of abs(number), found text: number(text)"),
    ("hour('now') > 1", 6, "expected a time such as"),
    ("hour($country) > 1", 6, "expected a time as time of hour(time), found text"),
    ("isbefore($time)", 1, "expected isbefore(time1, time2), found 1 argument"),
    ("lowercase() == 'a'", 1, "expected lowercase(text), found 0 arguments"),
    ("min() == 1", 1, "expected min(number, ...), found 0 arguments"),
    ("getcurrentdatetime(1) > $time", 1, "expected getcurrentdatetime(), found 1 argument"),
    ("coalesce($score, $country) == 1", 18, "expected the same type throughout coalesce(value, ...)"),
    ("is_null(null)", 9, "expected null only after == and !="),
    ("regex_match($country, $email)", 13, "expected pattern of regex_match(pattern, text) in quotes"),
    ("regex_match('(', $email)", 13, "expected a regular expression: missing ): ("),
    (r"regex_match('(a)\1', $email)", 13, "expected a regular expression: invalid escape sequence"),
    ("regex_match('(?=a)', $email)", 13, "expected a regular expression: invalid perl operator"),
    ("regex_match('.{1000}', $email)", 13, "expected a smaller pattern"),
    (f"regex_match('{'a' * 1001}', $email)", 13, "expected a pattern of at most 1000 characters"),
    ("regex_match('\ud800', $email)", 13, "expected a pattern of whole characters"),
]  # fmt: skip

NAMES = [
    ("$scorex > 1", 1, "unknown variable $scorex: did you mean $score"),
    ("$SCORE > 1", 1, "unknown variable $SCORE: did you mean $score"),
    ("$score > 1 and $countrx == 'US'", 16, "unknown variable $countrx: did you mean $country"),
    ("$1st > 1", 1, "unknown variable $1st"),
    ("$qqqq > 1", 1, "unknown variable $qqqq"),
    ("score > 1", 1, "expected $score: variables are written with a $"),
    ("$country == US", 13, 'expected a value: a text is written "US", in quotes'),
    ("getcurrentdatetime > $time", 1, "expected getcurrentdatetime(), with parentheses"),
    ("lower($country) == 'us'", 1, "unknown function lower: did you mean lowercase"),
    ("sha256($country) == 'us'", 1, "unknown function sha256"),
    ("$email in @emials", 11, "unknown list @emials: did you mean @emails?"),
    ("$email in @zzz", 11, "unknown list @zzz"),
]


@pytest.mark.parametrize(("text", "column", "message"), SYNTAX + TYPES + NAMES)
def test_an_error_says_where_it_is_and_what_was_expected(
    text: str, column: int, message: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, VARIABLES, {"emails"})
    assert message in caught.value.message
    assert caught.value.line == 1
    assert caught.value.column == column


def test_an_error_names_its_line() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("$score > 900 and # high\r\n$score < 950 and\n  or", VARIABLES)
    assert (caught.value.line, caught.value.column) == (3, 3)
    assert caught.value.message == f'expected {VALUE}, found "or"'


def test_an_error_shows_its_line_with_a_caret() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("$score > 900 and\n\t$countrx == 'US'", VARIABLES)
    assert str(caught.value).splitlines() == [
        "line 2, column 2: unknown variable $countrx: did you mean $country?",
        "   $countrx == 'US'",
        "   ^",
    ]


def test_an_error_shows_no_more_than_a_part_of_a_long_line() -> None:
    text = " and ".join(["$score > 900"] * 20 + ["$countrx == 'US'"] + ["$score > 900"] * 20)
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, VARIABLES)
    shown, caret = caught.value.excerpt.splitlines()
    assert len(shown) < 140
    assert shown.startswith("  ...")
    assert shown.endswith("...")
    assert shown[caret.index("^") :].startswith("$countrx == 'US'")


def test_an_error_crosses_a_process_boundary() -> None:
    error = ExpressionError("expected more", 2, 3, "  x\n  ^")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.line, again.column) == (str(error), 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$score > 1" + " " * MAX_EXPRESSION, f"expected at most {MAX_EXPRESSION} characters"),
        ("not " * (MAX_DEPTH + 1) + "$flag", f"expected at most {MAX_DEPTH} levels of nesting"),
        ("-" * (MAX_DEPTH + 1) + "1 == 1", f"expected at most {MAX_DEPTH} levels of nesting"),
        ("abs(" * 70 + "1" + ")" * 70 + " == 1", "levels of nesting"),
        ("(1 + " * 70 + "1" + ")" * 70 + " == 1", "levels of nesting"),
        ("$score in [" + "1," * 1001 + "]", "expected at most 1000 items"),
    ],
)
def test_what_is_beyond_the_limits_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        compile_expression(text, VARIABLES)


@pytest.mark.parametrize(
    "text",
    [
        "$score > 1" + " " * (MAX_EXPRESSION - 10),
        "not " * (MAX_DEPTH - 2) + "$flag",
        "(" * 1000 + "$flag" + ")" * 1000,
        "1" + " + 1" * 1000 + " > $score",
        "$flag" + " and $flag" * 400,
        "$score in [" + "1," * 1000 + "]",
    ],
)
def test_what_is_within_the_limits_is_taken(text: str) -> None:
    assert compile_expression(text, VARIABLES).normal


def test_any_list_is_taken_when_the_lists_are_not_known() -> None:
    assert compile_expression("$email in @anything", VARIABLES).lists == {"anything"}


def test_the_standard_variables_are_all_fields_features_and_results() -> None:
    variables = standard_variables()
    assert variables["ip_address"] is Type.IP
    assert variables["event_time"] is variables["scored_at"] is Type.TIME
    assert variables["entity_amount_sum_1h"] is Type.SINGLE
    assert variables["probability"] is variables["billing_latitude"] is Type.NUMBER
    for name, kind in variables.items():
        assert compile_expression(f"${name} != null", variables).variables == {name}, kind
