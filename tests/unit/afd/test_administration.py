"""What clients of Amazon Fraud Detector change: all of it or nothing, on record, and no value in clear."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from afd import declarations
from afd.administration import Administration
from afd.catalogue import Catalogue
from afd.decision_search import _place
from afd.declarations import Declarations, DeclarationWriter
from afd.errors import ValidationException
from afd.protocol import check_request
from fraud.contracts.lists import ListType
from fraud.policy.history import PolicyHistory
from fraud.policy.state import PolicyState
from fraud.security.api_keys import Role
from fraud.security.audit import AuditLog
from fraud.security.principals import Principal
from tests.support.control_topic import ControlTopic
from tests.support.editing import PSEUDONYMS

ADA = Principal("ada", Role.ANALYST, "AKIA1")


class Client:
    """Calls operations, whose documents a policy state and declarations read by way of their bytes."""

    def __init__(self, folder: Path) -> None:
        self.audit = AuditLog(folder)
        history, declarations = PolicyHistory(), Declarations()
        self.topic = ControlTopic(history, declarations)
        self._operations = Administration(
            Catalogue(declarations, lambda: self.policy_state, history, None, {}),
            DeclarationWriter(declarations, self.topic),
            self.topic,
            self.audit,
            PSEUDONYMS,
        ).operations()

    @property
    def policy_state(self) -> PolicyState:
        return self.topic.policy_state

    @property
    def published(self) -> int:
        return len(self.topic.documents)

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        checked = check_request(operation, request)

        async def call() -> dict[str, Any]:
            return await self._operations[operation].handle(checked, ADA)

        return asyncio.run(call())

    def elements(self, name: str) -> list[str]:
        found: list[str] = self("GetListElements", name=name)["elements"]
        return found

    def with_a_detector(self) -> None:
        """Declare what rules need."""
        self("PutEntityType", name="customer")
        for label in ("fraud", "legit"):
            self("PutLabel", name=label)
        for name, kind, default in (
            ("email_address", "STRING", "-"),
            ("transaction_amt", "FLOAT", "0"),
        ):
            self(
                "CreateVariable", name=name, dataType=kind, dataSource="EVENT", defaultValue=default
            )
        self(
            "PutEventType",
            name="payment",
            eventVariables=["email_address", "transaction_amt"],
            labels=["fraud", "legit"],
            entityTypes=["customer"],
        )
        self("PutDetector", detectorId="d", eventTypeName="payment")

    def rule(self, rule_id: str, expression: str) -> dict[str, Any]:
        made = self(
            "CreateRule",
            ruleId=rule_id,
            detectorId="d",
            expression=expression,
            language="DETECTORPL",
            outcomes=["review"],
        )
        reference: dict[str, Any] = made["rule"]
        return reference


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_a_list_is_left_as_it_is_when_an_element_does_not_fit_its_new_type(client: Client) -> None:
    client("CreateList", name="seen", elements=["192.0.2.1", "x"])
    with pytest.raises(ValidationException, match="type: expected one that fits"):
        client("UpdateList", name="seen", variableType="IP_ADDRESS")
    with pytest.raises(ValidationException, match=r"add\.0\.value"):
        client(
            "UpdateList",
            name="seen",
            variableType="IP_ADDRESS",
            elements=["y"],
            updateMode="REPLACE",
        )
    assert (client.elements("seen"), client.policy_state.lists()["seen"].type) == (
        ["192.0.2.1", "x"],
        ListType.TEXT,
    )
    client(
        "UpdateList",
        name="seen",
        variableType="IP_ADDRESS",
        elements=["192.0.2.7"],
        updateMode="REPLACE",
    )
    assert (client.elements("seen"), client.policy_state.lists()["seen"].type) == (
        ["192.0.2.7"],
        ListType.IP,
    )
    assert client("GetListsMetadata", name="seen")["lists"][0]["variableType"] == "IP_ADDRESS"


def test_no_list_is_left_of_one_with_a_bad_element(client: Client) -> None:
    with pytest.raises(ValidationException, match=r"add\.1\.value"):
        client("CreateList", name="seen", elements=["192.0.2.1", "x"], variableType="IP_ADDRESS")
    assert client("GetListsMetadata")["lists"] == []
    client("CreateList", name="seen", elements=["192.0.2.1"], variableType="IP_ADDRESS")
    assert client.elements("seen") == ["192.0.2.1"]


def test_a_list_that_gets_a_type_and_elements_is_changed_once(client: Client) -> None:
    client("CreateList", name="seen", elements=["192.0.2.1", "192.0.2.2"])
    before = client.published
    client(
        "UpdateList",
        name="seen",
        variableType="IP_ADDRESS",
        elements=["192.0.2.2"],
        updateMode="REMOVE",
        description="Ours.",
    )
    assert client.elements("seen") == ["192.0.2.1"]
    assert client.published - before == 2, "the list, and its variable's type"


def test_more_rules_than_a_set_holds_are_the_callers_fault(client: Client) -> None:
    client.with_a_detector()
    rules = [client.rule(f"r{number}", f"$transaction_amt > {number}") for number in range(501)]
    with pytest.raises(ValidationException, match=r"rules: .*at most 500 items"):
        client("CreateDetectorVersion", detectorId="d", rules=rules)
    assert client("CreateDetectorVersion", detectorId="d", rules=rules[:2])["status"] == "DRAFT"


def test_what_no_record_holds_is_the_callers_fault(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule is one document with all its versions."""
    monkeypatch.setattr(declarations, "MAX_DOCUMENT_BYTES", 5_000)
    client.with_a_detector()
    long = "$transaction_amt > 1" + " or $transaction_amt > 2" * 60
    rule = client.rule("r1", long)
    more = {"rule": rule, "language": "DETECTORPL", "outcomes": ["review"]}
    client("UpdateRuleVersion", **more, expression=long + " or $transaction_amt > 3")
    with pytest.raises(ValidationException, match="rule: expected at most 5000 bytes"):
        client("UpdateRuleVersion", **more, expression=long + " or $transaction_amt > 4")


PERSONAL = ("ada@example.com", "Ada Example", "12025550143")


def test_changes_are_on_record_and_nobody_is_named(client: Client, tmp_path: Path) -> None:
    """What was there before, too; values and texts as hashes, by which they can be found."""
    client.with_a_detector()
    client("CreateList", name="people", elements=list(PERSONAL), description="Of Ada Example.")
    client("UpdateList", name="people", elements=["12025550143"], updateMode="REMOVE")
    client(
        "CreateVariable",
        name="phone",
        dataType="STRING",
        dataSource="EVENT",
        defaultValue="12025550143",
    )
    client(
        "UpdateVariable", name="phone", defaultValue="+1 202 555 0143", description="Ada Example's"
    )
    client(
        "BatchCreateVariable",
        variableEntries=[
            {
                "name": "n",
                "dataType": "STRING",
                "dataSource": "EVENT",
                "defaultValue": "Ada Example",
            }
        ],
    )
    with pytest.raises(ValidationException):
        client(
            "CreateVariable",
            name="ada@example.com",
            dataType="STRING",
            dataSource="EVENT",
            defaultValue="-",
        )
    rule = client.rule("r1", '$email_address == "ada@example.com"')
    client(
        "UpdateRuleVersion",
        rule=rule,
        expression='$email_address in ["ada@example.com"]',
        language="DETECTORPL",
        outcomes=["block"],
    )
    made = client("CreateDetectorVersion", detectorId="d", rules=[rule])
    number = made["detectorVersionId"]
    client("UpdateDetectorVersionStatus", detectorId="d", detectorVersionId=number, status="ACTIVE")

    log = (tmp_path / "audit.jsonl").read_text()
    for value in PERSONAL:
        assert value not in log
    records = {one.action: one for one in client.audit.page(100)[0]}
    listed = records["afd.UpdateList"]
    assert listed.before is not None
    assert (listed.target, listed.before["entries"]) == ("people", 3)
    assert listed.after is not None
    assert listed.after["elements"]["hashes"] == [PSEUDONYMS.hash("entity_id", "12025550143")]
    updated = records["afd.UpdateRuleVersion"]
    assert updated.target == "d/r1"
    assert updated.before is not None
    assert list(updated.before["versions"]) == ["1"]
    assert updated.after is not None
    assert updated.after["outcomes"] == ["block"]
    assert updated.after["expression"].startswith("h_")
    assert records["afd.UpdateVariable"].before is not None
    assert records["afd.PutDetector"].before is None
    assert records["afd.UpdateDetectorVersionStatus"].before is not None


@pytest.mark.parametrize("token", ["@@@", "é", base64.b64encode(b"\xff").decode()])
def test_a_token_that_no_answer_gave_is_refused(client: Client, token: str) -> None:
    with pytest.raises(ValidationException, match="nextToken"):
        client("GetOutcomes", nextToken=token)


@pytest.mark.parametrize(
    "place", [[2**63, 0, 0, 0], [0, 0, 0, -(2**63) - 1], [True, 0, 0, 0], [0, 0, 0], "x", 1]
)
def test_a_place_that_the_index_cannot_have_is_refused(place: Any) -> None:
    token = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    with pytest.raises(ValidationException, match="nextToken"):
        _place(token)
