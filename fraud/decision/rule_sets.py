"""Compiles rule sets, and evaluates them a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.rules import MAX_VERSION, Matching, Rule, RuleSet
from fraud.decision.columns import BatchColumns
from fraud.decision.variables import standard_variables
from fraud.rules import (
    Expression,
    ExpressionError,
    compile_expression,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a rule.

    Attributes:
        rule: Id of the rule.
        field: Field at fault, such as `when`.
        line: Line in that field, from 1; 0 if the field as a whole is at fault.
        column: Column in that line, from 1.
        detail: What was expected.
    """

    rule: str
    field: str
    line: int
    column: int
    detail: str

    def __str__(self) -> str:
        at = f", line {self.line}, column {self.column}" if self.line else ""
        return f"rule {self.rule}, {self.field}{at}: {self.detail}"


class InvalidRules(Exception):
    """Raised for a rule set with invalid rules.

    Attributes:
        problems: The first fault of each invalid rule, in the order of the set.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its compiled expression."""

    rule: Rule
    expression: Expression


class CompiledRules:
    """The enabled rules of a set, compiled, in their order.

    Args:
        rules: The set.
        lists: Names of the existing lists; None accepts any name, and unknown lists count as empty.

    Raises:
        InvalidRules: An expression is not a valid condition, or uses an unknown name.
    """

    def __init__(self, rules: RuleSet, lists: Collection[str] | None = None) -> None:
        self.set = rules
        variables = standard_variables()
        compiled: list[CompiledRule] = []
        named: set[str] = set()
        problems: list[Problem] = []
        for rule in rules.rules:
            try:
                # Disabled rules must be valid, too.
                expression = compile_expression(rule.when, variables, lists)
            except ExpressionError as error:
                problems.append(Problem(rule.id, "when", error.line, error.column, error.message))
            else:
                named |= expression.lists
                if rule.enabled:
                    compiled.append(CompiledRule(rule, expression))
        if problems:
            raise InvalidRules(problems)
        self._rules = tuple(compiled)
        self.named_lists = frozenset(named)
        """Names of the lists that rules use, disabled rules included."""

    @property
    def version(self) -> str:
        """Version of the rule set."""
        return self.set.version

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[CompiledRule]:
        return iter(self._rules)

    @property
    def lists(self) -> frozenset[str]:
        """Names of the lists that the enabled rules use."""
        return frozenset().union(*(compiled.expression.lists for compiled in self._rules))

    def match(self, columns: BatchColumns, hits: NDArray[np.bool_]) -> None:
        """Write into `hits` which rules match each transaction and count.

        Args:
            columns: Values of n transactions.
            hits: Output, shape (rules, n); with `FIRST_MATCHED` at most one rule per transaction.
        """
        first_only = self.set.matching is Matching.FIRST
        taken = np.zeros(len(columns), np.bool_)
        for row, compiled in enumerate(self._rules):
            matched = compiled.expression.evaluate(columns, len(columns))
            if first_only:
                matched = matched & ~taken
                taken |= matched
            hits[row] = matched


def numbered(rules: RuleSet, known: Iterable[RuleSet]) -> RuleSet:
    """Assign versions to rules: that of an equal known rule, or else the next version.

    Args:
        rules: Rule set as written; versions may be left out.
        known: Earlier sets; if two define a version of a rule differently, the first counts.

    Raises:
        InvalidRules: A written version belongs to a different rule text, or no version is left.
    """
    by_id: dict[str, dict[int, Rule]] = {}
    for earlier_set in known:
        for rule in earlier_set.rules:
            by_id.setdefault(rule.id, {}).setdefault(rule.version, rule)
    problems = []
    given: list[Rule] = []
    for rule in rules.rules:
        earlier = by_id.get(rule.id, {})
        same = [before.version for before in earlier.values() if _same(before, rule)]
        if "version" in rule.model_fields_set:
            before = earlier.get(rule.version)
            if before is not None and not _same(before, rule):
                expected = f"expected {max(earlier) + 1}, or no version: {rule.version} stands for another text"
                problems.append(Problem(rule.id, "version", 0, 0, expected))
            given.append(rule)
        elif not same and MAX_VERSION in earlier:
            told = f"versions end at {MAX_VERSION}: use another id for the rule"
            problems.append(Problem(rule.id, "version", 0, 0, told))
        else:
            version = max(same) if same else max(earlier, default=0) + 1
            given.append(rule.model_copy(update={"version": version}))
    if problems:
        raise InvalidRules(problems)
    return RuleSet.model_validate(
        rules.model_dump(exclude={"rules"}) | {"rules": [rule.model_dump() for rule in given]}
    )


def _same(one: Rule, other: Rule) -> bool:
    return one.model_dump(exclude={"version"}) == other.model_dump(exclude={"version"})


@cache
def default_rules() -> RuleSet:
    """Return the shipped rules, which are in force until others are activated."""
    from fraud.decision.rule_files import read_rule_file

    return read_rule_file(files(__package__).joinpath("default_rules.toml").read_text("utf-8"))


@cache
def shipped() -> CompiledRules:
    """Return the shipped rules, compiled."""
    return CompiledRules(default_rules())
