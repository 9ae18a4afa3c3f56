"""The editor with the audit log beside it: nothing is changed by it that is not on record first.

What a change is of is looked up first: a name that nothing has is somebody's text, and not recorded.

Rules and lists hold personal data: a rule may ask for somebody's e-mail address, and a list is of
them. What is recorded are versions, counts, and keyed hashes of values and texts, so that whoever
knows a value can find who put it where. The control topic keeps the changes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListEntry, ListState, ListType, ListUse
from fraud.contracts.rules import Rule, RuleSet
from fraud.policy.editor import PolicyEditor, check_list_name
from fraud.policy.state import PolicyState
from fraud.security.audit import Actor, AuditLog
from fraud.security.pseudonyms import Pseudonyms

MAX_HASHES: Final = 1_000
"""Most values of a change that are recorded one by one; of a longer one the digest says the rest."""

_TEXT: Final = "text"


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something.

    Attributes:
        actor: As the audit log names them.
        request_id: Of their request, None at the command line.
    """

    actor: Actor
    request_id: str | None = None

    @property
    def name(self) -> str:
        """As documents name them."""
        return self.actor.name


class AuditedEditor:
    """Changes what decides, on record; raises what `PolicyEditor` does, and `OSError` without a log.

    Args:
        editor: Changes it.
        policy_state: Gives the policy state as it is now.
        audit: The log.
        pseudonyms: Gives what hashes personal values; called when something is changed.
    """

    def __init__(
        self,
        editor: PolicyEditor,
        policy_state: Callable[[], PolicyState],
        audit: AuditLog,
        pseudonyms: Callable[[], Pseudonyms],
    ) -> None:
        self._editor = editor
        self._policy_state = policy_state
        self._audit = audit
        self._pseudonyms = pseudonyms

    def checked(self, rules: RuleSet) -> RuleSet:
        """See `PolicyEditor.checked`."""
        return self._editor.checked(rules)

    def draft(self, rules: RuleSet, by: By) -> RuleSet:
        """See `PolicyEditor.draft`."""
        active = self._policy_state().active_rules
        checked = self._editor.checked(rules)
        with self._audit.change(
            by.actor,
            "rules.drafted",
            f"rules/{checked.version}",
            before={"active": active.version},
            after=rules_on_record(self._pseudonyms(), checked, active),
            request_id=by.request_id,
        ):
            return self._editor.draft(rules, by.name)

    def activate(self, version: str, by: By, *, expected: str | None = None) -> RuleSet:
        """See `PolicyEditor.activate`."""
        self._editor.rule_version(version)
        with self._audit.change(
            by.actor,
            "rules.activated",
            f"rules/{version}",
            before={"version": self._policy_state().active_rules.version},
            after={"version": version},
            request_id=by.request_id,
        ):
            return self._editor.activate(version, by.name, expected=expected)

    def challenge_rules(self, version: str | None, by: By) -> None:
        """See `PolicyEditor.challenge_rules`."""
        if version is not None:
            self._editor.rule_version(version)
        before = self._policy_state().challenger_rules
        with self._audit.change(
            by.actor,
            "rules.challenged",
            "rules/challenger",
            before={"version": before and before.version},
            after={"version": version},
            request_id=by.request_id,
        ):
            self._editor.challenge_rules(version, by.name)

    @contextmanager
    def promoting(
        self, before: ModelRef | None, ref: ModelRef, by: By
    ) -> Iterator[Callable[[], None]]:
        """Let the block make a model the registry's champion, and tell services by what this gives."""
        with champion_on_record(self._audit, by, before, ref):
            yield lambda: self._editor.champion(ref, by.name)

    def challenge_model(self, ref: ModelRef | None, by: By) -> None:
        """See `PolicyEditor.challenge_model`."""
        with self._audit.change(
            by.actor,
            "model.challenged",
            "model/challenger",
            before={"model": _named(self._policy_state().challenger)},
            after={"model": _named(ref)},
            request_id=by.request_id,
        ):
            self._editor.challenge_model(ref, by.name)

    def make_list(
        self, name: str, kind: ListType, use: ListUse, by: By, *, description: str = ""
    ) -> None:
        """See `PolicyEditor.make_list`."""
        check_list_name(name)
        with self._audit.change(
            by.actor,
            "list.made",
            f"list/{name}",
            after={
                "type": kind.value,
                "use": use.value,
                "description": text_on_record(self._pseudonyms(), description),
            },
            request_id=by.request_id,
        ):
            self._editor.make_list(name, kind, use, by.name, description=description)

    def change_list(
        self,
        name: str,
        by: By,
        *,
        add: Sequence[ListEntry] = (),
        remove: Sequence[str] = (),
        replace: bool = False,
        use: ListUse | None = None,
        description: str | None = None,
    ) -> int:
        """See `PolicyEditor.change_list`."""
        before = self._editor.list_state(name)
        pseudonyms = self._pseudonyms()
        after: dict[str, Any] = {}
        if use is not None:
            after["use"] = use.value
        if description is not None:
            after["description"] = text_on_record(pseudonyms, description)
        entries = bool(add or remove or replace)
        if entries:
            after |= {
                "add": values_on_record(
                    pseudonyms, before.type.field or _TEXT, [one.value for one in add]
                ),
                "remove": values_on_record(pseudonyms, before.type.field or _TEXT, remove),
                "replace": replace,
            }
        with self._audit.change(
            by.actor,
            "list.entries_changed" if entries else "list.changed",
            f"list/{name}",
            before=list_on_record(pseudonyms, before),
            after=after,
            request_id=by.request_id,
        ) as change:
            added = self._editor.change_list(
                name,
                by.name,
                add=add,
                remove=remove,
                replace=replace,
                use=use,
                description=description,
            )
            changed = list_on_record(pseudonyms, self._editor.list_state(name))
            change.done(after | {"became": changed})
        return added

    def drop_list(self, name: str, by: By) -> None:
        """See `PolicyEditor.drop_list`."""
        with self._audit.change(
            by.actor,
            "list.dropped",
            f"list/{name}",
            before=list_on_record(self._pseudonyms(), self._editor.list_state(name)),
            request_id=by.request_id,
        ):
            self._editor.drop_list(name, by.name)


@contextmanager
def champion_on_record(
    audit: AuditLog, by: By, before: ModelRef | None, ref: ModelRef
) -> Iterator[None]:
    """Record that a model is to decide, then let the block see to it."""
    with audit.change(
        by.actor,
        "model.promoted",
        "model/champion",
        before={"model": _named(before)},
        after={"model": _named(ref)},
        request_id=by.request_id,
    ):
        yield


def text_on_record(pseudonyms: Pseudonyms, text: str) -> str:
    """Return a text that somebody wrote as the log has it; an empty one stays empty."""
    return text and pseudonyms.hash(_TEXT, text)


def values_on_record(pseudonyms: Pseudonyms, field: str, values: Sequence[str]) -> dict[str, Any]:
    """Return values as the log has them: how many, the hashes of the first, and one of all.

    Args:
        pseudonyms: Hashes them.
        field: The transaction's field that they are of.
        values: As they were sent.
    """
    hashes = [pseudonyms.hash(field, value) for value in values[:MAX_HASHES]]
    found: dict[str, Any] = {"values": len(values), "hashes": hashes}
    if len(values) > MAX_HASHES:
        # Of entity_id nothing is made the same: the digest is of the very values, in their order.
        found["digest"] = pseudonyms.hash("entity_id", "\0".join(values))
    return found


def list_on_record(pseudonyms: Pseudonyms, state: ListState) -> dict[str, Any]:
    """Return a list as the log has it: its version stands for its entries."""
    return {
        "type": state.type.value,
        "use": state.use.value,
        "description": text_on_record(pseudonyms, state.description),
        "version": state.version,
        "entries": len(state),
    }


def rules_on_record(pseudonyms: Pseudonyms, rules: RuleSet, active: RuleSet) -> dict[str, Any]:
    """Return a rule set as the log has it: its version, and which rules differ from those that decide."""
    before = {rule.id: rule for rule in active.rules}
    return {
        "version": rules.version,
        "matching": rules.matching.value,
        "description": text_on_record(pseudonyms, rules.description),
        "rules": len(rules.rules),
        "changed": [
            _rule_on_record(pseudonyms, rule) for rule in rules.rules if before.get(rule.id) != rule
        ],
        "gone": sorted(before.keys() - _ids(rules.rules)),
    }


def _rule_on_record(pseudonyms: Pseudonyms, rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "version": rule.version,
        "outcome": rule.outcome.value,
        "enabled": rule.enabled,
        "when": pseudonyms.hash(_TEXT, rule.when),
    }


def _ids(rules: Iterable[Rule]) -> set[str]:
    return {rule.id for rule in rules}


def _named(ref: ModelRef | None) -> str | None:
    return f"{ref.name}@{ref.version}" if ref is not None else None
