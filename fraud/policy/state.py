"""The policy state: what the control topic says of rules, lists and models, with its history. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from fraud.contracts.control import (
    ACTIVE,
    CHALLENGER,
    CHAMPION,
    DRAFT,
    LIST,
    MODEL,
    NONE,
    RULES,
    Activations,
    ControlDocument,
    read_list_change,
    read_model,
    read_rules,
)
from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.lists import ListFold, ListState
from fraud.contracts.rules import RuleSet, RuleStatus
from fraud.decision.rule_sets import CompiledRules, InvalidRules, default_rules, numbered

KINDS: Final = (MODEL, RULES, LIST)
"""Kinds of documents that the policy state reads."""


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A version of the rule set.

    Attributes:
        rules: Its rules.
        status: What it is now.
        author: Who wrote it first.
        created_ms: When, UTC epoch milliseconds; 0 for the shipped one.
        activated_ms: When it was activated last, None if never.
    """

    rules: RuleSet
    status: RuleStatus
    author: str
    created_ms: int
    activated_ms: int | None


class PolicyState:
    """What is in force and what was, folded from the control topic in its order.

    `EngineInUse` (`model/live.py`) makes of it the `Policy` that decides a batch.

    It reads as the job's workers do: rules that cannot decide are refused, and those that another
    change came before are passed over. One thing is not known here: whether a model can be loaded.
    """

    def __init__(self) -> None:
        shipped = RuleVersion(default_rules(), RuleStatus.ACTIVE, "fraudstream", 0, 0)
        self._versions = {shipped.rules.version: shipped}
        self._active = shipped.rules.version
        self._challenger_rules: str | None = None
        self._models: dict[str, ModelRef] = {}
        self._lists = ListFold()
        self.activations = Activations()
        """Which rule documents are void, and which was the last that is not."""
        self._rules_read: set[str] = set()

    def apply(self, document: ControlDocument) -> bool:
        """Take the next document into account.

        Returns:
            False when it is passed over: it is of another kind, or void.

        Raises:
            InvalidMessage: It is broken; then nothing changes.
        """
        if document.kind not in KINDS:
            return False
        if document.kind == LIST:
            change_id, change = read_list_change(document)
            self._lists.take(document.name, change_id, change, document.author, document.time_ms)
        elif document.kind == RULES:
            self.activations.take(document)
            if self.activations.void(document):
                return False
            self._apply_rules(document)
        elif document.version == NONE and document.name == CHALLENGER:
            self._models.pop(CHALLENGER, None)
        else:
            self._models[document.name] = read_model(document)
        return True

    def _apply_rules(self, document: ControlDocument) -> None:
        if document.name == CHALLENGER and document.version == NONE:
            self._challenger_rules = None
            return
        if document.name not in (ACTIVE, CHALLENGER, DRAFT):
            return
        rules = read_rules(document)
        if document.name != DRAFT:
            self._compile(rules)
        known = self._versions.get(rules.version) or RuleVersion(
            rules, RuleStatus.DRAFT, document.author, document.time_ms, None
        )
        self._versions[rules.version] = known
        if document.name == CHALLENGER:
            self._challenger_rules = rules.version
        elif document.name == ACTIVE:
            before = self._versions[self._active]
            self._versions[self._active] = replace(before, status=RuleStatus.INACTIVE)
            self._active = rules.version
            self._versions[rules.version] = replace(
                known, status=RuleStatus.ACTIVE, activated_ms=document.time_ms
            )

    def _compile(self, rules: RuleSet) -> None:
        # Sets have most of their rules in common with those before.
        new = tuple(rule for rule in rules.rules if rule.when not in self._rules_read)
        try:
            CompiledRules(RuleSet(rules=new))
        except InvalidRules as problem:
            raise InvalidMessage(ErrorCode.OUT_OF_RANGE, f"content: {problem}", "content") from None
        self._rules_read.update(rule.when for rule in new)

    @property
    def active_rules(self) -> RuleSet:
        """The rule set that decides."""
        return self._versions[self._active].rules

    @property
    def challenger_rules(self) -> RuleSet | None:
        """The rule set that decides in shadow."""
        return (
            None if self._challenger_rules is None else self._versions[self._challenger_rules].rules
        )

    def rule_versions(self) -> list[RuleVersion]:
        """Return all versions of the rule set, the newest first."""
        return sorted(self._versions.values(), key=lambda one: one.created_ms, reverse=True)

    def meanings(self, *, drafts: bool = True) -> list[RuleSet]:
        """Return the rule sets that say what the version of a rule stands for.

        Those that decided come first, then the oldest: of two drafts written at once both may have
        given a changed rule the same version.

        Args:
            drafts: Whether those that never decided count.
        """
        return [
            one.rules
            for one in sorted(
                self._versions.values(),
                key=lambda one: (one.status is RuleStatus.DRAFT, one.created_ms),
            )
            if drafts or one.status is not RuleStatus.DRAFT
        ]

    def checked(self, rules: RuleSet, *, drafts: bool = True) -> RuleSet:
        """Check a rule set as if it were to decide, and give each rule its version.

        Args:
            rules: The set.
            drafts: Whether those that never decided say what a rule's version stands for.

        Raises:
            InvalidRules: It must not decide.
        """
        return CompiledRules(
            numbered(rules, self.meanings(drafts=drafts)), self.list_versions()
        ).set

    def rule_version(self, version: str) -> RuleVersion | None:
        """Return one version, None when there is none."""
        return self._versions.get(version)

    @property
    def champion(self) -> ModelRef | None:
        """The model that decides, None when nobody switched it: then it is the registry's."""
        return self._models.get(CHAMPION)

    @property
    def challenger(self) -> ModelRef | None:
        """The model that scores in shadow."""
        return self._models.get(CHALLENGER)

    def lists(self) -> dict[str, ListState]:
        """Return all lists by name, with their entries."""
        return self._lists.states()

    def list_versions(self) -> dict[str, str]:
        """Return the versions of all lists by name."""
        return self._lists.versions()
