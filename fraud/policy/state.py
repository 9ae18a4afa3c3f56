"""The policy state: rules, lists and models, folded from control documents without any I/O."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
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
from fraud.contracts.versions import found_version, same_version
from fraud.decision.rule_sets import CompiledRules, InvalidRules, default_rules, numbered

KINDS: Final = (MODEL, RULES, LIST)
"""Kinds of control documents that the policy state applies."""


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A version of the rule set.

    Attributes:
        rules: The rule set.
        status: Current status: draft, active or inactive.
        author: Author of the first document with this version.
        created_ms: Time of that document, UTC epoch milliseconds; 0 for the shipped rules.
        activated_ms: Time of the last activation, UTC epoch milliseconds; 0 for the shipped rules,
            None if it was never active.
    """

    rules: RuleSet
    status: RuleStatus
    author: str
    created_ms: int
    activated_ms: int | None


class PolicyState:
    """Current and earlier policy, folded from the documents of the control topic in topic order.

    As in the workers of the Flink job, rule sets that do not compile are refused, and activations
    that a concurrent change overtook are skipped. Whether a model can be loaded is not checked
    here. `EngineInUse` (`model/live.py`) builds the `Policy` that decides a batch from this state.
    """

    def __init__(self) -> None:
        shipped = RuleVersion(default_rules(), RuleStatus.ACTIVE, "fraudstream", 0, 0)
        self._versions = {shipped.rules.version: shipped}
        self._active = shipped.rules.version
        self._challenger_rules: str | None = None
        self._models: dict[str, ModelRef] = {}
        self._lists = ListFold()
        self.activations = Activations()
        """Knows the void activations of rules, and the last one that is not void."""
        self._rules_read: set[str] = set()

    @classmethod
    def folded(cls, documents: Iterable[ControlDocument]) -> PolicyState:
        """Return the state after documents of the topic, given in its order; invalid ones are skipped."""
        policy_state = cls()
        for document in documents:
            policy_state.apply_valid(document)
        return policy_state

    def apply_valid(self, document: ControlDocument) -> None:
        """Apply a document, or skip an invalid one: followers refuse it, so it never was in force."""
        with suppress(InvalidMessage):
            self.apply(document)

    def apply(self, document: ControlDocument) -> bool:
        """Apply the next document of the topic.

        Returns:
            False if the document was skipped: it is void, or its kind is not in `KINDS`.

        Raises:
            InvalidMessage: The document is invalid; rules, lists and models stay as they were.
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
        for known_version in self._versions:
            if known_version != rules.version and same_version(known_version, document.version):
                raise InvalidMessage(
                    ErrorCode.OUT_OF_RANGE,
                    f"content: version {document.version} is known with other content",
                    "content",
                )
        if document.name != DRAFT:
            self._compile(rules)
        # A version keeps the author and time of its first document.
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
        # Versions of the rule set share most rules: only expressions not seen before are compiled.
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
        """The challenger's rule set, which decides in shadow; None without one."""
        return (
            None if self._challenger_rules is None else self._versions[self._challenger_rules].rules
        )

    def rule_versions(self) -> list[RuleVersion]:
        """Return all versions of the rule set, newest first."""
        return sorted(self._versions.values(), key=lambda one: one.created_ms, reverse=True)

    def meanings(self, *, drafts: bool = True) -> list[RuleSet]:
        """Return the rule sets that define the versions of rules, in order of precedence.

        Two concurrent drafts may have given different rules the same version. Then the first set in
        this order counts: sets that were active before drafts, and older before newer ones.

        Args:
            drafts: Whether to include sets that were never active.
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
        """Check that a rule set can be activated, and return it with a version for each rule.

        Args:
            rules: The rule set; versions of rules may be left out.
            drafts: Whether drafts define versions of rules, see `meanings`.

        Raises:
            InvalidRules: The rule set cannot be activated.
        """
        return CompiledRules(
            numbered(rules, self.meanings(drafts=drafts)), self.list_versions()
        ).set

    def rule_version(self, version: str) -> RuleVersion | None:
        """Return the version of the rule set that a version or its first digits name.

        None means that it is unknown.
        """
        found = found_version(version, self._versions)
        return None if found is None else self._versions[found]

    @property
    def champion(self) -> ModelRef | None:
        """The model that decides; None means the registry's champion, until one is published."""
        return self._models.get(CHAMPION)

    @property
    def challenger(self) -> ModelRef | None:
        """The model that scores in shadow; None without one."""
        return self._models.get(CHALLENGER)

    def lists(self) -> dict[str, ListState]:
        """Return all lists by name, with their entries."""
        return self._lists.states()

    def list_state(self, name: str) -> ListState | None:
        """Return one list; None if it is unknown."""
        return self._lists.state(name)

    def list_versions(self) -> dict[str, str]:
        """Return the versions of all lists by name."""
        return self._lists.versions()

    def earlier_list_versions(self) -> dict[str, str]:
        """Return the versions of all lists in the form that they had before, of 12 digits."""
        return self._lists.earlier_versions()
