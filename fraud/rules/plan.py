"""Plans: checked expressions as operations on whole columns.

Unknown numbers are NaN and unknown texts are None. Conditions are three-valued: a plan computes a mask
of the rows where the condition is true, and one where it is false; in all other rows it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Texts = Sequence[str | None]


class Columns(Protocol):
    """Values of a batch of n transactions, read only when an expression needs them."""

    def number(self, name: str) -> NDArray[np.float64]:
        """Return the values of a number, single, time or boolean variable, shape (n,).

        Values are finite, or NaN if unknown. Times are UTC epoch milliseconds, booleans 0 or 1, and
        singles the float32 values of the feature vector, widened. Callers do not modify the array.
        """

    def text(self, name: str) -> Texts:
        """Return the values of a text or ip variable, length n; None stands for an unknown value."""

    def member(self, name: str, values: Texts, variable: str | None) -> Mask:
        """Return which values are on a list, shape (n,).

        Args:
            name: Name of the list.
            values: Texts to look up, length n; the results for None are not used.
            variable: Variable whose values these are, if so; the result may then be cached.
        """


@dataclass(frozen=True, slots=True)
class Rows:
    """The batch that an expression is evaluated on."""

    columns: Columns
    n: int


class Numeric(Protocol):
    """Plan that computes numbers or times."""

    def values(self, rows: Rows) -> Any:
        """Return float64, shape (n,) or a scalar, finite or NaN."""


class Textual(Protocol):
    """Plan that computes texts."""

    def values(self, rows: Rows) -> Texts:
        """Return texts, length n; None means unknown."""


class Sides(NamedTuple):
    """Masks of the rows where a condition is true and where it is false; else it is unknown."""

    true: Any
    false: Any


class Truth(Protocol):
    """Plan that computes a condition; masks have the shape (n,) or are scalars."""

    def true(self, rows: Rows) -> Any:
        """Return the mask of rows where the condition is true."""

    def false(self, rows: Rows) -> Any:
        """Return the mask of rows where the condition is false."""

    def both(self, rows: Rows) -> Sides:
        """Return both masks; every operand is evaluated only once."""


def _finite(values: Any) -> Any:
    """Replace non-finite numbers with NaN (unknown)."""
    return np.where(np.isfinite(values), values, np.nan)


OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
}


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A variable that is a number or a time."""

    name: str

    def values(self, rows: Rows) -> Any:
        return rows.columns.number(self.name)


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant number or time."""

    value: np.float64

    def values(self, rows: Rows) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class Calculation:
    """Arithmetic on several operands, evaluated from left to right."""

    first: Numeric
    rest: tuple[tuple[Callable[[Any, Any], Any], Numeric], ...]

    def values(self, rows: Rows) -> Any:
        result = self.first.values(rows)
        for operation, operand in self.rest:
            result = _finite(operation(result, operand.values(rows)))
        return result


@dataclass(frozen=True, slots=True)
class Mapped:
    """A function of one number."""

    function: Callable[[Any], Any]
    operand: Numeric

    def values(self, rows: Rows) -> Any:
        return self.function(self.operand.values(rows))


@dataclass(frozen=True, slots=True)
class Folded:
    """A function of two numbers, folded over several operands."""

    function: Callable[[Any, Any], Any]
    operands: tuple[Numeric, ...]

    def values(self, rows: Rows) -> Any:
        result = self.operands[0].values(rows)
        for operand in self.operands[1:]:
            result = self.function(result, operand.values(rows))
        return result


@dataclass(frozen=True, slots=True)
class NumberOfText:
    """A function from text to a number, NaN if the number is unknown."""

    function: Callable[[str], float]
    operand: Textual

    def values(self, rows: Rows) -> Any:
        function = self.function
        return np.array(
            [np.nan if one is None else function(one) for one in self.operand.values(rows)],
            np.float64,
        )


def single(values: Any) -> Any:
    """Round to single precision; numbers beyond its range become its largest or smallest."""
    within = np.minimum(np.maximum(values, -_LARGEST_SINGLE), _LARGEST_SINGLE)
    return np.asarray(within, np.float64).astype(np.float32).astype(np.float64)


_LARGEST_SINGLE: Final = np.float64(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A variable of text."""

    name: str

    def values(self, rows: Rows) -> Texts:
        return rows.columns.text(self.name)


@dataclass(frozen=True, slots=True)
class TextConstant:
    """A constant text, for all rows."""

    value: str

    def values(self, rows: Rows) -> Texts:
        return [self.value] * rows.n


@dataclass(frozen=True, slots=True)
class TextOfText:
    """A function from text to text."""

    function: Callable[[str], str | None]
    operand: Textual

    def values(self, rows: Rows) -> Texts:
        function = self.function
        return [None if one is None else function(one) for one in self.operand.values(rows)]


@dataclass(frozen=True, slots=True)
class TextOfNumber:
    """A function from a number to text."""

    function: Callable[[float], str]
    operand: Numeric

    def values(self, rows: Rows) -> Texts:
        function = self.function
        values = np.broadcast_to(self.operand.values(rows), rows.n)
        return [None if one != one else function(one) for one in values.tolist()]


@dataclass(frozen=True, slots=True)
class FirstText:
    """The first known text of several."""

    operands: tuple[Textual, ...]

    def values(self, rows: Rows) -> Texts:
        result = self.operands[0].values(rows)
        for operand in self.operands[1:]:
            others = operand.values(rows)
            result = [
                other if one is None else one for one, other in zip(result, others, strict=True)
            ]
        return result


def first_number(one: Any, other: Any) -> Any:
    """Return the first of two numbers where it is known, else the second."""
    return np.where(np.isnan(one), other, one)


class _InTwo:
    """Base of conditions that compute their two masks separately."""

    __slots__ = ()

    def true(self, rows: Rows) -> Any:
        raise NotImplementedError

    def false(self, rows: Rows) -> Any:
        raise NotImplementedError

    def both(self, rows: Rows) -> Sides:
        return Sides(self.true(rows), self.false(rows))


class _AtOnce:
    """Base of conditions that compute both masks together."""

    __slots__ = ()

    def true(self, rows: Rows) -> Any:
        return self.both(rows).true

    def false(self, rows: Rows) -> Any:
        return self.both(rows).false

    def both(self, rows: Rows) -> Sides:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TruthConstant(_InTwo):
    """A constant condition, true or false."""

    value: bool

    def true(self, rows: Rows) -> Any:
        return np.bool_(self.value)

    def false(self, rows: Rows) -> Any:
        return np.bool_(not self.value)


@dataclass(frozen=True, slots=True)
class TruthColumn(_InTwo):
    """A variable that is true or false."""

    name: str

    def true(self, rows: Rows) -> Any:
        return rows.columns.number(self.name) == 1

    def false(self, rows: Rows) -> Any:
        return rows.columns.number(self.name) == 0


def _apart(one: Any, other: Any) -> Any:
    """Return where two known numbers differ: unlike with `!=`, NaN differs from nothing."""
    return (one < other) | (one > other)


class Comparator(NamedTuple):
    """Functions for where a comparison is true and where it is false; NaN is in neither."""

    true: Callable[[Any, Any], Any]
    false: Callable[[Any, Any], Any]


COMPARISONS: Final = {
    "==": Comparator(np.equal, _apart),
    "!=": Comparator(_apart, np.equal),
    "<": Comparator(np.less, np.greater_equal),
    "<=": Comparator(np.less_equal, np.greater),
    ">": Comparator(np.greater, np.less_equal),
    ">=": Comparator(np.greater_equal, np.less),
}
"""The comparators by operator."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two numbers or two times."""

    operator: str
    left: Numeric
    right: Numeric

    def true(self, rows: Rows) -> Any:
        return COMPARISONS[self.operator].true(self.left.values(rows), self.right.values(rows))

    def false(self, rows: Rows) -> Any:
        return COMPARISONS[self.operator].false(self.left.values(rows), self.right.values(rows))

    def both(self, rows: Rows) -> Sides:
        comparator = COMPARISONS[self.operator]
        left, right = self.left.values(rows), self.right.values(rows)
        return Sides(comparator.true(left, right), comparator.false(left, right))


@dataclass(frozen=True, slots=True)
class NumberWithin:
    """Whether a number or time is among sorted items."""

    operand: Numeric
    items: NDArray[np.float64]

    def true(self, rows: Rows) -> Any:
        return self._within(self.operand.values(rows))

    def false(self, rows: Rows) -> Any:
        return self.both(rows).false

    def both(self, rows: Rows) -> Sides:
        values = self.operand.values(rows)
        true = self._within(values)
        return Sides(true, ~(true | np.isnan(values)))

    def _within(self, values: Any) -> Any:
        # NaN sorts behind all items and equals none.
        at = np.minimum(np.searchsorted(self.items, values), len(self.items) - 1)
        return self.items[at] == values


def _known(values: Texts) -> Mask:
    return np.array([one is not None for one in values], np.bool_)


@dataclass(frozen=True, slots=True)
class TextWithin:
    """Whether a text is one of several."""

    operand: Textual
    items: frozenset[str]

    def true(self, rows: Rows) -> Any:
        return self._within(self.operand.values(rows))

    def false(self, rows: Rows) -> Any:
        return self.both(rows).false

    def both(self, rows: Rows) -> Sides:
        values = self.operand.values(rows)
        true = self._within(values)
        return Sides(true, ~true & _known(values))

    def _within(self, values: Texts) -> Mask:
        return np.array(list(map(self.items.__contains__, values)), np.bool_)


@dataclass(frozen=True, slots=True)
class TextTest:
    """A test of each text, which returns None if the result is unknown."""

    operand: Textual
    test: Callable[[str], bool | None]

    def true(self, rows: Rows) -> Any:
        test = self.test
        return np.array(
            [one is not None and test(one) is True for one in self.operand.values(rows)], np.bool_
        )

    def false(self, rows: Rows) -> Any:
        test = self.test
        return np.array(
            [one is not None and test(one) is False for one in self.operand.values(rows)], np.bool_
        )

    def both(self, rows: Rows) -> Sides:
        test = self.test
        return _sides([None if one is None else test(one) for one in self.operand.values(rows)])


@dataclass(frozen=True, slots=True)
class TwoTexts(_AtOnce):
    """A test of two texts."""

    left: Textual
    right: Textual
    test: Callable[[str, str], bool]

    def both(self, rows: Rows) -> Sides:
        test = self.test
        return _sides(
            [
                None if one is None or other is None else test(one, other)
                for one, other in zip(self.left.values(rows), self.right.values(rows), strict=True)
            ]
        )


def _sides(answers: list[bool | None]) -> Sides:
    return Sides(
        np.array([answer is True for answer in answers], np.bool_),
        np.array([answer is False for answer in answers], np.bool_),
    )


@dataclass(frozen=True, slots=True)
class OnList(_AtOnce):
    """Whether a text is on a named list."""

    name: str
    operand: Textual
    variable: str | None

    def both(self, rows: Rows) -> Sides:
        values = self.operand.values(rows)
        member = rows.columns.member(self.name, values, self.variable)
        known = _known(values)
        return Sides(member & known, ~member & known)


@dataclass(frozen=True, slots=True)
class NumberUnknown(_InTwo):
    """Whether a number is unknown."""

    operand: Numeric

    def true(self, rows: Rows) -> Any:
        return np.isnan(self.operand.values(rows))

    def false(self, rows: Rows) -> Any:
        return ~np.isnan(self.operand.values(rows))


@dataclass(frozen=True, slots=True)
class TextUnknown(_InTwo):
    """Whether a text is unknown."""

    operand: Textual

    def true(self, rows: Rows) -> Any:
        return ~_known(self.operand.values(rows))

    def false(self, rows: Rows) -> Any:
        return _known(self.operand.values(rows))


@dataclass(frozen=True, slots=True)
class TruthUnknown(_AtOnce):
    """Whether a condition is unknown."""

    operand: Truth

    def both(self, rows: Rows) -> Sides:
        true, false = self.operand.both(rows)
        known = true | false
        return Sides(~known, known)


@dataclass(frozen=True, slots=True)
class Same(_AtOnce):
    """Whether two conditions have the same truth value."""

    left: Truth
    right: Truth

    def both(self, rows: Rows) -> Sides:
        true, false = self.left.both(rows)
        other_true, other_false = self.right.both(rows)
        return Sides(
            (true & other_true) | (false & other_false),
            (true & other_false) | (false & other_true),
        )


@dataclass(frozen=True, slots=True)
class FirstTruth(_AtOnce):
    """The first known condition of several."""

    operands: tuple[Truth, ...]

    def both(self, rows: Rows) -> Sides:
        true, false = self.operands[0].both(rows)
        for operand in self.operands[1:]:
            other_true, other_false = operand.both(rows)
            unknown = ~(true | false)
            true, false = true | (unknown & other_true), false | (unknown & other_false)
        return Sides(true, false)


@dataclass(frozen=True, slots=True)
class Opposite:
    """The negation of a condition."""

    operand: Truth

    def true(self, rows: Rows) -> Any:
        return self.operand.false(rows)

    def false(self, rows: Rows) -> Any:
        return self.operand.true(rows)

    def both(self, rows: Rows) -> Sides:
        true, false = self.operand.both(rows)
        return Sides(false, true)


@dataclass(frozen=True, slots=True)
class All:
    """Conditions joined by `and`; operands that cannot change any row are not evaluated."""

    operands: tuple[Truth, ...]

    def true(self, rows: Rows) -> Any:
        result = self.operands[0].true(rows)
        for operand in self.operands[1:]:
            if not result.any():
                break
            result = result & operand.true(rows)
        return result

    def false(self, rows: Rows) -> Any:
        result = self.operands[0].false(rows)
        for operand in self.operands[1:]:
            if result.all():
                break
            result = result | operand.false(rows)
        return result

    def both(self, rows: Rows) -> Sides:
        true, false = self.operands[0].both(rows)
        for operand in self.operands[1:]:
            if false.all():
                break
            also_true, also_false = operand.both(rows)
            true, false = true & also_true, false | also_false
        return Sides(true, false)
