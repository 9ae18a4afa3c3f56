"""What Amazon Fraud Detector's public rule-language reference says, case by case; then what we add.

The reference's sections are named in the order in which it has them. Its operators and functions
have to be read and to mean the same; where it leaves something open, docs/decisions/0020 says what
was chosen, and the cases here hold it.
"""

from __future__ import annotations

import numpy as np
import pytest

from fraud.rules import ExpressionError, compile_expression
from tests.support.rows import VARIABLES, Rows, answers

EVENT_MS = 1_575_075_661_000  # 2019-11-30T01:01:01Z
LISTS = {"emails": frozenset({"ada@example.com"}), "amounts": frozenset({"100", "0.1", "99.5"})}


def _single(value: float) -> float:
    return float(np.float32(value))


ROW = {
    "amount": 100.0,
    "score": 950,
    "ratio": _single(0.1),
    "count": 7.0,
    "country": "US",
    "email": "Ada@gmail.com",
    "ip": "10.1.2.3",
    "flag": 1,
    "time": EVENT_MS,
    "scored_at": EVENT_MS + 1,
}
NOTHING: dict[str, object] = {}

REFERENCE = [
    # Using variables, and lists.
    ("$amount < 101", True),
    ("$email in @emails", False),
    ("lowercase($email) in @emails", False),
    ('lowercase("ADA@example.com") in @emails', True),
    ("$email not in @emails", True),
    # Comparison, membership, and identity operators.
    ("$amount > 99", True),
    ("$amount > 100", False),
    ("$amount >= 100", True),
    ("$amount >= 100.5", False),
    ("$amount < 100", False),
    ("$amount <= 100", True),
    ("$amount <= 99", False),
    ("$amount != 100", False),
    ("$amount != 99", True),
    ("$amount == 100", True),
    ("$amount == 1000", False),
    ('$country != "US"', False),
    ('$country == "US"', True),
    ('$country == "us"', False),
    ("$amount in [5, 10, 25, 100]", True),
    ("$amount in [5, 10, 25]", False),
    ("$amount not in [5, 10, 25, 100]", False),
    ("$amount not in [5]", True),
    ('$country in ["DE", "US"]', True),
    ('$country not in ["DE", "US"]', False),
    # Basic math.
    ("$amount + $count < 108", True),
    ("$amount - $count == 93", True),
    ("$amount * $count == 700", True),
    ("$amount / 8 == 12.5", True),
    ("$amount % $count == 2", True),
    ("-$amount % $count == -2", True),  # the sign of what is divided, as in Java
    ("$amount / 0 > 1", None),
    ("$amount % 0 == 0", None),
    # Regular expression (regex).
    (r'regex_match(".*@gmail\.com", lowercase($email))', True),
    (r'regex_match(".*@gmail\.com", $email)', True),
    (r'regex_match(".*\+1", "call +1")', True),
    (r'regex_match(".*\+1", "+1 call")', False),
    ('regex_match("^Ada", $email)', True),  # any text that begins so
    ('regex_match("^Ada$", $email)', False),
    ('regex_match("^gmail", $email)', False),
    ('regex_match("Ada", $email)', False),  # exactly the whole text
    ('regex_match("Ada@gmail.com", $email)', True),
    ('regex_match(".", "x")', True),
    ('regex_match(".", "xy")', False),
    ('regex_match(".", "\\n")', False),
    ('regex_match(".*com", $email)', True),
    (r'regex_match("a\\+b", "a+b")', True),  # the backslash once or twice
    (r'regex_match("a\+b", "a+b")', True),
    # Checking for missing values.
    ("$amount != null", True),
    ("$amount == null", False),
    ("$country != null", True),
    ("$country == null", False),
    ("null == $country", False),
    # Multiple conditions.
    ('$amount < 101 and $country != "DE"', True),
    ('$amount < 100 and $country != "DE"', False),
    ('$amount < 100 or $country != "DE"', True),
    ('$amount < 101 and $country != "US" or ($count * 100.0 > $amount)', True),
    ('$amount < 101 and ($country != "US" or $count * 100.0 < $amount)', False),
    ("!($amount > 99)", False),
    ("!($amount > 100)", True),
    # Dates.
    ('getcurrentdatetime() == "2019-11-30T01:01:01.001Z"', True),
    ('isbefore(getcurrentdatetime(), "2019-11-30T01:01:01Z") == "False"', True),
    ('isbefore(getcurrentdatetime(), "2050-11-30T01:05:01Z") == "True"', True),
    ('isafter(getcurrentdatetime(), "2019-11-30T01:01:01Z") == "True"', True),
    ('isafter(getcurrentdatetime(), "2050-11-30T01:05:01Z") == "False"', True),
    ('isbefore($time, "2019-11-30T01:01:02Z")', True),
    ('isafter($time, "2019-11-30T01:01:01Z")', False),
    ('getepochmilliseconds("2019-11-30T01:01:01Z") == 1575075661000', True),
    ("getepochmilliseconds(getcurrentdatetime()) - getepochmilliseconds($time) == 1", True),
    # String operators.
    ('uppercase($country) == "US"', True),
    ('uppercase($email) == "ADA@GMAIL.COM"', True),
    ('lowercase($country) == "us"', True),
    # Comments.
    ("$amount == 100 # my comment", True),
    ("# my comment\n$amount == 100", True),
    ('$country == "#"', False),
]

PRECEDENCE = [
    ("true or false and false", True),
    ("(true or false) and false", False),
    ("not true or true", True),
    ("not (true or true)", False),
    ("not false and false", False),
    ("not $amount == 99", True),
    ("! $amount == 99", True),
    ("!$flag == false", True),
    ("$flag == !false", True),
    ("not $amount in [99]", True),
    ("!$amount in @amounts", False),
    ("2 + 3 * 4 == 14", True),
    ("(2 + 3) * 4 == 20", True),
    ("10 - 4 - 3 == 3", True),
    ("10 - (4 - 3) == 9", True),
    ("100 / 10 / 5 == 2", True),
    ("100 / (10 / 5) == 50", True),
    ("7 * 10 % 4 == 2", True),
    ("7 + 10 % 4 == 9", True),
    ("-2 * -3 == 6", True),
    ("2 - -3 == 5", True),
    ("2--3 == 5", True),
    ("- (2 + 3) == -5", True),
    ("+2 == 2", True),
    ("--2 == 2", True),
    ("1 + 1 == 2 and 2 > 1 or false", True),
]

ADDED = [
    # Words in any case, the signs of other languages, either quotes, a comma at the end.
    ('$amount > 99 AND NOT $country == "DE"', True),
    ("$amount > 99 && $count < 8", True),
    ("$amount < 99 || $count < 8", True),
    ("$country IN ['US', 'DE',]", True),
    ("$country == 'US'", True),
    ("""$country == "\\"" """, False),
    ("""'"' == "\\"" """, True),
    (r"""'\'' == "'" """, True),
    (r'"\\" == "\\"', True),
    (r'length("\d") == 2', True),
    (r'length("\\d") == 2', True),
    ("TRUE and True and !FALSE", True),
    ("LowerCase($country) == 'us'", True),
    ("1e2 == $amount and 1.0E2 == $amount and .5 == 0.5 and 5. == 5", True),
    ("$amount in [-1, +100, 1e2]", True),
    # Features are in single precision, and so is what they are compared with.
    ("$ratio == 0.1", True),
    ("$ratio >= 0.1", True),
    ("$ratio <= 0.1", True),
    ("$ratio != 0.1", False),
    ("0.1 == $ratio", True),
    ("$ratio in [0.1]", True),
    ("$ratio not in [0.1]", False),
    ("-$ratio == -0.1", True),
    ("abs($ratio) == 0.1", True),
    ("min($ratio, 0.1) == 0.1", True),
    ("max($ratio, 0.05) == 0.1", True),
    ("coalesce($ratio, 0.1) == 0.1", True),
    ("$ratio == 1 / 10", True),
    ("$ratio * 1 == 0.1", False),  # what is calculated is a double
    ("$ratio < 1e300", True),
    ("$ratio in @amounts", True),
    ("$amount in @amounts", True),
    ("$count in @amounts", False),
    # Addresses.
    ('$ip in ["10.0.0.0/8"]', True),
    ('$ip in ["10.1.2.3"]', True),
    ('$ip in ["192.168.0.0/16", "2001:db8::/32"]', False),
    ('$ip not in ["10.0.0.0/8"]', False),
    ('$ip == "10.1.2.3"', True),
    ('$ip != "10.1.2.3"', False),
    ('$ip == "10.1.2.4"', False),
    ("$ip == $country", False),
    ("$ip in @emails", False),
    # Truths.
    ("$flag", True),
    ("$flag == true", True),
    ("$flag != true", False),
    ('$flag == "true"', True),
    ("$flag in [true]", True),
    ("$flag not in [true, false]", False),
    ("($amount > 99) == ($count > 6)", True),
    ("($amount > 99) != ($count > 7)", True),
    # Times.
    ('$time == "2019-11-30T01:01:01Z"', True),
    ('$time < "2019-12-01"', True),
    ('$time >= "2019-11-30"', True),
    ('"2019-11-30T02:01:01+01:00" == $time', True),
    ("$time < $scored_at", True),
    ('$time in ["2019-11-30T01:01:01Z"]', True),
    ("hour($time) == 1 and weekday($time) == 5", True),
    # Functions.
    ("round(-2.5) == -3 and round(2.4) == 2 and round(0.49999999999999994) == 0", True),
    ('number("12x") == null and number(" 1e3 ") == 1000 and number("1e999") == null', True),
    ('email_domain("no address") == null', True),
    ("sqrt(0 - 1) == null", True),
    ("min($amount, $count, 3) == 3", True),
    ("coalesce(1 / 0, $amount) == 100", True),
    ("coalesce(1 / 0 > 1, $flag)", True),
    ('coalesce($country, "DE") == "US"', True),
    ("exists($amount) and !is_null($flag)", True),
    # A number that is too large is not known, as one divided by nothing.
    ("1e308 * 10 == null", True),
    ("1 / (1e308 * 10) == 0", None),
]

MISSING = [
    ("$amount > 1", None),
    ("$amount <= 1", None),
    ("$amount == 1", None),
    ("$amount != 1", None),
    ("$amount in [1]", None),
    ("$amount not in [1]", None),
    ("$amount in @amounts", None),
    ("$amount not in @amounts", None),
    ('$country == "US"', None),
    ('$country != "US"', None),
    ('$country in ["US"]', None),
    ('$country not in ["US"]', None),
    ("$email in @emails", None),
    ("$email not in @emails", None),
    ('$ip in ["10.0.0.0/8"]', None),
    ('$ip != "10.0.0.1"', None),
    ("$country == $email", None),
    ('regex_match(".*", $email)', None),
    ('contains($email, "x")', None),
    ("$flag", None),
    ("!$flag", None),
    ("$flag == true", None),
    ("$flag in [true, false]", None),
    ('$time < "2019-12-01"', None),
    ("isbefore($time, $scored_at)", None),
    ("$amount + 1 > 0", None),
    ("-$amount > 0", None),
    ("abs($amount) >= 0", None),
    ("min($amount, 1) <= 1", None),
    ("max(1, $amount) >= 1", None),
    ("round($amount) == 1", None),
    ("length($email) > 0", None),
    ('lowercase($email) == ""', None),
    ("hour($time) >= 0", None),
    # Three-valued logic.
    ("$flag and true", None),
    ("$flag and false", False),
    ("false and $flag", False),
    ("$flag or true", True),
    ("true or $flag", True),
    ("$flag or false", None),
    ("not ($flag and false)", True),
    ("$flag == $flag", None),
    # The questions that always have an answer.
    ("$amount == null", True),
    ("$amount != null", False),
    ("$country == null", True),
    ("$country != null", False),
    ("$ip == null", True),
    ("$flag == null", True),
    ("$flag != null", False),
    ("$time == null", True),
    ("($amount > 1) == null", True),
    ("($amount > 1 or true) == null", False),
    ("is_null($amount) and is_null($country) and is_null($flag)", True),
    ("exists($amount) or exists($country) or exists($flag)", False),
    ("coalesce($amount, 5) == 5", True),
    ('coalesce($country, $email, "DE") == "DE"', True),
    ("coalesce($flag, true)", True),
    ("coalesce($amount, $count) == null", True),
]


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
