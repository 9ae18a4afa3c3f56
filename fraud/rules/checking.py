"""Compiles a parsed expression into a plan: looks up its names and checks its types."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud.rules import plan
from fraud.rules.errors import ExpressionError
from fraud.rules.functions import (
    FUNCTION_BY_NAME,
    Function,
    Parameter,
    read_time,
    unknown,
)
from fraud.rules.networks import Networks
from fraud.rules.tree import (
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
    number_text,
)
from fraud.rules.variables import SCORED_AT, Type, variable_named


@dataclass(frozen=True, slots=True)
class _Typed:
    """A checked part of an expression.

    Attributes:
        type: Type of its value.
        plan: `Numeric`, `Textual` or `Truth`, depending on the type.
        node: Node that it was compiled from.
    """

    type: Type
    plan: Any
    node: Node


_TRUTHS: Final = {"true": True, "false": False}
_ORDERED: Final = "expected numbers or times around {operator}, found {found}"


class Checker:
    """Checks an expression and compiles its plan.

    Args:
        variables: Type of each variable.
        lists: Names of the existing lists; None accepts any name.

    Attributes:
        used_variables: Names of the variables that the expression uses, as in `Columns`.
        used_lists: Names of the lists that the expression uses.
    """

    def __init__(self, variables: Mapping[str, Type], lists: Collection[str] | None) -> None:
        self._variables = variables
        self._lists = lists
        self.used_variables: set[str] = set()
        self.used_lists: set[str] = set()

    def condition(self, node: Node) -> plan.Truth:
        """Check and compile a node that must be a condition.

        Raises:
            ExpressionError: The node is invalid or not a condition.
        """
        typed = self._check(node)
        if typed.type is not Type.BOOLEAN:
            raise ExpressionError(
                f"expected a condition, which is true or false, found {typed.type.words}",
                *node.at,
            )
        truth: plan.Truth = typed.plan
        return truth

    def _check(self, node: Node) -> _Typed:
        match node:
            case Number(value):
                return _Typed(Type.NUMBER, plan.Constant(np.float64(value)), node)
            case Text(value):
                return _Typed(Type.TEXT, plan.TextConstant(value), node)
            case Boolean(value):
                return _Typed(Type.BOOLEAN, plan.TruthConstant(value), node)
            case VariableNode(name):
                return self._variable(name, node)
            case FunctionCall():
                return self._call(node)
            case Arithmetic():
                return self._arithmetic(node)
            case Sign():
                operand = self._number(node.operand, "after a sign")
                made = plan.Mapped(np.negative, operand.plan) if node.negative else operand.plan
                return _Typed(operand.type, made, node)
            case Compare():
                return _Typed(Type.BOOLEAN, self._compare(node), node)
            case Within():
                return _Typed(Type.BOOLEAN, self._within(node), node)
            case Not(operand):
                return _Typed(Type.BOOLEAN, plan.Opposite(self.condition(operand)), node)
            case Junction(operator, operands):
                return _Typed(Type.BOOLEAN, self._junction(operator, operands), node)
            case Null():
                raise ExpressionError("expected null only after == and !=", *node.at)
            case Word(name):
                raise self._bare(name, node.at)

    def _junction(self, operator: str, operands: Sequence[Node]) -> plan.Truth:
        conditions = tuple(self.condition(operand) for operand in operands)
        if operator == "and":
            return plan.All(conditions)
        # By De Morgan, `a or b` is `not (not a and not b)`.
        return plan.Opposite(plan.All(tuple(plan.Opposite(one) for one in conditions)))

    def _bare(self, name: str, at: At) -> ExpressionError:
        if name.lower() in FUNCTION_BY_NAME:
            return ExpressionError(
                f"expected {FUNCTION_BY_NAME[name.lower()].signature}, with parentheses", *at
            )
        if variable_named(name, self._variables):
            return ExpressionError(f"expected ${name}: variables are written with a $", *at)
        return ExpressionError(f'expected a value: a text is written "{name}", in quotes', *at)

    def _variable(self, name: str, node: Node) -> _Typed:
        found = variable_named(name, self._variables)
        if found is None:
            raise ExpressionError(
                f"unknown variable ${name}{_nearest(name, self._variables, '$')}", *node.at
            )
        self.used_variables.add(found)
        kind = self._variables[found]
        if kind is Type.BOOLEAN:
            return _Typed(kind, plan.TruthColumn(found), node)
        column = plan.TextColumn(found) if kind.is_text else plan.NumberColumn(found)
        return _Typed(kind, column, node)

    def _number(self, node: Node, where: str) -> _Typed:
        typed = self._check(node)
        if not typed.type.is_number:
            hint = ""
            if typed.type is Type.TIME:
                hint = ": getepochmilliseconds(time) makes one of it"
            elif typed.type.is_text:
                hint = ": number(text) makes one of it"
            raise ExpressionError(
                f"expected a number {where}, found {typed.type.words}{hint}", *node.at
            )
        return typed

    def _arithmetic(self, node: Arithmetic) -> _Typed:
        # An error names the operator before the operand; for the first, the one after it.
        operands = [
            self._number(operand, f"beside {operator}")
            for operand, operator in zip(
                node.operands, (node.operators[0], *node.operators), strict=True
            )
        ]
        operations = [plan.OPERATORS[operator] for operator in node.operators]
        rest = zip(operations, (operand.plan for operand in operands[1:]), strict=True)
        return _Typed(Type.NUMBER, plan.Calculation(operands[0].plan, tuple(rest)), node)

    def _compare(self, node: Compare) -> plan.Truth:
        operator = node.operator
        if isinstance(node.left, Null) or isinstance(node.right, Null):
            return self._compare_null(node)
        left, right = self._check(node.left), self._check(node.right)
        left, right = self._beside(left, right), self._beside(right, left)
        _same(left, right, node)
        if left.type is Type.BOOLEAN or left.type.is_text:
            if operator not in ("==", "!="):
                raise ExpressionError(
                    _ORDERED.format(operator=operator, found=left.type.words), *node.at
                )
            same = (
                _same_text(left, right) if left.type.is_text else plan.Same(left.plan, right.plan)
            )
            return same if operator == "==" else plan.Opposite(same)
        one, other = _alike(left, right)
        return plan.Comparison(operator, one, other)

    def _compare_null(self, node: Compare) -> plan.Truth:
        if node.operator not in ("==", "!="):
            raise ExpressionError("expected null only after == and !=", *node.at)
        operand = node.right if isinstance(node.left, Null) else node.left
        typed = self._check(operand)
        is_unknown = unknown(typed.plan, typed.type)
        return is_unknown if node.operator == "==" else plan.Opposite(is_unknown)

    def _beside(self, typed: _Typed, other: _Typed) -> _Typed:
        """Convert a literal text that is compared with a time or a boolean to that type."""
        if not isinstance(typed.node, Text):
            return typed
        if other.type is Type.TIME:
            return self._time(typed)
        if other.type is Type.BOOLEAN and typed.node.value.lower() in _TRUTHS:
            made = plan.TruthConstant(_TRUTHS[typed.node.value.lower()])
            return _Typed(Type.BOOLEAN, made, typed.node)
        return typed

    def _time(self, typed: _Typed) -> _Typed:
        if isinstance(typed.node, Text):
            try:
                moment = read_time(typed.node.value)
            except ValueError as problem:
                raise ExpressionError(str(problem), *typed.node.at) from None
            return _Typed(Type.TIME, plan.Constant(np.float64(moment)), typed.node)
        return typed

    def _within(self, node: Within) -> plan.Truth:
        operand = self._check(node.operand)
        if isinstance(node.items, str):
            found = self._on_list(node.items, operand, node)
        else:
            found = self._among(node.items, operand, node)
        return plan.Opposite(found) if node.negated else found

    def _on_list(self, name: str, operand: _Typed, node: Within) -> plan.Truth:
        if self._lists is not None and name not in self._lists:
            raise ExpressionError(
                f"unknown list @{name}{_nearest(name, self._lists, '@')}", *node.items_at
            )
        self.used_lists.add(name)
        if operand.type.is_number:
            text = _single_text if operand.type is Type.SINGLE else number_text
            return plan.OnList(name, plan.TextOfNumber(text, operand.plan), None)
        if not operand.type.is_text:
            raise ExpressionError(
                f"expected text or a number before in @{name}, found {operand.type.words}",
                *node.operand.at,
            )
        variable = operand.plan.name if isinstance(operand.plan, plan.TextColumn) else None
        return plan.OnList(name, operand.plan, variable)

    def _among(self, nodes: Sequence[Node], operand: _Typed, node: Within) -> plan.Truth:
        if not nodes:
            raise ExpressionError("expected at least one item in the list", *node.items_at)
        items = []
        for one in nodes:
            if isinstance(one, Null):
                raise ExpressionError("expected no null in a list: write == null", *one.at)
            item = self._beside(self._check(one), operand)
            if _family(item.type) is not _family(operand.type):
                raise ExpressionError(
                    f"expected {operand.type.words}, as before in, found {item.type.words}", *one.at
                )
            items.append(item)
        if operand.type is Type.IP:
            return _in_networks(operand, items)
        if operand.type.is_text:
            texts = frozenset(item.plan.value for item in items)
            return plan.TextWithin(operand.plan, texts)
        if operand.type is Type.BOOLEAN:
            # `or` by De Morgan, as in `_junction`.
            same = [plan.Opposite(plan.Same(operand.plan, item.plan)) for item in items]
            return plan.Opposite(plan.All(tuple(same)))
        numbers = np.array([item.plan.value for item in items], np.float64)
        if operand.type is Type.SINGLE:
            numbers = plan.single(numbers)
        return plan.NumberWithin(operand.plan, np.unique(numbers))

    def _call(self, node: FunctionCall) -> _Typed:
        function = FUNCTION_BY_NAME.get(node.name)
        if function is None:
            raise ExpressionError(
                f"unknown function {node.name}{_nearest(node.name, FUNCTION_BY_NAME, '')}", *node.at
            )
        count, most = len(function.parameters), len(node.arguments)
        if most != count and not (function.repeated and most > count):
            raise ExpressionError(
                f"expected {function.signature}, found {most} argument{'' if most == 1 else 's'}",
                *node.at,
            )
        if node.name == "getcurrentdatetime":
            return self._variable(SCORED_AT, node)
        parameters = (*function.parameters, *function.parameters[-1:] * (most - count))
        pairs = list(zip(parameters, node.arguments, strict=True))
        arguments = [self._argument(function, parameter, one) for parameter, one in pairs]
        kind = function.result or _common(arguments, function)
        # Arguments of different precision are rounded to the lesser one before the call.
        if kind is Type.SINGLE:
            made = [one.plan if one.type is kind else _rounded(one) for one in arguments]
        else:
            made = [
                one.node.value if parameter.literal and isinstance(one.node, Text) else one.plan
                for parameter, one in zip(parameters, arguments, strict=True)
            ]
        # Functions of any type (`is_null`, `coalesce`) build another plan for each type.
        if parameters[0].type is None:
            return _Typed(kind, function.build(*made, kind=_common(arguments, function)), node)
        try:
            return _Typed(kind, function.build(*made), node)
        except ValueError as problem:
            raise ExpressionError(str(problem), *node.arguments[0].at) from None

    def _argument(self, function: Function, parameter: Parameter, node: Node) -> _Typed:
        if parameter.literal and not isinstance(node, Text):
            raise ExpressionError(
                f"expected {parameter.name} of {function.signature} in quotes", *node.at
            )
        wanted = parameter.type
        if isinstance(node, Null):
            raise ExpressionError("expected null only after == and !=", *node.at)
        typed = self._check(node)
        if wanted is None:
            return typed
        if wanted is Type.TIME:
            typed = self._time(typed)
        if _family(typed.type) is not wanted:
            hint = ""
            if wanted is Type.NUMBER and typed.type.is_text:
                hint = ": number(text) makes one of it"
            raise ExpressionError(
                f"expected {wanted.words} as {parameter.name} of {function.signature}, "
                f"found {typed.type.words}{hint}",
                *node.at,
            )
        return typed


def _family(kind: Type) -> Type:
    """Return the type that represents all types that can be mixed with this one."""
    if kind.is_number:
        return Type.NUMBER
    return Type.TEXT if kind.is_text else kind


def _common(arguments: Sequence[_Typed], function: Function) -> Type:
    """Return the common type of the arguments: the lesser precision, or text for text and IP."""
    first = arguments[0].type
    for one in arguments[1:]:
        if _family(one.type) is not _family(first):
            raise ExpressionError(
                f"expected the same type throughout {function.signature}: "
                f"found {first.words}, then {one.type.words}",
                *one.node.at,
            )
    kinds = {one.type for one in arguments}
    if len(kinds) == 1:
        return first
    return Type.SINGLE if Type.SINGLE in kinds else Type.TEXT


def _same(left: _Typed, right: _Typed, node: Compare) -> None:
    if _family(left.type) is _family(right.type):
        return
    # The error points at the literal, which is easier to correct than the other operand.
    if isinstance(left.node, (Number, Text, Boolean)):
        left, right = right, left
    hint = ""
    if left.type.is_text and isinstance(right.node, Number):
        hint = f': write "{number_text(right.node.value)}", in quotes'
    elif left.type.is_number and isinstance(right.node, Text):
        hint = ": a number has no quotes"
    elif left.type.is_number and right.type.is_text:
        hint = ": number(text) makes one of it"
    raise ExpressionError(
        f"expected {left.type.words} beside {node.operator}, found {right.type.words}{hint}",
        *right.node.at,
    )


def _same_text(left: _Typed, right: _Typed) -> plan.Truth:
    if isinstance(left.node, Text):
        left, right = right, left
    if not isinstance(right.node, Text):
        return plan.TwoTexts(left.plan, right.plan, str.__eq__)
    if left.type is Type.IP:
        if "/" in right.node.value:
            raise ExpressionError(
                f'expected an IP address: a network is asked for by in ["{right.node.value}"]',
                *right.node.at,
            )
        return _in_networks(left, [right])
    return plan.TextWithin(left.plan, frozenset({right.node.value}))


def _in_networks(operand: _Typed, items: Iterable[_Typed]) -> plan.Truth:
    entries = []
    for item in items:
        try:
            Networks([item.plan.value])
        except ValueError:
            raise ExpressionError(
                "expected an IP address or a network such as 10.0.0.0/8", *item.node.at
            ) from None
        entries.append(item.plan.value)
    return plan.TextTest(operand.plan, Networks(entries).__contains__)


def _alike(left: _Typed, right: _Typed) -> tuple[Any, Any]:
    """Return the plans of both operands, rounded to single precision if one has it."""
    if left.type is right.type or Type.SINGLE not in (left.type, right.type):
        return left.plan, right.plan
    if left.type is Type.SINGLE:
        return left.plan, _rounded(right)
    return _rounded(left), right.plan


def _rounded(typed: _Typed) -> Any:
    if isinstance(typed.plan, plan.Constant):
        return plan.Constant(np.float64(plan.single(typed.plan.value)))
    return plan.Mapped(plan.single, typed.plan)


def _single_text(value: float) -> str:
    # By way of the shortest decimal: 0.1 as float32 is 0.10000000149011612 as a double.
    return number_text(float(str(np.float32(value))))


def _nearest(name: str, names: Iterable[str], prefix: str) -> str:
    """Return a suggestion of the most similar names, or an empty text."""
    # Bounded, because comparing names takes quadratic time.
    searched = name[:100].lower()
    near = [
        (difflib.SequenceMatcher(None, one, searched).ratio(), prefix + one)
        for one in difflib.get_close_matches(searched, names, n=3, cutoff=0.7)
    ]
    nearest = max((ratio for ratio, _ in near), default=0.0)
    best = [one for ratio, one in near if ratio > nearest - 0.02]
    return f": did you mean {' or '.join(best)}?" if best else ""
