"""EventOperations of clients of Amazon Fraud Detector: each sees what was sent before it, and labels are on record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from afd.catalogue import Catalogue
from afd.declarations import Declarations
from afd.errors import InternalServerException
from afd.event_operations import EventOperations
from afd.predictions import Names
from fraud.contracts.topics import Topic
from fraud.policy.history import PolicyHistory
from fraud.policy.state import PolicyState
from fraud.security.api_keys import Role
from fraud.security.audit import AuditLog, Result
from fraud.security.principals import Principal
from scoring_api.history import RecentHistory
from scoring_api.labels import LabelSender
from scoring_api.scoring import Scoring
from tests.support.an_api import ListPublisher
from tests.support.fakes import an_engine

CHECKOUT = Principal("checkout", Role.SCORE, "AKIA1")


class Service:
    """Calls operations; nothing comes back from the stream."""

    def __init__(self, folder: Path) -> None:
        self.publisher = ListPublisher()
        self.audit = AuditLog(folder)
        history = RecentHistory(100)
        engine = an_engine()
        policy_state = PolicyState()
        catalogue = Catalogue(Declarations(), lambda: policy_state, PolicyHistory(), None, {})
        self.operations = EventOperations(
            Scoring(lambda: engine, history, lambda: None),
            catalogue,
            Names("", lambda *_: "1.0", catalogue.outcomes),
            self.publisher,  # type: ignore[arg-type]
            LabelSender(self.publisher, self.audit).send,  # type: ignore[arg-type]
            publishes_events=True,
        ).operations()

    def together(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        async def call() -> list[Any]:
            return await asyncio.gather(
                *(self.operations[name].handle(request, CHECKOUT) for name, request in calls),
                return_exceptions=True,
            )

        return asyncio.run(call())

    def __call__(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        (answer,) = self.together((operation, request))
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "detectorId": "d",
        "eventTypeName": "payment",
        "eventId": f"e-{number}",
        "eventTimestamp": "2026-03-01T00:00:00Z",
        "entities": [{"entityType": "customer", "entityId": "c-1"}],
        "eventVariables": {"transaction_amt": "10", "transaction_currency": "USD"},
        **more,
    }


def rows_seen(answer: dict[str, Any]) -> float:
    """Return how many events of the entity came before: `CountingScorer`'s probability says it."""
    ((score,),) = [one["scores"].values() for one in answer["modelScores"]]
    return float(score)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_an_event_that_was_sent_counts_at_once(service: Service) -> None:
    service("SendEvent", event(1))
    assert rows_seen(service("GetEventPrediction", event(2))) == 1
    assert rows_seen(service("GetEventPrediction", event(3))) == 2


def test_events_of_one_entity_at_the_same_time_see_those_before_them(service: Service) -> None:
    """As the stream will, which gets them in the order in which they were asked about."""
    answers = service.together(*(("GetEventPrediction", event(number)) for number in range(5)))
    assert list(map(rows_seen, answers)) == [0, 1, 2, 3, 4]
    sent = [orjson.loads(value)["event_id"] for _, _, value in service.publisher.sent]
    assert sent == [f"e-{number}" for number in range(5)]


@pytest.mark.parametrize("operation", ["SendEvent", "GetEventPrediction"])
def test_an_event_that_could_not_be_sent_does_not_count(service: Service, operation: str) -> None:
    service.publisher.away = True
    with pytest.raises(InternalServerException):
        service(operation, event(1))
    service.publisher.away = False
    assert rows_seen(service("GetEventPrediction", event(2))) == 0


def test_labels_are_on_record_whichever_way_they_come(service: Service) -> None:
    said = {"assignedLabel": "fraud", "labelTimestamp": "2026-04-01T00:00:00Z"}
    service("SendEvent", event(1, **said))
    service("UpdateEventLabel", {"eventTypeName": "payment", "eventId": "e-1", **said})
    assert [topic for topic, _, _ in service.publisher.sent] == [
        Topic.TRANSACTIONS,
        Topic.LABELS,
        Topic.LABELS,
    ]
    records, _ = service.audit.page(10)
    assert [(one.action, one.who.via, one.who.name) for one in records] == [
        ("labels.sent", "afd", "checkout")
    ] * 2
    assert records[0].after == {"labels": 1, "fraud": 1}
    service("SendEvent", event(2))
    assert len(service.audit.page(10)[0]) == 2


def test_a_label_that_was_not_acknowledged_failed(service: Service) -> None:
    service.publisher.away = True
    with pytest.raises(InternalServerException):
        service(
            "UpdateEventLabel",
            {"eventTypeName": "payment", "eventId": "e-1", "assignedLabel": "fraud", "labelTimestamp": "2026-04-01"},
        )  # fmt: skip
    assert [one.result for one in service.audit.page(10)[0]] == [Result.FAILED, Result.RECORDED]
