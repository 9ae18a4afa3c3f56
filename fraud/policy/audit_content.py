"""Content of audit records: versions and counts, with keyed hashes in place of values and texts.

Rules and lists may hold personal data, such as e-mail addresses. The hashes allow a search of the
log for a known value; the changes themselves are kept on the control topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListState
from fraud.contracts.rules import Rule, RuleSet
from fraud.security.pseudonyms import Pseudonyms

MAX_HASHES: Final = 1_000
"""Most values of a change that are hashed one by one; longer changes also get a digest of all."""

_TEXT: Final = "text"


def text_on_record(pseudonyms: Pseudonyms, text: str) -> str:
    """Return the hash of a free text for the audit log; an empty text stays empty."""
    return text and pseudonyms.hash(_TEXT, text)


def values_on_record(
    pseudonyms: Pseudonyms, field: str | None, values: Sequence[str]
) -> dict[str, Any]:
    """Return the record of values: their number, hashes of the first `MAX_HASHES`, and any digest.

    Args:
        pseudonyms: Hashes the values.
        field: Transaction field that the values belong to, None for texts.
        values: The values as they were sent.
    """
    field = field or _TEXT
    hashes = [pseudonyms.hash(field, value) for value in values[:MAX_HASHES]]
    found: dict[str, Any] = {"values": len(values), "hashes": hashes}
    if len(values) > MAX_HASHES:
        # entity_id is never normalised, so the digest covers the exact values in their order.
        found["digest"] = pseudonyms.hash("entity_id", "\0".join(values))
    return found


def list_on_record(pseudonyms: Pseudonyms, state: ListState) -> dict[str, Any]:
    """Return the record of a list; its version stands for its entries."""
    return {
        "type": state.type.value,
        "use": state.use.value,
        "description": text_on_record(pseudonyms, state.description),
        "version": state.version,
        "entries": len(state),
    }


def rules_on_record(pseudonyms: Pseudonyms, rules: RuleSet, active: RuleSet) -> dict[str, Any]:
    """Return the record of a rule set: its version, and how it differs from the active rules."""
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
    """Return the record of a model."""
    return {"model": None if ref is None else f"{ref.name}@{ref.version}"}
