"""Whatever is given as an expression, there is an answer or a clean error: 10,000 of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest

from fraud.rules import ExpressionError, compile_expression
from fraud.rules.functions import FUNCTIONS
from tests.support.expressions import ADDED, MISSING, PRECEDENCE, REFERENCE
from tests.support.rows import VARIABLES, Rows

INPUTS: Final = 10_000
VALID: Final = [text for text, _ in REFERENCE + PRECEDENCE + ADDED + MISSING]
TOKENS: Final = [
    "and", "or", "not", "!", "&&", "||", "in", "true", "false", "null", "==", "!=", "<", "<=", ">",
    ">=", "=", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", "$", "@", "#", '"', "'", "\\", "\n",
    "\t", "0", "1", "1e308", "1e-320", "99999999999999999999", "0.1", '"US"', "'a'", '"10.0.0.0/8"',
    '"2019-11-30T01:01:01Z"', "@emails", "@nowhere", "word", "__import__", "eval", "\x00", "é", "\ud800",
    "\u202e", "\x85", "\u2028", "😀", *(f"${name}" for name in VARIABLES), *(f"{one.name}(" for one in FUNCTIONS),
]  # fmt: skip
PATTERNS: Final = ["(a+)+", "(a|a)*", ".*" * 20, "[", "(", "a{1000}", "(a{9}){9}", "\\", "\\p{Greek}", "(?i)", "^$", "\x00"]  # fmt: skip
HOSTILE_ROWS: Final = [
    {},
    {"amount": 1e308, "score": -0.0, "ratio": float(np.finfo(np.float32).max), "count": 0.0,
     "country": "", "email": "a" * 100_000, "ip": "::", "flag": 1, "time": 0.0, "scored_at": 1e13},
    {"amount": 5e-324, "score": 1e16, "ratio": 0.1, "count": -1.0, "country": "\ud800\x00",
     "email": "@" * 50, "ip": "1.2.3.4" * 1000, "flag": 0, "time": -1e13, "scored_at": 0.5},
]  # fmt: skip
LISTS: Final = {
    "emails": frozenset({"a"}),
    "amounts": frozenset[str](),
    "nowhere": frozenset[str](),
}


def noise(random: random.Random) -> str:
    return "".join(chr(random.randrange(0x300)) for _ in range(random.randrange(60)))


def soup(random: random.Random) -> str:
    space = random.choice(["", " "])
    return space.join(random.choices(TOKENS, k=random.randrange(1, 25)))


def broken(random: random.Random) -> str:
    text = list(random.choice(VALID))
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(text) + 1)
        match random.randrange(4):
            case 0:
                del text[at : at + random.randrange(1, 4)]
            case 1:
                text.insert(at, random.choice(TOKENS))
            case 2:
                text[at:at] = text[max(0, at - 5) : at]
            case 3:
                text[at:at] = list(random.choice(VALID))
    return "".join(text)


def spliced(random: random.Random) -> str:
    one, other = random.choice(VALID), random.choice(VALID)
    return random.choice(["({}) and ({})", "{} or {}", "!({}) == ({})", "coalesce({}, {})"]).format(
        one, other
    )


def nested(random: random.Random) -> str:
    # One character a level, so that the levels reach far into the thousands.
    depth = random.choices([10, 64, 65, 300, 2000], [3, 3, 3, 2, 1])[0]
    start, end = random.choice(
        [("(", ")"), ("!", ""), ("-", ""), ("[", "]"), ("abs(", ")"), ("1+(", ")"), ("{", "}")]
    )
    return f"{start * depth}{random.choice(['$amount', '$flag', ''])}{end * depth}"


def endless(random: random.Random) -> str:
    link = random.choice(
        [" and $flag", "+1", "*2", "||true", " in [1]", "==1", ",1", "'", "$a", "#", "1"]
    )
    return random.choice(["$flag", "$amount", "$amount in [1", ""]) + link * random.choice(
        [9, 100, 900]
    )


def regex(random: random.Random) -> str:
    pattern = "".join(random.choices(PATTERNS, k=random.randrange(1, 6)))
    return f"regex_match('{pattern}', ${random.choice(['email', 'country', 'ip'])})"


KINDS: Final[list[tuple[Callable[[random.Random], str], int]]] = [
    (noise, 15), (soup, 25), (broken, 35), (spliced, 10), (nested, 4), (endless, 4), (regex, 7),
]  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_ten_thousand_inputs_give_an_answer_or_a_clean_error() -> None:
    random_ = random.Random(20)
    makers = random_.choices([one for one, _ in KINDS], [weight for _, weight in KINDS], k=INPUTS)
    answered = 0
    for make in makers:
        text = make(random_)
        problem = expression = None
        try:
            expression = compile_expression(text, VARIABLES, LISTS)
        except ExpressionError as error:
            problem = error
        if expression is not None:
            hits = expression.evaluate(Rows(HOSTILE_ROWS, LISTS), len(HOSTILE_ROWS))
            assert hits.shape == (len(HOSTILE_ROWS),)
            assert hits.dtype == np.bool_
            answered += 1
        if problem is not None:
            lines = text.split("\n")
            assert 1 <= problem.line <= len(lines), text
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, text
            assert problem.message
            assert problem.excerpt.count("\n") == 1
    # Both happen, and often: the inputs are not all alike.
    assert INPUTS // 10 < answered < INPUTS * 9 // 10
