"""Reads and writes rule sets as TOML files, which can be reviewed and kept in git."""

from __future__ import annotations

import difflib
import tomllib
from typing import Any

import tomli_w
from pydantic import ValidationError

from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import shown


class RuleFileError(ValueError):
    """Raised for an invalid rule file; the message names the line or field, and what was expected."""


def read_rule_file(text: str) -> RuleSet:
    r"""Parse a rule set from TOML: `matching`, `description`, and a `[[rules]]` table per rule.

    Raises:
        RuleFileError: The text is not a valid rule set.

    Example:
        >>> rules = read_rule_file("[[rules]]\nid='R1'\nwhen='$score > 900'\noutcome='review'")
        >>> rules.rules[0].outcome.value
        'review'
    """
    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleFileError(f"expected TOML: {error}") from None
    return rule_set_of(loaded)


def rule_set_of(loaded: dict[str, Any]) -> RuleSet:
    """Check a rule set that was parsed from TOML or JSON.

    Raises:
        RuleFileError: The data is not a valid rule set.
    """
    try:
        return RuleSet.model_validate(loaded)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise RuleFileError(
            "; ".join(f"{_place(loaded, found['loc'])}: {found['msg']}" for found in problems[:10])
        ) from None


def _place(loaded: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """Return the name of a place in the file, with the id of the rule if it has one."""
    parts = [str(part) for part in location]
    if len(location) > 1 and location[0] == "rules":
        rule = loaded["rules"][location[1]]
        if isinstance(rule, dict) and isinstance(rule.get("id"), str):
            return ".".join([f"rule {rule['id']}", *parts[2:]])
    return ".".join(parts) or "the file"


def write_rule_file(rules: RuleSet) -> str:
    """Format a rule set as TOML that `read_rule_file` can parse.

    Example:
        >>> write_rule_file(RuleSet(rules=())) == write_rule_file(read_rule_file("rules = []"))
        True
    """
    content = rules.model_dump(mode="json", exclude_defaults=True, exclude={"rules"})
    written = [
        # The version is always written, although 1 is the default: a file must identify its rules.
        rule.model_dump(mode="json", exclude_defaults=True) | {"version": rule.version}
        for rule in rules.rules
    ]
    order = ("id", "version", "when", "outcome", "description", "reason", "enabled")
    content["matching"] = rules.matching.value
    content["rules"] = [{name: rule[name] for name in order if name in rule} for rule in written]
    return tomli_w.dumps(content, multiline_strings=True)


def rule_differences(before: RuleSet, after: RuleSet) -> list[str]:
    """Return the lines of a unified diff of two rule sets as TOML; empty if they are equal."""
    if before.version == after.version:
        return []
    old, new = (write_rule_file(rules).splitlines() for rules in (before, after))
    return list(
        difflib.unified_diff(
            old, new, shown(before.version), shown(after.version), lineterm="", n=2
        )
    )
