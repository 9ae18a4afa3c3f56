"""The vectorised evaluator says what a naive one says, which goes row by row and knows no NumPy."""

from __future__ import annotations

import ipaddress
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import answers

LISTS = {"emails": frozenset({"a@x.example", "b"}), "amounts": frozenset({"1", "0.1", "99.99"})}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = (2 - 2**-23) * 2.0**127
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _VALUE = range(8)


@dataclass(frozen=True)
class Part:
    """A part of an expression: its text, how tightly it binds, and its value for a row."""

    text: str
    value: Callable[[dict[str, Any]], Any]
    binds: int = _VALUE
    single: bool = False

    def at(self, place: int) -> str:
        return f"({self.text})" if self.binds < place else self.text


def as_single(value: float | None) -> float | None:
    if value is None:
        return None
    value = min(max(value, -LARGEST), LARGEST)
    return struct.unpack("f", struct.pack("f", value))[0]


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def calculate(operator: str, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    if operator in "/%" and other == 0:
        return None
    match operator:
        case "+":
            return finite(one + other)
        case "-":
            return finite(one - other)
        case "*":
            return finite(one * other)
        case "/":
            return finite(one / other)
    return finite(math.fmod(one, other))


def both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def opposite(one: bool | None) -> bool | None:
    return None if one is None else not one


def either(one: bool | None, other: bool | None) -> bool | None:
    return opposite(both(opposite(one), opposite(other)))


def compared(operator: str, one: Any, other: Any) -> bool | None:
    if one is None or other is None:
        return None
    match operator:
        case "==":
            return one == other
        case "!=":
            return one != other
        case "<":
            return one < other
        case "<=":
            return one <= other
        case ">":
            return one > other
    return one >= other


def known(function: Callable[[Any], Any], part: Part) -> Callable[[dict[str, Any]], Any]:
    def value(row: dict[str, Any]) -> Any:
        of = part.value(row)
        return None if of is None else function(of)

    return value


def field(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row[name]


NUMBERS = [0.0, 1.0, 2.0, 7.0, 0.1, 0.3, 99.99, 2.5, 0.5, -1.0, -2.5, 1e-300, 1e300, 16777217.0]
TEXTS = ["", "US", "us", "a@x.example", "b", "é#", 'q"\\', "10.1.2.3", "x/y"]
ADDRESSES = ["10.1.2.3", "10.255.0.1", "192.168.1.1", "2001:db8::1", "2001:DB8:0:0::1", "no address", ""]  # fmt: skip
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "192.168.1.1", "2001:db8::/32", "0.0.0.0/0", "::/0"]
MOMENTS = [0, 1_575_075_661_000, 1_575_075_661_001, 1_772_323_200_000, 86_399_999]


def moment(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat()


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


rows = st.lists(
    st.fixed_dictionaries(
        {
            "amount": optional(st.sampled_from(NUMBERS)),
            "score": st.integers(0, 1000),
            "ratio": optional(st.sampled_from(NUMBERS[:-3]).map(as_single)),
            "count": optional(st.integers(0, 9)),
            "country": optional(st.sampled_from(TEXTS)),
            "email": optional(st.sampled_from(TEXTS)),
            "ip": optional(st.sampled_from(ADDRESSES)),
            "flag": optional(st.booleans()),
            "time": optional(st.sampled_from(MOMENTS)),
            "scored_at": st.sampled_from(MOMENTS),
        }
    ),
    min_size=1,
    max_size=5,
)

literal_numbers = st.sampled_from([number for number in NUMBERS if number >= 0]).map(
    lambda number: Part(repr(number), lambda _: number)
)
literal_texts = st.sampled_from(TEXTS).map(lambda text: Part(quoted(text), lambda _: text))


def _number_of(children: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    def chained(first: Part, rest: list[tuple[str, Part]], product: bool) -> Part:
        place = _PRODUCT if product else _SUM
        text = first.at(place + 1) + "".join(f" {op} {one.at(place + 1)}" for op, one in rest)

        def value(row: dict[str, Any]) -> float | None:
            result = first.value(row)
            for operator, one in rest:
                result = calculate(operator, result, one.value(row))
            return result

        return Part(text, value, place)

    def chain(operators: str, product: bool) -> st.SearchStrategy[Part]:
        link = st.tuples(st.sampled_from(operators), children)
        return st.builds(
            chained, children, st.lists(link, min_size=1, max_size=3), st.just(product)
        )

    def extreme(name: str, parts: list[Part]) -> Part:
        single = any(part.single for part in parts)

        def value(row: dict[str, Any]) -> float | None:
            values = [part.value(row) for part in parts]
            if single:
                values = [as_single(one) for one in values]
            if name == "coalesce":
                return next((one for one in values if one is not None), None)
            if any(one is None for one in values):
                return None
            return min(values) if name == "min" else max(values)

        return Part(f"{name}({', '.join(part.text for part in parts)})", value, single=single)

    def rounded(number: float) -> float:
        whole = math.floor(abs(number))
        return math.copysign(whole + (abs(number) - whole >= 0.5), number)

    def function(name: str, part: Part) -> Part:
        functions: dict[str, Callable[[float], float | None]] = {
            "abs": abs,
            "round": rounded,
            "floor": lambda number: float(math.floor(number)),
            "ceil": lambda number: float(math.ceil(number)),
            "sqrt": lambda number: math.sqrt(number) if number >= 0 else None,
        }
        single = name == "abs" and part.single
        return Part(f"{name}({part.text})", known(functions[name], part), single=single)

    return st.one_of(
        chain("+-", False),
        chain("*/%", True),
        children.map(lambda one: Part(f"-{one.at(_SIGN)}", known(lambda number: -number, one), _SIGN, one.single)),
        st.builds(extreme, st.sampled_from(["min", "max", "coalesce"]), st.lists(children, min_size=1, max_size=3)),
        st.builds(function, st.sampled_from(["abs", "round", "floor", "ceil", "sqrt"]), children.filter(lambda one: "e+" not in one.text)),
    )  # fmt: skip


simple_texts = st.one_of(
    literal_texts,
    st.just(Part("$country", field("country"))),
    st.just(Part("$email", field("email"))),
)
# An address is compared as an address: as a text it is asked for apart.
ip = Part("$ip", field("ip"))


def _text_of(children: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    functions = {"lowercase": str.lower, "uppercase": str.upper, "trim": str.strip}

    def domain(text: str) -> str | None:
        _, at, after = text.rpartition("@")
        return after.lower() if at and after else None

    return st.one_of(
        st.builds(
            lambda name, one: Part(f"{name}({one.text})", known(functions[name], one)),
            st.sampled_from(sorted(functions)),
            children,
        ),
        children.map(lambda one: Part(f"email_domain({one.text})", known(domain, one))),
        st.builds(
            lambda one, other: Part(
                f"coalesce({one.text}, {other.text})",
                lambda row: other.value(row) if one.value(row) is None else one.value(row),
            ),
            children,
            children,
        ),
    )


texts = st.recursive(simple_texts, _text_of, max_leaves=3)

numbers = st.recursive(
    st.one_of(
        literal_numbers,
        st.just(Part("$amount", field("amount"))),
        st.just(Part("$score", field("score"))),
        st.just(Part("$ratio", field("ratio"), single=True)),
        st.just(Part("$count", field("count"), single=True)),
        texts.map(lambda one: Part(f"length({one.text})", known(len, one))),
    ),
    _number_of,
    max_leaves=6,
)

times = st.one_of(
    st.just(Part("$time", field("time"))),
    st.just(Part("getcurrentdatetime()", field("scored_at"))),
)
moments = st.sampled_from(MOMENTS).map(lambda ms: Part(f'"{moment(ms)}"', lambda _: ms))

COMPARISONS = ["==", "!=", "<", "<=", ">", ">="]


def compare(operator: str, one: Part, other: Part) -> Part:
    single = one.single or other.single

    def value(row: dict[str, Any]) -> bool | None:
        left, right = one.value(row), other.value(row)
        if single:
            left, right = as_single(left), as_single(right)
        return compared(operator, left, right)

    return Part(f"{one.at(_SUM)} {operator} {other.at(_SUM)}", value, _COMPARE)


def within(one: Part, items: list[Part], negated: bool) -> Part:
    def value(row: dict[str, Any]) -> bool | None:
        of = one.value(row)
        if of is None:
            return None
        values = [item.value(row) for item in items]
        if one.single:
            values = [as_single(item) for item in values]
        return (of in values) is not negated

    word = "not in" if negated else "in"
    return Part(
        f"{one.at(_SUM)} {word} [{', '.join(item.text for item in items)}]", value, _COMPARE
    )


def in_networks(networks: list[str], negated: bool) -> Part:
    def inside(text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return negated
        return any(address in ipaddress.ip_network(one) for one in networks) is not negated

    items = ", ".join(map(quoted, networks))
    return Part(f"$ip {'not ' * negated}in [{items}]", known(inside, ip), _COMPARE)


def on_list(name: str, one: Part, as_text: Callable[[Any], str]) -> Part:
    return Part(
        f"{one.at(_SUM)} in @{name}",
        known(lambda value: as_text(value) in LISTS[name], one),
        _COMPARE,
    )


def plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _two_texts(name: str, one: Part, other: Part) -> Part:
    tests = {
        "contains": str.__contains__,
        "starts_with": str.startswith,
        "ends_with": str.endswith,
    }

    def value(row: dict[str, Any]) -> bool | None:
        text, part = one.value(row), other.value(row)
        return None if text is None or part is None else tests[name](text, part)

    return Part(f"{name}({one.text}, {other.text})", value)


def _question(one: Part, form: str) -> Part:
    """`== null` and its like; what is asked may be of any type."""
    negated = form in ("{} != null", "exists({})")
    text = one.at(_SUM) if "=" in form else one.text
    binds = _COMPARE if "=" in form else _VALUE
    return Part(form.format(text), lambda row: (one.value(row) is None) is not negated, binds)


several = st.lists(literal_numbers, min_size=1, max_size=4)
words = st.lists(literal_texts, min_size=1, max_size=4)
in_or_not = st.booleans()
FORMS = ["{} == null", "null == {}", "{} != null", "is_null({})", "exists({})"]

simple_truths = st.one_of(
    st.booleans().map(lambda value: Part(str(value).lower(), lambda _: value)),
    st.just(Part("$flag", field("flag"))),
    st.builds(compare, st.sampled_from(COMPARISONS), numbers, numbers),
    st.builds(compare, st.sampled_from(["==", "!="]), texts, texts),
    st.builds(compare, st.sampled_from(COMPARISONS), times, st.one_of(times, moments)),
    st.builds(within, numbers, several, in_or_not),
    st.builds(within, texts, words, in_or_not),
    st.builds(
        compare,
        st.sampled_from(["==", "!="]),
        st.just(ip),
        st.just(Part("$country", field("country"))),
    ),
    st.builds(in_networks, st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3), in_or_not),
    st.one_of(texts, st.just(ip)).map(lambda one: on_list("emails", one, str)),
    st.just(on_list("amounts", Part("$amount", field("amount")), plain)),
    st.builds(_two_texts, st.sampled_from(["contains", "starts_with", "ends_with"]), texts, texts),
    st.builds(_question, st.one_of(numbers, texts, times, st.just(ip)), st.sampled_from(FORMS)),
)


def _truth_of(children: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    def joined(word: str, parts: list[Part]) -> Part:
        join = both if word in ("and", "&&") else either
        place = _AND if join is both else _OR

        def value(row: dict[str, Any]) -> bool | None:
            result = parts[0].value(row)
            for part in parts[1:]:
                result = join(result, part.value(row))
            return result

        return Part(f" {word} ".join(part.at(place + 1) for part in parts), value, place)

    def same(operator: str, one: Part, other: Part) -> Part:
        return Part(
            f"{one.at(_SUM)} {operator} {other.at(_SUM)}",
            lambda row: compared(operator, one.value(row), other.value(row)),
            _COMPARE,
        )

    several = st.lists(children, min_size=2, max_size=3)
    return st.one_of(
        st.builds(joined, st.sampled_from(["and", "&&", "or", "||"]), several),
        st.builds(
            lambda word, one: Part(
                f"{word}{one.at(_NOT)}", lambda row: opposite(one.value(row)), _NOT
            ),
            st.sampled_from(["not ", "!"]),
            children,
        ),
        st.builds(same, st.sampled_from(["==", "!="]), children, children),
        st.builds(_question, children, st.sampled_from(FORMS)),
        st.builds(
            lambda one, other: Part(
                f"coalesce({one.text}, {other.text})",
                lambda row: other.value(row) if one.value(row) is None else one.value(row),
            ),
            children,
            children,
        ),
    )


truths = st.recursive(simple_truths, _truth_of, max_leaves=8)


@settings(max_examples=200)
@given(truths, rows)
def test_a_batch_is_answered_as_a_naive_evaluator_answers_each_row(
    truth: Part, batch: list[dict[str, Any]]
) -> None:
    assert answers(truth.text, batch, LISTS) == [truth.value(row) for row in batch]


@given(truths, rows, st.randoms(use_true_random=False))
def test_a_row_is_answered_alike_in_any_batch(
    truth: Part, batch: list[dict[str, Any]], random: Any
) -> None:
    alone = [answers(truth.text, [row], LISTS)[0] for row in batch]
    larger = batch * 3
    random.shuffle(larger)
    together = answers(truth.text, larger, LISTS)
    for row, answer in zip(larger, together, strict=True):
        assert answer == alone[batch.index(row)]
