"""What the audit log has of a change: versions and counts, and of values and texts keyed hashes.

Rules and lists hold personal data: a rule may ask for somebody's e-mail address, and a list is of
them. Whoever knows a value can find who put it where; the control topic keeps the changes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListState
from fraud.contracts.rules import Rule, RuleSet
from fraud.security.pseudonyms import Pseudonyms

MAX_HASHES: Final = 1_000
"""Most values of a change that are recorded one by one; of a longer one the digest says the rest."""

_TEXT: Final = "text"


def text_on_record(pseudonyms: Pseudonyms, text: str) -> str:
    """Return a text that somebody wrote as the log has it; an empty one stays empty."""
    return text and pseudonyms.hash(_TEXT, text)


def values_on_record(
    pseudonyms: Pseudonyms, field: str | None, values: Sequence[str]
) -> dict[str, Any]:
    """Return values as the log has them: how many, the hashes of the first, and one of all.

    Args:
        pseudonyms: Hashes them.
        field: The transaction's field that they are of, None for texts.
        values: As they were sent.
    """
    field = field or _TEXT
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
        "gone": sorted(before.keys() - {rule.id for rule in rules.rules}),
    }


def _rule_on_record(pseudonyms: Pseudonyms, rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "version": rule.version,
        "outcome": rule.outcome.value,
        "enabled": rule.enabled,
        "when": pseudonyms.hash(_TEXT, rule.when),
    }


def model_on_record(ref: ModelRef | None) -> dict[str, Any]:
    """Return a model as the log has it."""
    return {"model": None if ref is None else f"{ref.name}@{ref.version}"}
