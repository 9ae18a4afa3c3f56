"""`/v1/decisions`: what OpenSearch is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fraud.security.api_keys import Role
from tests.support.an_api import PSEUDONYMS, AnApi, Hit
from tests.support.builders import a_record

Ask = Callable[..., httpx.Response]


@pytest.fixture
def api(tmp_path: Path) -> AnApi:
    return AnApi(tmp_path)


@pytest.fixture
def ask(api: AnApi) -> Ask:
    return api.asked_as(Role.ANALYST)


def a_hit(number: int) -> Hit:
    document = {"event_id": f"e-{number}", "fd": {"outcome": "block"}}
    return {
        "_id": f"transactions-0-{number}",
        "_source": document,
        "sort": [1000 + number, 0, number],
    }


def conditions(api: AnApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.search.asked[-1]["query"]["bool"]["filter"]
    return found


def test_each_filter_is_a_condition(api: AnApi, ask: Ask) -> None:
    answer = ask(
        "GET",
        "/v1/decisions",
        params={
            "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00+02:00", "outcome": "block",
            "min_score": 900, "rule": "R001_high_score", "reason": "IP_ENTITY_DISTINCT_24H",
            "label": "fraud", "entity_id": "c-1",
        },
    )  # fmt: skip
    assert answer.status_code == 200
    assert conditions(api) == [
        {"term": {"fd.outcome": "block"}},
        {"term": {"fd.rules.id": "R001_high_score"}},
        {"term": {"fd.reasons.code": "IP_ENTITY_DISTINCT_24H"}},
        {"term": {"label.label": "fraud"}},
        {"range": {"fd.score": {"gte": 900}}},
        {"range": {"fd.source.timestamp_ms": {"gte": 1_772_323_200_000, "lt": 1_772_402_400_000}}},
        {"terms": {"entity_id": ["c-1"]}},
    ]


def test_personal_values_are_looked_for_by_their_pseudonyms(api: AnApi, ask: Ask) -> None:
    """And go by the body, which no log keeps."""
    record = a_record(entity_id="070-69-2161")
    fields = {
        name: record[name] for name in ("email_address", "phone", "customer_name", "ip_address")
    }
    answer = ask(
        "POST", "/v1/decisions/search", json={"entity_id": "070-69-2161", "fields": fields}
    )
    assert answer.status_code == 200
    asked = conditions(api)
    assert asked[0] == {"terms": {"entity_id": [PSEUDONYMS.hash("entity_id", "070-69-2161")]}}
    assert asked[1:] == [
        {"terms": {name: PSEUDONYMS.searched(name, value)}} for name, value in fields.items()
    ]
    assert record["email_address"] not in str(asked)
    assert ask("GET", "/v1/decisions?email_address=a@b.c").status_code == 422


def test_pages_go_on_where_the_one_before_ended(api: AnApi, ask: Ask) -> None:
    api.search.hits = [a_hit(number) for number in (5, 4, 3)]
    first = ask("GET", "/v1/decisions?limit=2").json()
    assert [one["id"] for one in first["items"]] == ["transactions-0-5", "transactions-0-4"]
    api.search.hits = [a_hit(3)]
    second = ask("GET", "/v1/decisions", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert api.search.asked[-1]["search_after"] == [1004, 0, 4]
    assert [one["event_id"] for one in second["items"]] == ["e-3"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=201", "limit"), ("min_score=1001", "min_score"),
        ("outcome=maybe", "outcome"), ("from=yesterday", "from"), ("from=2026-03-01T00:00:00", "from"),
        ("cursor=x", "cursor"), ("cursor=WzEsMl0", "cursor"), ("cursor=ZmFsc2U", "cursor"),
        ("cursor=%C3%A4", "cursor"), ("cursor=WzEsMiwtM10", "cursor"), ("entity_id=", "entity_id"), ("labels=fraud", "labels"),
        ("from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", None),
    ],
)  # fmt: skip
def test_a_bad_filter_is_named(api: AnApi, ask: Ask, query: str, field: str | None) -> None:
    answer = ask("GET", f"/v1/decisions?{query}")
    assert answer.status_code == 422, answer.text
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert not api.search.asked


def test_a_field_that_cannot_be_searched_is_named(ask: Ask) -> None:
    answer = ask("POST", "/v1/decisions/search", json={"fields": {"ssn": "070-69-2161"}})
    assert answer.status_code == 422
    assert "070" not in answer.text
    assert "fields" in answer.json()["errors"][0]["field"]
    assert ask("POST", "/v1/decisions/search", json={"fields": {"phone": ""}}).status_code == 422


def test_a_decision_is_looked_up_by_its_event(api: AnApi, ask: Ask) -> None:
    api.search.hits = [a_hit(1)]
    answer = ask("GET", "/v1/decisions/a%2Fb?entity_id=c-1")
    decision = {"id": "transactions-0-1", "event_id": "e-1", "fd": {"outcome": "block"}}
    assert answer.json() == decision | {"items": [decision]}
    assert conditions(api) == [{"term": {"event_id": "a/b"}}, {"terms": {"entity_id": ["c-1"]}}]
    api.search.hits = []
    missing = ask("GET", "/v1/decisions/e-2")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_all_events_of_one_id_are_listed_without_their_repeats(api: AnApi, ask: Ask) -> None:
    """The same id may stand for several events: of other entities, or with other content."""
    api.search.hits = [a_hit(3), a_hit(2), a_hit(1)]
    api.search.hits[0]["_source"]["fd"] |= {"duplicate": False, "features": {"amount_base": 5.0}}
    api.search.hits[2]["_source"]["fd"] |= {"duplicate": True}
    answer = ask("GET", "/v1/decisions/e-1").json()
    assert answer["fd"]["features"] == {"amount_base": 5.0}
    assert [item["id"] for item in answer["items"]] == ["transactions-0-3", "transactions-0-2"]
    assert "features" not in answer["items"][0]["fd"]


def test_scoring_goes_on_while_opensearch_is_away(api: AnApi, ask: Ask) -> None:
    api.search.away = True
    for method, path in (("GET", "/v1/decisions"), ("GET", "/v1/decisions/e-1")):
        answer = ask(method, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "search_away")
        assert "retry-after" in answer.headers
    assert ask("POST", "/v1/score", json=a_record()).status_code == 200


def test_models_are_listed_with_who_decides(api: AnApi, ask: Ask) -> None:
    api.with_models()
    answer = ask("GET", "/v1/models").json()
    assert (answer["champion"]["name"], answer["challenger"]) == ("counting", None)
    assert [(one["name"], one["metrics"]) for one in answer["items"]] == [("fraud", {"auc": 0.9})]
