"""Decisions made while rules, lists and models are switched come out the same, and others do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fraud.backtest.recheck import Recheck, Rechecked
from fraud.contracts.control import ControlDocument
from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.versions import shown
from fraud.decision.policy import policy_version
from fraud.decision.scorer import Scorer
from fraud.policy.editor import PolicyEditor
from fraud.policy.state import PolicyState
from tests.support.builders import START_MS
from tests.support.editing import promote
from tests.support.past import SpreadScorer, World, decided, transactions, two_rules

MODELS = {version: SpreadScorer(version, factor) for version, factor in (("1", 0.37), ("2", 0.21))}


class FakeRegistry:
    """Two models, of which the first is the champion."""

    folder = Path()

    def champion(self) -> Scorer:
        return MODELS["1"]

    def load(self, name: str, version: str) -> Scorer:
        return MODELS[version]


def activate(when: str) -> Callable[[PolicyEditor], None]:
    return lambda editor: editor.activate(editor.draft(two_rules(when, "bad")).version) and None


CHANGES: dict[int, Callable[[PolicyEditor], Any]] = {
    2: lambda editor: editor.make_list("bad", ListType.IP, ListUse.REFERENCE),
    4: activate("$score > 700"),
    6: lambda editor: editor.change_list("bad", add=[ListEntry(value="203.0.113.0/26")]),
    8: lambda editor: editor.make_list("vip", ListType.ENTITY, ListUse.ALLOW),
    9: lambda editor: editor.change_list(
        "vip",
        add=[
            ListEntry(
                value=f"cust-{n:03d}",
                expires_at=datetime.fromtimestamp(START_MS / 1000 + 20, UTC),
            )
            for n in range(12)
        ],
    ),
    11: lambda editor: editor.challenge_model(ModelRef(name="spread", version="2")),
    13: lambda editor: editor.challenge_rules(editor.draft(two_rules("$probability < 0.2", "bad")).version),
    15: lambda editor: promote(editor, ModelRef(name="spread", version="2")),
    17: lambda editor: editor.change_list("bad", remove=["203.0.113.0/26"]),
    19: lambda editor: editor.challenge_model(None),
    21: lambda editor: editor.drop_list("vip"),
    23: lambda editor: editor.challenge_rules(None),
    25: activate("$card_bin == '411111'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def switched() -> tuple[list[ControlDocument], list[bytes]]:
    world = World(FakeRegistry())
    values = list(decided(transactions(480), world.engine(CHANGES)))
    return world.topic.documents, values


def scorers(ref: ModelRef) -> Scorer | None:
    return MODELS.get(ref.version)


def checked(
    documents: list[ControlDocument], values: list[bytes], models: Any = scorers
) -> Rechecked:
    again = Recheck(documents, models)
    for first in range(0, len(values), 37):
        again.add(values[first : first + 37])  # type: ignore[arg-type]
    return again.result()


def test_what_was_decided_while_all_is_switched_comes_out_the_same(
    switched: tuple[list[ControlDocument], list[bytes]],
) -> None:
    """Every version of rules, lists, champion and challenger is found again."""
    documents, values = switched
    result = checked(documents, values)
    assert result.examples == []
    assert result.holds
    assert (result.decisions, result.computed) == (480, 480)
    # Without the challenging model the rules challenge with the champion, which is the same model.
    assert len(result.policies) == len(CHANGES)
    outcomes = {orjson.loads(value)["fd"]["outcome"] for value in values}
    assert outcomes == {"approve", "review", "block"}
    assert sum(orjson.loads(value)["fd"]["shadow"] is not None for value in values) == 12 * 16


def in_earlier_form(documents: list[ControlDocument], value: bytes) -> bytes:
    """Name versions as decisions did while these had 12 digits."""
    state, lists = PolicyState(), dict[str, str]()
    for document in documents:
        state.apply_valid(document)
        earlier = state.earlier_list_versions()
        lists |= {shown(full): earlier[name] for name, full in state.list_versions().items()}

    def change(fd: dict[str, Any]) -> None:
        told = fd["versions"]
        told["rules"] = told["rules"][:12]
        told["lists"] = {name: lists[version] for name, version in told["lists"].items()}
        challenge = None
        if fd["shadow"]:
            fd["shadow"]["rules_version"] = fd["shadow"]["rules_version"][:12]
            challenge = ModelRef(**fd["shadow"]["model"]), fd["shadow"]["rules_version"]
        fd["policy_version"] = shown(policy_version(told, ModelRef(**fd["model"]), challenge))

    return altered(value, change)


def test_decisions_that_name_versions_of_12_digits_come_out_the_same(
    switched: tuple[list[ControlDocument], list[bytes]],
) -> None:
    """An upgrade costs no decision of the days before it."""
    documents, values = switched
    earlier = [in_earlier_form(documents, value) for value in values[::7]]
    result = checked(documents, [*earlier, *values[::5]])
    assert result.examples == []
    assert result.holds
    assert result.computed == len(earlier) + len(values[::5])


def altered(value: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    record = orjson.loads(value)
    change(record["fd"])
    return orjson.dumps(record)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("outcome", lambda fd: fd.update(outcome="block" if fd["outcome"] == "review" else "review")),
        ("score", lambda fd: fd.update(score=(fd["score"] + 1) % 1000)),
        ("probability", lambda fd: fd.update(probability=fd["probability"] / 2)),
        ("rules", lambda fd: fd["rules"].append({"id": "R9", "version": 1, "outcome": "review"})),
        ("lists", lambda fd: fd["lists"].append({"name": "x", "use": "block", "field": "phone"})),
        ("policy_version", lambda fd: fd.update(policy_version="0" * 16)),
        ("shadow.score", lambda fd: fd["shadow"].update(score=(fd["shadow"]["score"] + 1) % 1000)),
        ("shadow.rules", lambda fd: fd["shadow"]["rules"].append({"id": "R9", "version": 1, "outcome": "block"})),
        ("probability", lambda fd: fd["features"].update(amount_base=(fd["features"]["amount_base"] or 0) + 1.3)),
    ],
)  # fmt: skip
def test_a_decision_that_is_another_is_found(
    switched: tuple[list[ControlDocument], list[bytes]],
    field: str,
    change: Callable[[dict[str, Any]], Any],
) -> None:
    """One changed field of one decision among many shows, with its place."""
    documents, values = switched
    at = 16 * 16 + 3
    result = checked(documents, [*values[:at], altered(values[at], change), *values[at + 1 :]])
    assert result.differing == 1
    assert field in result.by_field
    assert result.examples[0].source == f"transactions-{at % 3}-{at}"
    assert not result.holds


def test_a_mixture_of_two_policies_is_found(
    switched: tuple[list[ControlDocument], list[bytes]],
) -> None:
    """A decision by the rules of one policy that names those of another."""
    documents, values = switched
    before = [orjson.loads(value) for value in values[4 * 16 : 6 * 16]]
    after = orjson.loads(values[3 * 16])["fd"]
    named = {name: after[name] for name in ("versions", "policy_version")}
    acted = [one for one in before if one["fd"]["outcome"] != "approve"]
    mixed = [orjson.dumps(one | {"fd": one["fd"] | named}) for one in acted]
    result = checked(documents, mixed)
    assert result.differing == len(mixed) > 0


def test_what_is_not_there_is_said(
    switched: tuple[list[ControlDocument], list[bytes]],
) -> None:
    """Models, rules and lists that cannot be found are no agreement."""
    documents, values = switched
    result = checked(
        documents, values, lambda ref: MODELS.get(ref.version) if ref.version == "1" else None
    )
    assert list(result.not_computed) == ["model spread@2"]
    without_rules = [one for one in documents if one.kind != "rules"]
    assert any(what.startswith("rules ") for what in checked(without_rules, values).not_computed)
    without_lists = [one for one in documents if one.kind != "list"]
    assert any(
        what.startswith("lists of these versions; superseded changes of lists are kept for 30 days")
        for what in checked(without_lists, values).not_computed
    )
    assert not checked(documents, [*values, b"{"]).holds
