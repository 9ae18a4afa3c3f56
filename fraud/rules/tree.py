"""The parsed expression, before its types are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

MAX_DEPTH: Final = 64
"""Maximum nesting of calls, signs, negations and parenthesised operators."""


class At(NamedTuple):
    """A position in the text: line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Number:
    """A literal number in an expression."""

    value: float
    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Text:
    """A literal text, in quotes."""

    value: str
    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Boolean:
    """The literal `true` or `false`."""

    value: bool
    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Null:
    """The literal `null`, valid only in comparisons."""

    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class VariableNode:
    """A variable; `name` is without the dollar sign."""

    name: str
    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word, which is never valid."""

    name: str
    at: At
    depth: int = 1


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function call; `name` is in lower case."""

    name: str
    arguments: tuple[Node, ...]
    at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Operands with an operator between each two, evaluated from left to right."""

    operands: tuple[Node, ...]
    operators: tuple[str, ...]
    at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Sign:
    """A plus or minus before a value."""

    negative: bool
    operand: Node
    at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison; `at` is the position of the operator."""

    operator: str
    left: Node
    right: Node
    at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Within:
    """Membership in literals or in a named list; `at` is the position of the operator."""

    operand: Node
    items: tuple[Node, ...] | str
    negated: bool
    at: At
    items_at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Not:
    """A negated condition, `not`."""

    operand: Node
    at: At
    depth: int


@dataclass(frozen=True, slots=True)
class Junction:
    """Operands joined by `and`, or by `or`."""

    operator: str
    operands: tuple[Node, ...]
    at: At
    depth: int


Node: TypeAlias = (
    Number | Text | Boolean | Null | VariableNode | Word | FunctionCall | Arithmetic | Sign | Compare | Within
    | Not | Junction
)  # fmt: skip


# Precedences, loosest first: a node that binds looser than its place requires is put in parentheses.
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _VALUE = range(8)


def text_of(node: Node) -> str:
    """Format an expression in normal form: single spaces, no needless parentheses, no comments."""
    return _text(node, _OR)


def _text(node: Node, place: int) -> str:
    binds, text = _written(node)
    return f"({text})" if binds < place else text


def _written(node: Node) -> tuple[int, str]:
    match node:
        case Number(value):
            return _VALUE, number_text(value)
        case Text(value):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return _VALUE, f'"{escaped}"'
        case Boolean(value):
            return _VALUE, "true" if value else "false"
        case Null():
            return _VALUE, "null"
        case VariableNode(name):
            return _VALUE, f"${name}"
        case Word(name):
            return _VALUE, name
        case FunctionCall(name, arguments):
            return _VALUE, f"{name}({', '.join(_text(one, _OR) for one in arguments)})"
        case Arithmetic(operands, operators):
            binds = _SUM if operators[0] in "+-" else _PRODUCT
            rest = zip(operators, operands[1:], strict=True)
            return binds, _text(operands[0], binds + 1) + "".join(
                f" {operator} {_text(operand, binds + 1)}" for operator, operand in rest
            )
        case Sign(negative, operand):
            return _SIGN, f"{'-' if negative else '+'}{_text(operand, _SIGN)}"
        case Compare(operator, left, right):
            return _COMPARE, f"{_text(left, _SUM)} {operator} {_text(right, _SUM)}"
        case Within(operand, items, negated):
            word = "not in" if negated else "in"
            if isinstance(items, str):
                return _COMPARE, f"{_text(operand, _SUM)} {word} @{items}"
            return (
                _COMPARE,
                f"{_text(operand, _SUM)} {word} [{', '.join(_text(one, _OR) for one in items)}]",
            )
        case Not(operand):
            return _NOT, f"not {_text(operand, _NOT)}"
        case Junction(operator, operands):
            binds = _OR if operator == "or" else _AND
            return binds, f" {operator} ".join(_text(one, binds + 1) for one in operands)


def number_text(value: float) -> str:
    """Format a number in the shortest way that parses to the same value.

    Example:
        >>> number_text(411111.0), number_text(0.5), number_text(-0.0)
        ('411111', '0.5', '0')
    """
    if value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return repr(value)
