"""Parses the text of an expression into a tree, by the grammar in `expression.lark`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken, VisitError

from fraud.contracts.rules import MAX_EXPRESSION
from fraud.rules.errors import ExpressionError
from fraud.rules.tree import (
    MAX_DEPTH,
    Arithmetic,
    At,
    Boolean,
    Compare,
    FunctionCall,
    Junction,
    Node,
    Not,
    Null,
    Number,
    Sign,
    Text,
    VariableNode,
    Within,
    Word,
)

MAX_ITEMS: Final = 1_000
"""Maximum number of items in brackets; longer lists must be named lists."""

_ESCAPE: Final = re.compile(r"""\\([\\"'])""")
_GRAMMAR: Final = Path(__file__).with_name("expression.lark")


def _at(token: Token) -> At:
    return At(token.line or 1, token.column or 1)


def _depth(nodes: Iterable[Node], at: At) -> int:
    depth = 1 + max((node.depth for node in nodes), default=0)
    if depth > MAX_DEPTH:
        raise ExpressionError(f"expected at most {MAX_DEPTH} levels of nesting", *at)
    return depth


class _Builder(Transformer[Token, Node]):
    """Builds the nodes bottom-up during parsing, so that no function recurses."""

    def number(self, children: list[Token]) -> Number:
        at = _at(children[0])
        value = float(children[0])
        if math.isinf(value):
            raise ExpressionError("expected a smaller number: this one is beyond 1.8e308", *at)
        return Number(value, at)

    def signed_number(self, children: list[Token]) -> Number:
        number = self.number(children[1:])
        value = -number.value if children[0] == "-" else number.value
        return Number(value, _at(children[0]))

    def text(self, children: list[Token]) -> Text:
        # Other escapes stay as they are: regular expressions need no second backslash.
        return Text(_ESCAPE.sub(r"\1", children[0][1:-1]), _at(children[0]))

    def boolean(self, children: list[Token]) -> Boolean:
        return Boolean(children[0].type == "TRUE", _at(children[0]))

    def null(self, children: list[Token]) -> Null:
        return Null(_at(children[0]))

    def variable(self, children: list[Token]) -> VariableNode:
        return VariableNode(str(children[0][1:]), _at(children[0]))

    def word(self, children: list[Token]) -> Word:
        return Word(str(children[0]), _at(children[0]))

    def call(self, children: list[Any]) -> FunctionCall:
        at = _at(children[0])
        arguments = tuple(child for child in children[1:] if child is not None)
        return FunctionCall(children[0].lower(), arguments, at, _depth(arguments, at))

    def sign(self, children: list[Any]) -> Node:
        at = _at(children[0])
        return Sign(children[0] == "-", children[1], at, _depth(children[1:], at))

    def arithmetic(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return children[0]  # type: ignore[no-any-return]  # an operand alone
        operands = tuple(children[::2])
        at = _at(children[1])
        operators = tuple(str(token) for token in children[1::2])
        return Arithmetic(operands, operators, at, _depth(operands, at))

    def compare(self, children: list[Any]) -> Compare:
        left, operator, right = children
        at = _at(operator)
        return Compare(str(operator), left, right, at, _depth((left, right), at))

    def within(self, children: list[Any]) -> Within:
        operand, *words, (items, items_at) = children
        # The tokens of `in`, or of `not in`.
        words = [word for word in words if word is not None]
        at = _at(words[0])
        return Within(operand, items, len(words) == 2, at, items_at or at, _depth((operand,), at))

    def items(self, children: list[Any]) -> tuple[tuple[Node, ...], At | None]:
        items = tuple(child for child in children if child is not None)
        if len(items) > MAX_ITEMS:
            at = items[MAX_ITEMS].at
            raise ExpressionError(
                f"expected at most {MAX_ITEMS} items: put more into a list of its own, in @name",
                *at,
            )
        return items, items[0].at if items else None

    def named_list(self, children: list[Token]) -> tuple[str, At]:
        return str(children[0][1:]), _at(children[0])

    def negation(self, children: list[Any]) -> Not:
        at = _at(children[0])
        return Not(children[1], at, _depth(children[1:], at))

    def conjunction(self, children: list[Node]) -> Node:
        return _junction("and", children)

    def disjunction(self, children: list[Node]) -> Node:
        return _junction("or", children)


def _junction(operator: str, operands: list[Node]) -> Node:
    at = operands[0].at
    return Junction(operator, tuple(operands), at, _depth(operands, at))


@cache
def _parser() -> Lark:
    return Lark(
        _GRAMMAR.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        transformer=_Builder(),
        maybe_placeholders=False,
    )


def parse(text: str) -> Node:
    """Parse an expression into its tree.

    Raises:
        ExpressionError: The text is not an expression, or exceeds a limit.
    """
    try:
        return _parse(text)
    except ExpressionError as error:
        raise error.in_text(text) from None


def _parse(text: str) -> Node:
    if len(text) > MAX_EXPRESSION:
        line, column = _place(text, MAX_EXPRESSION)
        raise ExpressionError(
            f"expected at most {MAX_EXPRESSION} characters, not {len(text)}", line, column
        )
    if not text.strip():
        raise ExpressionError("expected an expression such as $score >= 900", 1, 1)
    try:
        return _parser().parse(text)  # type: ignore[return-value]  # the transformer's node, not a Tree
    except VisitError as error:
        raise error.orig_exc from None
    except UnexpectedCharacters as error:
        raise ExpressionError(_of_character(error), error.line, error.column) from None
    except UnexpectedToken as error:
        if error.token.type == "$END":
            line, column = _place(text, len(text.rstrip()))
        else:
            line, column = _at(error.token)
        raise ExpressionError(_of_token(error), line, column) from None
    except UnexpectedEOF:
        line, column = _place(text, len(text.rstrip()))
        raise ExpressionError(f"expected {_VALUE}, found the end", line, column) from None


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


_VALUE: Final = 'a value ($variable, number, "text", function or "(")'
_VALUES: Final = frozenset({"VARIABLE", "NAME", "LPAR"})
_COMPARISONS: Final = frozenset(
    {"EQUAL", "UNEQUAL", "LESS", "AT_MOST", "GREATER", "AT_LEAST", "IN"}
)
_TOKENS: Final = (
    ("LSQB", '"["'),
    ("LIST", "@list"),
    ("COMMA", '","'),
    ("RPAR", '")"'),
    ("RSQB", '"]"'),
)


def _of_token(error: UnexpectedToken) -> str:
    expected, token = error.accepts or error.expected, error.token
    # A comparison after a complete one: `$a < $b < $c`.
    if token.type in _COMPARISONS and not expected & _COMPARISONS and "_AND" in expected:
        return "expected and, or or the end: comparisons do not chain, write $a < $b and $b < $c"
    words = []
    if expected & _VALUES:
        words.append(_VALUE)
    elif "NUMBER" in expected:
        words.append('a number or "text"' if "STRING" in expected else "a number")
    if "EQUAL" in expected:
        words.append("an operator (such as ==, <, in, +, and)")
    elif "_AND" in expected:
        words.append("and, or")
    elif "IN" in expected:
        words.append("in")
    words += [word for name, word in _TOKENS if name in expected]
    if "$END" in expected:
        words.append("the end")
    found = "the end" if token.type == "$END" else f'"{_shown(str(token))}"'
    return f"expected {_listed(words)}, found {found}"


def _of_character(error: UnexpectedCharacters) -> str:
    character = error.char
    match character:
        case '"' | "'":
            return f"expected a closing {character} on the same line"
        case "$":
            return "expected a variable's name after $, such as $score"
        case "@":
            return "expected a list's name after @, such as @blocked_ips"
        case "&" | "|":
            return f"expected {character}{character} or {'and' if character == '&' else 'or'}"
        case "=":
            return "expected ==, found ="
    return f"expected no such character: {_shown(character)!r}"


def _shown(text: str) -> str:
    short = text if len(text) <= 30 else f"{text[:30]}..."
    return "".join(one if one.isprintable() else "?" for one in short)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
