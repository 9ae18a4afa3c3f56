"""Rule sets as files, and the shipped one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fraud.contracts.control import ControlDocument, read_rules
from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import version_of
from fraud.decision.rule_files import RuleFileError, read_rule_file, write_rule_file
from fraud.decision.rule_sets import CompiledRules, InvalidRules, default_rules, shipped
from fraud.features.vector import FEATURE_NAMES

RULE = """[[rules]]
id = "R1"
when = "$score > 900"
outcome = "review"
"""


def test_the_shipped_rules_can_decide_anywhere() -> None:
    """They ask for features and the score alone, so that a file can be decided without a broker."""
    asked = {name for one in shipped() for name in one.expression.variables}
    assert asked <= {*FEATURE_NAMES, "score"}
    assert "score" in asked
    assert not shipped().lists


def test_the_shipped_rules_say_why() -> None:
    """All but those on the score, whose reasons are the features'."""
    for rule in default_rules().rules:
        assert rule.description.endswith(".")
        assert bool(rule.reason) is (not rule.when.startswith("$score"))
    assert len({rule.reason for rule in default_rules().rules if rule.reason}) == 8


@pytest.mark.parametrize("field", ["when", "description", "reason"])
@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_line_breaks_of_any_kind_are_kept_by_files(field: str, newline: str) -> None:
    """What a file holds is the set that was written, of the same version."""
    rule = {"id": "R1", "when": "$score > 1", "outcome": "review"}
    text = f"$score > 1{newline}and $score > 2" if field == "when" else f"a{newline}b"
    written = RuleSet.model_validate({"rules": [rule | {field: text}]})
    read = read_rule_file(write_rule_file(written))
    assert read == written
    assert read.version == written.version


def test_a_set_kept_with_other_line_breaks_is_read() -> None:
    """As earlier programs wrote them; the key names what they wrote."""
    rule = {"id": "R1", "when": "$score > 1\r\nand $score > 2", "outcome": "review"}
    content = RuleSet.model_validate({"rules": [rule]}).model_dump(mode="json")
    content["rules"][0]["when"] = rule["when"]
    document = ControlDocument(
        kind="rules",
        name="active",
        version=version_of(content),
        author="ada",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        content=content,
    )
    assert read_rules(document).rules[0].when == "$score > 1\nand $score > 2"


def test_what_is_written_is_read() -> None:
    assert read_rule_file(write_rule_file(default_rules())) == default_rules()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[rules]", "expected TOML"),
        (RULE + 'because = "x"', "rule R1.because"),
        (RULE.replace("review", "deny"), "rule R1.outcome"),
        (RULE + RULE, "rule id R1: expected each id once"),
        (RULE.replace('id = "R1"', "id = 1"), "rules.0.id"),
        ('matching = "SOME"\nrules = []', "matching"),
        ("rule = []", "rule"),
    ],
)
def test_a_file_that_is_no_rule_set_is_refused_by_place(text: str, told: str) -> None:
    with pytest.raises(RuleFileError, match=told):
        read_rule_file(text)


def test_a_snoozed_rule_is_checked_and_not_asked() -> None:
    snoozed = RULE + "enabled = false\n"
    assert len(CompiledRules(read_rule_file(snoozed))) == 0
    with pytest.raises(InvalidRules, match="rule R1, when, line 1"):
        CompiledRules(read_rule_file(snoozed.replace("$score", "$scor")))


def test_every_problem_is_told_at_once() -> None:
    """One of each rule, with its place."""
    broken = RuleSet.model_validate(
        {
            "rules": [
                {"id": f"R{at}", "when": when, "outcome": "review"}
                for at, when in enumerate(("$score >", "$score > 1", "$ip_address in @none"))
            ]
        }
    )
    with pytest.raises(InvalidRules) as told:
        CompiledRules(broken, lists=["seen"])
    assert [(one.rule, one.field, one.line) for one in told.value.problems] == [
        ("R0", "when", 1),
        ("R2", "when", 1),
    ]
