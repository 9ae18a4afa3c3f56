"""Rule sets: the same rules are the same version, and an id stands for one rule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fraud.contracts.control import ControlDocument, read_rules
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.rules import RuleSet

RULE = {"id": "R001_high", "when": "$score >= 950", "outcome": "block"}


def a_set(*changes: dict[str, Any], **more: Any) -> RuleSet:
    return RuleSet.model_validate({"rules": [RULE | change for change in changes]} | more)


def test_the_version_is_that_of_the_content() -> None:
    assert a_set({}).version == a_set({"version": 1, "enabled": True}).version
    others = [{"when": "$score >= 951"}, {"outcome": "review"}, {"version": 2}, {"enabled": False}]
    versions = {a_set(change).version for change in [{}, *others]}
    assert len(versions) == 5
    assert a_set({}, matching="FIRST_MATCHED").version not in versions


@pytest.mark.parametrize(
    "changes",
    [
        [{}, {}],
        [{"id": "no spaces"}],
        [{"outcome": "deny"}],
        [{"version": 0}],
        [{"when": ""}],
        [{"unknown": "x"}],
    ],
)
def test_what_is_no_rule_set_is_refused(changes: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        a_set(*changes)


def test_a_document_holds_the_set_that_its_key_names() -> None:
    rules = a_set({})

    def document(version: str) -> ControlDocument:
        return ControlDocument(
            kind="rules",
            name="active",
            version=version,
            author="ada",
            time=datetime(2026, 3, 1, tzinfo=UTC),
            content=rules.model_dump(mode="json"),
        )

    assert read_rules(document(rules.version)) == rules
    with pytest.raises(InvalidMessage, match="the version that the key names"):
        read_rules(document("abc"))
