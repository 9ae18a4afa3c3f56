"""The policy: rules, lists and models together; it turns scores into outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef, Outcome, Shared
from fraud.contracts.lists import ListType, ListUse
from fraud.decision.columns import BatchColumns
from fraud.decision.encoding import shared_json
from fraud.decision.lists import Lookup
from fraud.decision.rule_sets import CompiledRule, CompiledRules

_MOST_RULINGS: Final = 10_000
"""Combinations of what matched whose ruling is kept; in practice there are some dozens."""

_THINGS: Final = {
    ListType.ENTITY: "customer",
    ListType.EMAIL: "e-mail address",
    ListType.IP: "IP address",
    ListType.BIN: "card BIN",
    ListType.PHONE: "phone number",
    ListType.DEVICE: "device",
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one combination of rules and lists asks for.

    Attributes:
        outcome: The outcome that wins.
        json: The fields of the decision that hang on it alone, as the inside of a JSON object.
        rules: The decision's `rules` alone, as JSON.
        reasons: Reasons that rules and lists give themselves, as the contract's `Reason`.
    """

    outcome: Outcome
    json: bytes
    rules: bytes
    reasons: tuple[dict[str, Any], ...]


class RuleEvaluator:
    """Rules and lists that decide together.

    Args:
        rules: The rule set.
        lists: All lists by name: rules may ask for each, and some mean something by themselves.
    """

    def __init__(self, rules: CompiledRules, lists: Mapping[str, Lookup]) -> None:
        self.rules = rules
        self.lists = dict(sorted(lists.items()))
        self._acting = [
            lookup
            for lookup in self.lists.values()
            if lookup.use is not ListUse.REFERENCE and lookup.type.field
        ]
        self._rulings: dict[bytes, Ruling] = {}

    def evaluate(self, columns: BatchColumns) -> list[Ruling]:
        """Decide each transaction of a batch.

        Precedence: an allow list approves; else a block list blocks; else the rules decide, and a
        watch list asks for review besides.
        """
        count = len(columns)
        # A row for each rule, then for each list; a column for each transaction.
        hits = np.zeros((len(self.rules) + len(self._acting), count), np.bool_)
        self.rules.match(columns, hits[: len(self.rules)])
        for row, lookup in enumerate(self._acting, start=len(self.rules)):
            hits[row] = columns.on_list(lookup)
        rulings = [self._ruling(b"", hits[:, :0].any(axis=1))] * count
        # The bits of a column are the key of its ruling: equal hits share one.
        keys = np.packbits(hits, axis=0).T
        for column in np.flatnonzero(hits.any(axis=0)).tolist():
            rulings[column] = self._ruling(keys[column].tobytes(), hits[:, column])
        return rulings

    def _ruling(self, key: bytes, hits: NDArray[np.bool_]) -> Ruling:
        ruling = self._rulings.get(key)
        if ruling is None:
            if len(self._rulings) >= _MOST_RULINGS:
                self._rulings.clear()
            of_rules, of_lists = hits[: len(self.rules)], hits[len(self.rules) :]
            ruling = self._rulings[key] = _ruling_of(
                [rule for rule, hit in zip(self.rules, of_rules, strict=True) if hit],
                [lookup for lookup, hit in zip(self._acting, of_lists, strict=True) if hit],
            )
        return ruling


def _ruling_of(rules: Sequence[CompiledRule], lists: Sequence[Lookup]) -> Ruling:
    asked = [compiled.rule.outcome for compiled in rules]
    uses = {lookup.use for lookup in lists}
    if ListUse.ALLOW in uses:
        outcome = Outcome.APPROVE
    elif ListUse.BLOCK in uses:
        outcome = Outcome.BLOCK
    else:
        outcome = most_severe([*asked, *([Outcome.REVIEW] if ListUse.WATCH in uses else [])])
    named = [
        {"id": rule.id, "version": rule.version, "outcome": rule.outcome}
        for rule in (compiled.rule for compiled in rules)
    ]
    matched = {
        "outcome": outcome,
        "outcomes": asked or [outcome],
        "rules": named,
        "lists": [
            {"name": lookup.name, "use": lookup.use, "field": lookup.type.field} for lookup in lists
        ],
    }
    reasons = [
        {"code": f"LIST_{lookup.name.upper()}", "text": f"The {_THINGS[lookup.type]} is on the {lookup.use} list {lookup.name}.", "contribution": None}
        for lookup in lists
    ]  # fmt: skip
    reasons += [
        {"code": rule.id, "text": rule.reason, "contribution": None}
        for rule in (compiled.rule for compiled in rules)
        if rule.reason and rule.outcome is not Outcome.APPROVE
    ]
    return Ruling(
        outcome, shared_json(Shared.BY_RULING, matched), orjson.dumps(named), tuple(reasons)
    )


@dataclass(frozen=True)
class ShadowPolicy:
    """What decides in shadow: another model, other rules, or both.

    Attributes:
        model: The challenging model; the champion's when only rules are tried.
        rules: The challenging rules; the active ones when only a model is tried.
    """

    model: ModelRef
    rules: CompiledRules


@dataclass(frozen=True)
class Policy:
    """Rules and lists together with the models whose scores they read.

    Attributes:
        rules: The rules that decide.
        model: The model that scores.
        lists: All lists by name.
        challenge: What decides in shadow, None for nothing.
    """

    rules: CompiledRules
    model: ModelRef
    lists: Mapping[str, Lookup] = field(default_factory=dict)
    challenge: ShadowPolicy | None = None

    @cached_property
    def versions(self) -> dict[str, Any]:
        """What is pinned besides the models: the decision's `versions`."""
        lists = {name: lookup.version for name, lookup in sorted(self.lists.items())}
        return {"rules": self.rules.version, "lists": lists}

    @cached_property
    def version(self) -> str:
        """Content hash that pins rules, lists, thresholds and models, 16 hexadecimal digits."""
        return policy_version(
            self.versions,
            self.model,
            (self.challenge.model, self.challenge.rules.version) if self.challenge else None,
        )


def policy_version(
    versions: Mapping[str, Any], model: ModelRef, challenge: tuple[ModelRef, str] | None
) -> str:
    """Return the version of a policy from what its decisions name.

    Args:
        versions: The decision's `versions`.
        model: Its `model`.
        challenge: Model and rule-set version of its `shadow`, None without one.
    """
    pinned: dict[str, Any] = {"model": [model.name, model.version], **versions}
    if challenge is not None:
        shadow, rules = challenge
        pinned["challenge"] = [shadow.name, shadow.version, rules]
    return hashlib.sha256(orjson.dumps(pinned, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def most_severe(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that wins; approve without any.

    Example:
        >>> most_severe([Outcome.REVIEW, Outcome.BLOCK]).value
        'block'
    """
    return max(outcomes, key=lambda outcome: outcome.severity, default=Outcome.APPROVE)
