"""Their rules, outcomes, lists and exports as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from afd.exports import ExportError, plan, read_export
from afd.paging import page
from afd.predictions import Names, prediction
from afd.translation import (
    NotTranslated,
    expression_of,
    outcome_of,
    read_outcomes,
    rule_of,
)
from fraud.contracts.decision import Outcome
from fraud.contracts.lists import ListType
from fraud.contracts.rules import Matching
from tests.support.builders import a_decision
from tests.support.exports import write_export

NAMES = Names("", lambda _name, _version: "3.0", lambda _id, _version, outcome: [outcome])


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("approve", "approve"), ("allow-order", "approve"), ("low_risk", "approve"),
        ("verify_customer", "review"), ("high_risk_review", "review"), ("medium", "review"),
        ("block_user", "block"), ("fraud", "block"), ("high_risk", "block"), ("deny", "block"),
    ],
)  # fmt: skip
def test_the_name_of_an_outcome_says_what_it_means(name: str, outcome: str) -> None:
    assert outcome_of(name, {}) == outcome


@pytest.mark.parametrize("name", ["vip", "not_fraud", "approve_or_block", "outcome_1", "blocking"])
def test_a_name_that_does_not_say_it_clearly_must_be_given_a_meaning(name: str) -> None:
    """Guessing wrong would block customers."""
    with pytest.raises(NotTranslated, match="AFD_OUTCOMES"):
        outcome_of(name, {})
    assert outcome_of(name, {name: Outcome.APPROVE}) == "approve"


def test_outcomes_set_by_hand() -> None:
    assert read_outcomes("") == {}
    with pytest.raises(ValueError, match="name=outcome"):
        read_outcomes("vip=maybe")


def test_variables_in_expressions_are_our_fields_and_texts_stay() -> None:
    names = {"price": "transaction_amt", "ip": "ip_address"}
    text = """$price > 1 and $ip == "$ip \\" $price" or $priceless == 'a' and $ip in @ip"""
    expected = """$transaction_amt > 1 and $ip_address == "$ip \\" $price" or $priceless == 'a' and $ip_address in @ip"""
    assert expression_of(text, names) == expected


def made(expression: str, outcomes: list[str], rule_id: str = "r") -> Any:
    return rule_of(rule_id, expression, outcomes, "Why.", names={}, chosen={}, lists={"known"})


def test_a_rule_has_the_most_severe_of_its_outcomes() -> None:
    rule = made("$m_insightscore > 900 and $ip_address in @known", ["approve", "review"])
    assert (rule.id, rule.outcome, rule.reason) == ("r", "review", "Why.")


@pytest.mark.parametrize(
    ("expression", "outcomes", "rule_id", "expected"),
    [
        ("$nothing > 1", ["approve"], "r", "column 1"),
        ("$ip_address in @unknown", ["approve"], "r", "unknown"),
        ("$score > 1", ["vip"], "r", "outcome vip"),
        ("$score > 1", ["approve"], "_r", "begins with a letter"),
    ],
)
def test_what_is_no_rule_of_ours_is_said(
    expression: str, outcomes: list[str], rule_id: str, expected: str
) -> None:
    with pytest.raises(NotTranslated, match=expected):
        made(expression, outcomes, rule_id)


def test_a_prediction_shows_lists_rules_and_the_outcome_that_won() -> None:
    decision = a_decision(
        outcome="approve",
        lists=[{"name": "vips", "use": "allow", "field": "entity_id"}],
        rules=[{"id": "R1", "version": 1, "outcome": "block"}],
    )
    answer = prediction(decision, NAMES)
    assert answer["ruleResults"] == [
        {"ruleId": "list_vips", "outcomes": ["approve"]},
        {"ruleId": "R1", "outcomes": ["block"]},
    ]
    assert answer["modelScores"][0]["scores"] == {"champion_insightscore": 973.0}


def test_a_prediction_says_when_nothing_matched_and_when_scoring_failed() -> None:
    """Clients look at the first result."""
    nothing = prediction(a_decision(outcome="approve", rules=[]), NAMES)
    assert nothing["ruleResults"] == [{"ruleId": "no_rule_matched", "outcomes": ["approve"]}]
    failed = prediction(a_decision(outcome="review", rules=[], score=None), NAMES)
    assert failed["ruleResults"] == [{"ruleId": "scoring_failed", "outcomes": ["review"]}]
    assert failed["modelScores"] == []


def test_pages_miss_and_repeat_nothing() -> None:
    names = [f"n{number:03d}" for number in range(25)]
    seen: list[str] = []
    token = None
    for _ in range(3):
        some, token = page(names, token, 10)
        seen += some
    assert (seen, token) == (names, None)


def test_an_export_becomes_a_rule_set_and_lists(tmp_path: Path) -> None:
    """In the order of the version that decides, with the versions that it has."""
    found = plan(read_export(write_export(tmp_path)), mapping=None, chosen={})
    assert found.problems == []
    assert found.rules is not None
    assert found.rules.matching is Matching.FIRST
    assert found.numbers == {"dear": "4", "rest": "1"}
    assert [(rule.id, rule.when) for rule in found.rules.rules] == [
        ("dear", "$transaction_amt > 500 and $ip_address in @bad_ips"),
        ("rest", "$pay_insightscore >= 0"),
    ]
    assert found.lists == {"bad_ips": (ListType.IP, ["203.0.113.0/24", "198.51.100.9"])}


def test_one_file_may_hold_all_of_it(tmp_path: Path) -> None:
    parts = [
        orjson.loads(path.read_bytes()) for path in sorted(write_export(tmp_path).glob("*.json"))
    ]
    combined = tmp_path / "all.json"
    merged = [one for one in parts if "elements" not in one] + [
        {"elements": {"bad_ips": ["10.0.0.1"]}}
    ]
    combined.write_bytes(orjson.dumps(merged))
    found = plan(read_export(combined), mapping=None, chosen={})
    assert found.lists["bad_ips"][1] == ["10.0.0.1"]


def test_what_does_not_map_is_named(tmp_path: Path) -> None:
    write_export(tmp_path)
    (tmp_path / "detector-version.json").unlink()
    (tmp_path / "elements-bad_ips-2.json").write_bytes(orjson.dumps({"elements": ["no-address"]}))
    (tmp_path / "outcomes-1.json").write_bytes(orjson.dumps({"outcomes": [{"name": "vip"}]}))
    rule = {
        "detectorId": "payments",
        "ruleId": "odd",
        "ruleVersion": "1",
        "expression": "$basket > 3",
        "outcomes": ["approve"],
    }
    (tmp_path / "rules-2.json").write_bytes(orjson.dumps({"ruleDetails": [rule]}))
    found = plan(read_export(tmp_path), mapping=None, chosen={})
    problems = {one.name: one.problem for one in found.problems}
    assert problems.keys() == {"vip", "bad_ips", "payments", "odd 1"}
    assert "1 elements are left out" in problems["bad_ips"]
    assert "guessed" in problems["payments"]
    assert "basket" in problems["odd 1"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x", b"{", "x.json: expected JSON"),
        ("x", b"1", "expected what the AWS CLI prints"),
        ("x", b'{"stacks": []}', "expected an object with one of variables"),
        ("x", b'{"elements": ["a"]}', "elements-LIST.json"),
        ("x", b'{"ruleDetails": [{"ruleId": 1}]}', "x.json: 'ruleId': expected a string"),
        ("x", b'{"variables": {}}', "variables: expected a list"),
    ],
)
def test_a_file_that_is_no_export_is_named(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / f"{name}.json").write_bytes(content)
    with pytest.raises(ExportError, match=expected):
        read_export(tmp_path)


def test_rules_of_several_detectors_are_taken_one_by_one(tmp_path: Path) -> None:
    write_export(tmp_path)
    rule = {
        "detectorId": "logins",
        "ruleId": "a",
        "ruleVersion": "1",
        "expression": "$score > 1",
        "outcomes": ["approve"],
    }
    (tmp_path / "rules-2.json").write_bytes(orjson.dumps({"ruleDetails": [rule]}))
    export = read_export(tmp_path)
    with pytest.raises(ExportError, match="--detector, one of logins, payments"):
        plan(export, mapping=None, chosen={})
    chosen = plan(export, mapping=None, chosen={}, detector="logins")
    assert chosen.rules is not None
    assert [one.id for one in chosen.rules.rules] == ["a"]
