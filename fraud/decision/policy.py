"""The policy: rules, lists and models, which together turn scores into outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef, Outcome, Shared
from fraud.contracts.lists import ListType, ListUse
from fraud.contracts.versions import shown, version_of
from fraud.decision.columns import BatchColumns
from fraud.decision.encoding import shared_json
from fraud.decision.lists import Lookup
from fraud.decision.rule_sets import CompiledRule, CompiledRules

_MOST_RULINGS: Final = 10_000
"""Maximum number of cached rulings, one per combination of hits; a few dozen in practice."""

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
    """Result of one combination of matching rules and lists.

    Attributes:
        outcome: The outcome that wins.
        json: Decision fields that the combination determines, as the inside of a JSON object.
        rules: Field `rules` of the decision, as JSON.
        reasons: Reasons of the rules and lists, in the form of the contract's `Reason`.
    """

    outcome: Outcome
    json: bytes
    rules: bytes
    reasons: tuple[dict[str, Any], ...]


class RuleEvaluator:
    """Evaluates rules and lists on batches.

    Args:
        rules: The rule set.
        lists: All lists by name; rules may use each, and some have an effect of their own.
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
        """Return the ruling of each transaction of a batch.

        Precedence: an allow list approves; otherwise a block list blocks; otherwise the most severe
        outcome of the matching rules wins, with review added by a watch list.
        """
        count = len(columns)
        # One row per rule, then one per list; one column per transaction.
        hits = np.zeros((len(self.rules) + len(self._acting), count), np.bool_)
        self.rules.match(columns, hits[: len(self.rules)])
        for row, lookup in enumerate(self._acting, start=len(self.rules)):
            hits[row] = columns.on_list(lookup)
        # Most transactions match nothing and share the ruling of no hits.
        rulings = [self._ruling(b"", hits[:, :0].any(axis=1))] * count
        # The packed bits of a column are the key of its ruling, which equal hits share.
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
    """Policy of the challenger: another model, other rules, or both.

    Attributes:
        model: Model of the challenger; the champion if only rules are tried.
        rules: Rules of the challenger; the active ones if only a model is tried.
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
        challenge: Policy that decides in shadow; None without a challenger.
    """

    rules: CompiledRules
    model: ModelRef
    lists: Mapping[str, Lookup] = field(default_factory=dict)
    challenge: ShadowPolicy | None = None

    @cached_property
    def versions(self) -> dict[str, Any]:
        """Versions of rules and lists."""
        lists = {name: lookup.version for name, lookup in sorted(self.lists.items())}
        return {"rules": self.rules.version, "lists": lists}

    @cached_property
    def version(self) -> str:
        """Content hash that pins rules, lists, thresholds and models."""
        return policy_version(
            self.versions,
            self.model,
            (self.challenge.model, self.challenge.rules.version) if self.challenge else None,
        )

    @cached_property
    def named(self) -> dict[str, Any]:
        """Fields `model`, `versions` and `policy_version` of the decision."""
        lists = {name: shown(version) for name, version in self.versions["lists"].items()}
        return {
            "model": shown_model(self.model),
            "versions": {"rules": shown(self.rules.version), "lists": lists},
            "policy_version": shown(self.version),
        }


def shown_model(model: ModelRef) -> dict[str, str]:
    """Return a model as decisions name it."""
    return {"name": model.name, "version": shown(model.version)}


def policy_version(
    versions: Mapping[str, Any], model: ModelRef, challenge: tuple[ModelRef, str] | None
) -> str:
    """Compute the version of a policy.

    Args:
        versions: Versions of rules and lists, as `Policy.versions`.
        model: The model that scores.
        challenge: Model and rules version of the challenger; None without one.
    """
    pinned: dict[str, Any] = {"model": [model.name, model.version], **versions}
    if challenge is not None:
        shadow, rules = challenge
        pinned["challenge"] = [shadow.name, shadow.version, rules]
    return version_of(pinned)


def most_severe(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the most severe outcome; approve if there are no outcomes.

    Example:
        >>> most_severe([Outcome.REVIEW, Outcome.BLOCK]).value
        'block'
    """
    return max(outcomes, key=lambda outcome: outcome.severity, default=Outcome.APPROVE)
