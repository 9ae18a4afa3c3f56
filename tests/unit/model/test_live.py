"""The engine in use: replaced as a whole, and only by what can decide."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from fraud.contracts.control import ControlDocument
from fraud.contracts.lists import ListState
from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import shown
from fraud.decision.lists import Lookup
from fraud.decision.policy import ShadowPolicy
from fraud.decision.rule_sets import default_rules
from fraud.decision.scale import ScoreScale
from fraud.kafka.control import Refused
from fraud.policy.state import PolicyState
from model.live import EngineInUse
from model.registry import BOOSTER_FILE, Registry
from tests.support.control_topic import ControlTopic


def fails(*_: Any) -> Any:
    raise ValueError("as a broken booster does")


@pytest.fixture
def registry(tmp_path: Path, booster: bytes, scale: ScoreScale) -> Registry:
    """Two models; the first is the champion."""
    registry = Registry(tmp_path)
    for number in (1, 2):
        registry.add("fraud", booster, scale, metrics={"number": number}, training={})
    registry.promote("fraud", versions(registry)[0])
    return registry


def versions(registry: Registry) -> list[str]:
    return [one.version for one in sorted(registry.models(), key=lambda one: one.metrics["number"])]


def a_document(kind: str, name: str, version: str, content: dict[str, Any]) -> ControlDocument:
    return ControlDocument(
        kind=kind,
        name=name,
        version=version,
        author="ada",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        content=content,
    )


def activating(rules: RuleSet, change: str, expected: str | None) -> ControlDocument:
    return holding(rules).model_copy(update={"change": change, "expected": expected})


def naming(version: str, name: str = "champion") -> ControlDocument:
    return a_document("model", name, version, {"name": "fraud", "version": version})


def holding(rules: RuleSet, name: str = "active") -> ControlDocument:
    return a_document("rules", name, rules.version, rules.model_dump(mode="json"))


def listing(number: int, *values: str, **more: Any) -> ControlDocument:
    content = {"type": "entity", "use": "block", "add": [{"value": value} for value in values]}
    return a_document("list", "bad", f"c{number}.1", content | more)


def followed(registry: Registry) -> tuple[EngineInUse, ControlTopic]:
    """Make an engine, and the topic that it follows."""
    in_use = EngineInUse(registry, service="test")
    return in_use, ControlTopic(in_use)


RULES = RuleSet.model_validate(
    {"rules": [{"id": "R1", "when": "$amount_base > 1", "outcome": "review"}]}
)


def test_it_starts_with_the_registrys_champion_and_switches(registry: Registry) -> None:
    """One who took the engine for a batch keeps it to the end of the batch."""
    first, second = versions(registry)
    in_use, topic = followed(registry)
    taken = in_use.current
    topic.publish(naming(second))
    assert taken.scorer.ref.version == first
    assert in_use.current.scorer.ref.version == second
    assert in_use.current.policy.version != taken.policy.version


def test_what_changes_nothing_makes_no_new_engine(registry: Registry) -> None:
    in_use, topic = followed(registry)
    before = in_use.current
    topic.publish(naming(versions(registry)[0]), holding(default_rules()))
    assert in_use.current is before


@pytest.mark.parametrize("cause", ["missing", "altered", "features"])
def test_a_model_that_cannot_decide_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """The one before goes on."""
    _, second = versions(registry)
    in_use, topic = followed(registry)
    before = in_use.current
    if cause == "missing":
        second = "abc123"
    elif cause == "altered":
        path = registry.folder / "fraud" / second / BOOSTER_FILE
        path.write_bytes(path.read_bytes() + b" ")
    else:
        monkeypatch.setattr("model.registry.FEATURES_HASH", "another program")
    with pytest.raises(Refused, match=f"model fraud@{shown(second)}"):
        in_use.takes["model", "champion"](naming(second))
    topic.publish(naming(second))
    assert topic.follower.refused == 1
    assert in_use.current is before


@pytest.mark.parametrize("what", ["contributions", "predict"])
def test_a_model_that_fails_when_it_decides_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It can be read, and no more: what follows the topic must not end by it."""
    _, second = versions(registry)
    in_use, topic = followed(registry)
    before = in_use.current
    load = registry.load

    def broken(name: str, version: str) -> Any:
        scorer = load(name, version)
        monkeypatch.setattr(scorer, what, fails)
        return scorer

    monkeypatch.setattr(registry, "load", broken)
    for part in ("champion", "challenger"):
        with pytest.raises(Refused, match=f"model fraud@{shown(second)} cannot decide: ValueError"):
            in_use.takes["model", part](naming(second, part))
        topic.publish(naming(second, part))
        assert in_use.current is before
    assert topic.follower.refused == 2


def test_a_start_makes_one_lookup_of_a_list_whatever_its_changes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a change of one list leaves the others'."""
    made: list[str] = []

    class Counted(Lookup):
        def __init__(self, state: ListState[int], before: Lookup | None = None) -> None:
            made.append(state.name)
            super().__init__(state, before)

    monkeypatch.setattr("fraud.decision.lists.Lookup", Counted)
    in_use, topic = followed(registry)
    other = {"type": "ip", "use": "block", "add": [{"value": "192.0.2.0/24"}]}
    additions = [listing(number, f"cust-{number}") for number in range(2_000)]
    topic.publish(a_document("list", "worse", "c0.1", other), *additions)
    assert sorted(made) == ["bad", "worse"]
    topic.publish(listing(2_000, "another"))
    assert sorted(made) == ["bad", "bad", "worse"]
    lists = in_use.current.policy.lists
    assert lists["bad"].members(["cust-7", "another", "x"], 0).tolist() == [True, True, False]
    assert lists["worse"].members(["192.0.2.1"], 0).all()


def test_rules_and_lists_are_in_force_together(registry: Registry) -> None:
    """Not before all that came is taken."""
    in_use, _ = followed(registry)
    before = in_use.current
    policy_state = PolicyState()
    policy_state.apply(listing(1, "a", "b"))
    in_use.takes["rules", "active"](holding(RULES))
    assert in_use.current is before
    in_use.settle(policy_state)
    policy = in_use.current.policy
    assert policy.rules.version == RULES.version
    assert policy.lists["bad"].members(["a", "c"], 0).tolist() == [True, False]
    assert policy.versions["lists"] == {"bad": policy.lists["bad"].version}


def test_rules_that_another_change_came_before_are_passed_over(registry: Registry) -> None:
    """By who starts as by who ran all the time."""
    other = RuleSet.model_validate(
        {"rules": [{"id": "R2", "when": "$score > 1", "outcome": "review"}]}
    )
    shipped = default_rules().version
    documents = [activating(RULES, "c1", shipped), activating(other, "c2", shipped)]
    in_use, topic = followed(registry)
    with structlog.testing.capture_logs() as logs:
        topic.publish(*documents)
    assert f"expected {shipped} to be active" in "".join(
        one["detail"] for one in logs if one["event"] == "control.document_void"
    )
    assert topic.follower.refused == 0
    assert in_use.current.policy.rules.version == RULES.version
    running, topic = followed(registry)
    for document in documents:
        topic.publish(document)
    assert running.current.policy.version == in_use.current.policy.version
    topic.replace()
    assert running.current.policy.rules.version == RULES.version
    in_use = running
    topic.publish(documents[1])
    assert in_use.current.policy.rules.version == other.version


def test_rules_that_are_none_are_refused(registry: Registry) -> None:
    """As when another version of the program wrote them."""
    in_use, topic = followed(registry)
    before = in_use.current
    broken = RuleSet.model_validate(
        {"rules": [{"id": "R1", "when": "$no_such_feature > 1", "outcome": "review"}]}
    )
    with structlog.testing.capture_logs() as logs:
        topic.publish(holding(broken))
    (refused,) = (one for one in logs if one["event"] == "control.document_refused")
    assert "rule R1, when, line 1, column 1: unknown variable" in refused["detail"]
    assert topic.follower.refused == 1
    assert in_use.current is before


def test_a_challenger_comes_and_goes(registry: Registry) -> None:
    """A model, rules or both; what decides stays the same."""
    first, second = versions(registry)
    in_use, topic = followed(registry)
    alone = in_use.current.policy.version
    topic.publish(naming(second, "challenger"))
    policy = in_use.current.policy
    assert policy.challenge == ShadowPolicy(policy.challenge.model, policy.rules)  # type: ignore[union-attr]
    assert policy.challenge.model.version == second  # type: ignore[union-attr]
    topic.publish(holding(RULES, "challenger"))
    assert in_use.current.policy.challenge.rules.version == RULES.version  # type: ignore[union-attr]
    topic.publish(a_document("model", "challenger", "none", {}))
    assert in_use.current.policy.challenge.model.version == first  # type: ignore[union-attr]
    topic.publish(a_document("rules", "challenger", "none", {}))
    assert in_use.current.policy.challenge is None
    assert in_use.current.policy.version == alone


def test_a_list_follows_its_changes_to_its_end(registry: Registry) -> None:
    in_use, topic = followed(registry)
    alone = in_use.current.policy.version
    topic.publish(listing(1, "a"))
    topic.publish(listing(2, "b", remove=["a"]))
    assert in_use.current.policy.lists["bad"].members(["a", "b"], 0).tolist() == [False, True]
    with structlog.testing.capture_logs() as logs:
        topic.publish(listing(3, "10.0.0.1", type="ip"))
    assert any(one.get("detail", "").startswith("type: expected entity") for one in logs)
    topic.publish(listing(4, dropped=True))
    assert in_use.current.policy.version == alone


def test_a_topic_made_anew_begins_the_lists_anew(registry: Registry) -> None:
    """What was in force stays so until the new topic says something."""
    in_use, topic = followed(registry)
    topic.publish(listing(1, "a"))
    before = in_use.current
    topic.replace()
    assert in_use.current is before
    topic.publish(listing(2, "b"))
    assert in_use.current.policy.lists["bad"].members(["a", "b"], 0).tolist() == [False, True]
