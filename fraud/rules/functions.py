"""The functions of the rule language, declared once; docs/rule-reference.md lists them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud.contracts.times import DAY_MS, HOUR_MS
from fraud.contracts.transaction import NUMERIC_TEXT, event_time_to_ms
from fraud.rules import plan
from fraud.rules.patterns import matcher
from fraud.rules.variables import Type


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: Name in the signature.
        type: Required type; None accepts any, but the same for all such arguments of a call.
        literal: Whether the argument must be a literal text in quotes.
    """

    name: str
    type: Type | None = None
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the rule language.

    Attributes:
        name: Name in lower case; expressions may use any case.
        parameters: Parameters in order.
        result: Type of the result; None for the common type of the arguments.
        meaning: One sentence for the docs.
        example: An expression that is true, for the docs and a test.
        build: Builds the plan of a call from the plans of its arguments, and from the text of a
            literal; if parameters accept any type, the arguments' type is passed as `kind`.
        repeated: Whether the last parameter may be repeated.
        documented_by_afd: Whether Amazon Fraud Detector has it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: Type | None
    meaning: str
    example: str
    build: Callable[..., Any]
    repeated: bool = False
    documented_by_afd: bool = False

    @property
    def signature(self) -> str:
        """Name and parameters, as in the docs and error messages."""
        names = [parameter.name for parameter in self.parameters]
        return f"{self.name}({', '.join(names)}{', ...' if self.repeated else ''})"


def _number_in(text: str) -> float:
    text = text.strip()
    if not NUMERIC_TEXT.fullmatch(text):
        return math.nan
    number = float(text)
    return number if math.isfinite(number) else math.nan


def _email_domain(text: str) -> str | None:
    _, at, domain = text.strip().rpartition("@")
    return domain.lower() if at and domain else None


def _round(values: Any) -> Any:
    """Round to whole numbers, halves away from zero."""
    size = np.abs(values)
    whole = np.floor(size)
    return np.copysign(whole + (size - whole >= 0.5), values)


def _hour(values: Any) -> Any:
    return np.floor(values / HOUR_MS) % 24


def _weekday(values: Any) -> Any:
    # 1970-01-01 was a Thursday, which is day 3 if Monday is day 0.
    return (np.floor(values / DAY_MS) + 3) % 7


def read_time(text: str) -> float:
    """Convert a time in an expression to UTC epoch milliseconds; a date alone means midnight.

    Raises:
        ValueError: The text is not a time.
    """
    try:
        return float(event_time_to_ms(f"{text}T00:00:00Z" if len(text) == 10 else text))
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-03-01T09:30:00Z") from None


def _test(test: Callable[[str, str], bool]) -> Callable[..., Any]:
    def build(text: plan.Textual, part: plan.Textual) -> plan.Truth:
        return plan.TwoTexts(text, part, test)

    return build


def _of_number(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda operand: plan.Mapped(function, operand)


def _fold(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *operands: plan.Folded(function, operands)


def _of_text(function: Callable[[str], str | None]) -> Callable[..., Any]:
    return lambda operand: plan.TextOfText(function, operand)


def unknown(operand: Any, kind: Type) -> plan.Truth:
    """Build the plan of `== null` for an operand."""
    if kind is Type.BOOLEAN:
        return plan.TruthUnknown(operand)
    return plan.TextUnknown(operand) if kind.is_text else plan.NumberUnknown(operand)


def _coalesce(*operands: Any, kind: Type) -> Any:
    if kind is Type.BOOLEAN:
        return plan.FirstTruth(operands)
    if kind.is_text:
        return plan.FirstText(operands)
    return plan.Folded(plan.first_number, operands)


_TEXT = Parameter("text", Type.TEXT)
_A_NUMBER = Parameter("number", Type.NUMBER)
_A_TIME = Parameter("time", Type.TIME)
_ANY = Parameter("value")

FUNCTIONS: Final[tuple[Function, ...]] = (
    Function("regex_match", (Parameter("pattern", Type.TEXT, literal=True), _TEXT), Type.BOOLEAN, "Whether the whole text matches a regular expression (RE2); with a pattern that begins with `^`, whether the text begins with a match.", r'regex_match(".*@gmail\.com", "ada@gmail.com")', lambda pattern, text: plan.TextTest(text, matcher(pattern)), documented_by_afd=True),
    Function("lowercase", (_TEXT,), Type.TEXT, "The text in lower case.", 'lowercase("Ada") == "ada"', _of_text(str.lower), documented_by_afd=True),
    Function("uppercase", (_TEXT,), Type.TEXT, "The text in upper case.", 'uppercase("us") == "US"', _of_text(str.upper), documented_by_afd=True),
    Function("getcurrentdatetime", (), Type.TIME, "The time of the decision, `$scored_at`.", 'isafter(getcurrentdatetime(), "2019-11-30T01:01:01Z")', plan.NumberColumn, documented_by_afd=True),
    Function("isbefore", (Parameter("time1", Type.TIME), Parameter("time2", Type.TIME)), Type.BOOLEAN, "Whether the first time is before the second.", 'isbefore("2019-11-30T01:01:01Z", "2019-11-30T01:01:02Z")', lambda one, other: plan.Comparison("<", one, other), documented_by_afd=True),
    Function("isafter", (Parameter("time1", Type.TIME), Parameter("time2", Type.TIME)), Type.BOOLEAN, "Whether the first time is after the second.", 'isafter("2019-11-30T01:01:02Z", "2019-11-30T01:01:01Z")', lambda one, other: plan.Comparison(">", one, other), documented_by_afd=True),
    Function("getepochmilliseconds", (_A_TIME,), Type.NUMBER, "Milliseconds from 1970-01-01T00:00:00Z to a time, for calculations.", 'getepochmilliseconds("1970-01-01T00:00:01Z") == 1000', lambda time: time, documented_by_afd=True),
    Function("hour", (_A_TIME,), Type.NUMBER, "Hour of the day, UTC, 0 to 23.", 'hour("2026-03-01T09:30:00Z") == 9', _of_number(_hour)),
    Function("weekday", (_A_TIME,), Type.NUMBER, "Day of the week, UTC, 0 (Monday) to 6.", 'weekday("2026-03-01T09:30:00Z") == 6', _of_number(_weekday)),
    Function("abs", (_A_NUMBER,), None, "The absolute value of a number.", "abs(-2.5) == 2.5", _of_number(np.abs)),
    Function("min", (_A_NUMBER,), None, "The smallest of several numbers.", "min(3, 1, 2) == 1", _fold(np.minimum), repeated=True),
    Function("max", (_A_NUMBER,), None, "The largest of several numbers.", "max(3, 1, 2) == 3", _fold(np.maximum), repeated=True),
    Function("round", (_A_NUMBER,), Type.NUMBER, "The nearest whole number; halves go away from zero.", "round(2.5) == 3", _of_number(_round)),
    Function("floor", (_A_NUMBER,), Type.NUMBER, "The next whole number below.", "floor(-2.5) == -3", _of_number(np.floor)),
    Function("ceil", (_A_NUMBER,), Type.NUMBER, "The next whole number above.", "ceil(-2.5) == -2", _of_number(np.ceil)),
    Function("sqrt", (_A_NUMBER,), Type.NUMBER, "The square root; unknown below 0.", "sqrt(9) == 3", _of_number(np.sqrt)),
    Function("number", (_TEXT,), Type.NUMBER, "The number that a text spells; unknown for other text.", 'number("62701") > 60000', lambda text: plan.NumberOfText(_number_in, text)),
    Function("length", (_TEXT,), Type.NUMBER, "Number of characters of a text.", 'length("411111") == 6', lambda text: plan.NumberOfText(len, text)),
    Function("trim", (_TEXT,), Type.TEXT, "The text without white space around it.", 'trim(" US ") == "US"', _of_text(str.strip)),
    Function("contains", (_TEXT, Parameter("part", Type.TEXT)), Type.BOOLEAN, "Whether the part is somewhere in the text.", 'contains("shopping_net", "net")', _test(lambda text, part: part in text)),
    Function("starts_with", (_TEXT, Parameter("part", Type.TEXT)), Type.BOOLEAN, "Whether the text begins with the part.", 'starts_with("411111", "4111")', _test(str.startswith)),
    Function("ends_with", (_TEXT, Parameter("part", Type.TEXT)), Type.BOOLEAN, "Whether the text ends with the part.", 'ends_with("shop.example", ".example")', _test(str.endswith)),
    Function("email_domain", (_TEXT,), Type.TEXT, "The part after the @ of an e-mail address, in lower case; unknown without one.", 'email_domain("Ada@Example.com") == "example.com"', _of_text(_email_domain)),
    Function("is_null", (_ANY,), Type.BOOLEAN, "Whether a value is missing or unknown; the same as `== null`.", "is_null(1 / 0)", unknown),
    Function("exists", (_ANY,), Type.BOOLEAN, "Whether a value is known; the same as `!= null`.", 'exists("US")', lambda operand, kind: plan.Opposite(unknown(operand, kind))),
    Function("coalesce", (_ANY,), None, "The first known value of several.", "coalesce(1 / 0, 5) == 5", _coalesce, repeated=True),
)  # fmt: skip

FUNCTION_BY_NAME: Final = {function.name: function for function in FUNCTIONS}
