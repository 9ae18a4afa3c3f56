"""`POST /v1/score` and its neighbours, over HTTP without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator

from fraud.contracts.decision import Decision
from fraud.contracts.topics import TOPICS, Topic
from fraud.contracts.transaction import MAX_RECORD_BYTES
from fraud.security.principals import RateLimit
from scoring_api.access import Access
from scoring_api.app import create_app
from scoring_api.history import RecentHistory, read_processed
from scoring_api.scoring import MAX_BODY_BYTES, MAX_RECORDS, Scoring
from tests.support.builders import a_record
from tests.support.fakes import CountingScorer, an_engine, processed

Post = Callable[[bytes], httpx.Response]


@pytest.fixture
def history() -> RecentHistory:
    history = RecentHistory(100)
    history.remember([one for n in range(3) if (one := read_processed(processed(n)))])
    return history


def client(scoring: Scoring) -> httpx.AsyncClient:
    app = create_app(scoring, Access(None, RateLimit(0)))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api")


def call(scoring: Scoring, *requests: tuple[str, str, bytes | None]) -> list[httpx.Response]:
    """Send requests at the same time."""

    async def send() -> list[httpx.Response]:
        async with client(scoring) as http:
            return await asyncio.gather(
                *(http.request(method, path, content=body) for method, path, body in requests)
            )

    return asyncio.run(send())


@pytest.fixture
def scoring(history: RecentHistory) -> Scoring:
    engine = an_engine()
    return Scoring(lambda: engine, history, lambda: None)


@pytest.fixture
def post(scoring: Scoring) -> Post:
    return lambda body: call(scoring, ("POST", "/v1/score", body))[0]


def body_of(**changes: Any) -> bytes:
    return orjson.dumps(a_record(entity_id="c-1") | changes)


def test_one_record_answers_its_event_id_and_decision(post: Post) -> None:
    response = post(body_of(event_id="new"))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer.keys() == {"event_id", "fd"}
    assert answer["event_id"] == "new"
    decision = Decision.model_validate(answer["fd"])
    assert decision.history == {"entity": 3, "ip": 3, "merchant": 3}
    assert decision.probability == pytest.approx(0.003)
    assert decision.source is None
    assert not decision.duplicate


def test_nothing_is_stored(post: Post, history: RecentHistory) -> None:
    """The same question has the same answer."""
    before = history.content()
    first, second = post(body_of(event_id="new")), post(body_of(event_id="new"))
    assert first.content == second.content
    assert history.content() == before


def test_an_event_of_the_history_is_a_duplicate(post: Post) -> None:
    """It is scored as if its repeat was not there."""
    answer = post(body_of(event_id="e-1")).json()["fd"]
    assert answer["duplicate"] is True
    assert answer["history"] == {"entity": 2, "ip": 2, "merchant": 2}


def test_a_list_answers_in_its_order(post: Post) -> None:
    """Each as it would be alone, however many there are."""
    records = [a_record(event_id=f"n-{n}", entity_id=f"c-{n % 3}") for n in range(100)]
    response = post(orjson.dumps(records))
    assert response.status_code == 200
    alone = [post(orjson.dumps(record)).json() for record in records]
    assert response.json() == alone
    assert [one["event_id"] for one in alone] == [f"n-{n}" for n in range(100)]


def test_an_empty_list_answers_an_empty_list(post: Post) -> None:
    assert post(b" []").json() == []


def test_the_longest_list_is_answered_and_a_longer_one_refused(post: Post) -> None:
    record = body_of()
    assert len(post(b"[" + b",".join([record] * MAX_RECORDS) + b"]").json()) == MAX_RECORDS
    response = post(b"[" + b",".join([record] * (MAX_RECORDS + 1)) + b"]")
    assert response.status_code == 422
    assert response.json()["code"] == "too_many_records"


def test_a_list_names_every_bad_record_and_scores_none(scoring: Scoring) -> None:
    """Index, field and what was expected, and never the value."""
    bad = {
        1: body_of(event_time="yesterday"),
        2: body_of(transaction_amt="secret-4711"),
        4: b'{"a":1,"a":2}',
        5: b"17",
        6: body_of(fd={}),
    }
    good = body_of()
    body = b"[" + b",".join(bad.get(at, good) for at in range(8)) + b"]"
    scored: list[int] = []
    scoring._engine().scorer.predict = lambda matrix: scored.append(len(matrix))  # type: ignore[method-assign,assignment,func-returns-value]
    (response,) = call(scoring, ("POST", "/v1/score", body))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [(one["index"], one["field"], one["code"]) for one in response.json()["errors"]] == [
        (1, "event_time", "wrong_type"),
        (2, "transaction_amt", "wrong_type"),
        (4, None, "repeated_key"),
        (5, None, "not_an_object"),
        (6, "fd", "reserved_field"),
    ]
    assert "4711" not in response.text
    assert "yesterday" not in response.text
    assert scored == []


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "empty_value", None),
        (b" \n", 400, "empty_value", None),
        (b"{", 400, "not_json", None),
        (b"[{]", 400, "not_json", None),
        (b'{"a":"\xff"}', 400, "not_json", None),
        (b"[NaN]", 400, "not_json", None),
        (b"17", 422, "not_an_object", None),
        (b"null", 422, "not_an_object", None),
        (b'{"event_id":"1","event_id":"2"}', 422, "repeated_key", None),
        (b"{}", 422, "missing_field", "event_id"),
        (body_of(transaction_amt=None), 422, "missing_field", "transaction_amt"),
        (body_of(transaction_currency="EURO"), 422, "wrong_type", "transaction_currency"),
        (body_of(event_time="9999-01-01T00:00:00Z"), 422, "out_of_range", "event_time"),
        (b"[" * 5000 + b"]" * 5000, 400, "not_json", None),
    ],
)
def test_a_bad_body_is_answered_with_what_was_expected(
    post: Post, body: bytes, status: int, code: str, field: str | None
) -> None:
    response = post(body)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert "expected" in problem["detail"]
    if status == 422:
        assert problem["errors"] == [{"field": field, "code": code, "detail": problem["detail"]}]


def test_a_record_may_be_as_long_as_on_the_topic(post: Post) -> None:
    (spec,) = (spec for spec in TOPICS if spec.topic is Topic.TRANSACTIONS)
    assert spec.config["max.message.bytes"] == str(MAX_RECORD_BYTES)
    longest = body_of(x="")
    longest = body_of(x="y" * (MAX_RECORD_BYTES - len(longest)))
    assert post(longest).status_code == 200
    assert post(longest + b" ").status_code == 413
    response = post(b"[" + longest + b"," + body_of(x="z" * MAX_RECORD_BYTES) + b"]")
    assert response.status_code == 422
    assert [one["index"] for one in response.json()["errors"]] == [1]


@pytest.mark.parametrize("item", [b"{}", b"1", b'[",]"]'])
def test_a_list_is_counted_before_any_of_it_is_parsed(
    post: Post, monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    """A million tiny items fit into a body, and must not become a million objects."""
    monkeypatch.setattr("scoring_api.scoring.parse_many", lambda _: pytest.fail("was parsed"))
    response = post(b"[" + b",".join([item] * 1_000_000) + b"]")
    assert (response.status_code, response.json()["code"]) == (422, "too_many_records")


def test_a_body_is_read_no_further_than_it_may_be_long(scoring: Scoring) -> None:
    """Whether its length was declared or not."""
    body = b"[" + b" " * MAX_BODY_BYTES + b"]"
    read = 0

    async def chunks() -> Any:
        nonlocal read
        for first in range(0, 4 * MAX_BODY_BYTES, 1 << 20):
            read = first
            yield b" " * (1 << 20)

    async def send() -> list[httpx.Response]:
        async with client(scoring) as http:
            return [
                await http.post("/v1/score", content=body),
                await http.post("/v1/score", content=chunks()),
            ]

    for response in asyncio.run(send()):
        assert response.status_code == 413
        assert response.json()["code"] == "too_large"
    assert read <= MAX_BODY_BYTES + (1 << 20)


@pytest.mark.parametrize("length", ["9" * 5_000, str(MAX_BODY_BYTES + 1)])
def test_a_body_that_says_to_be_too_long_is_refused(scoring: Scoring, length: str) -> None:
    """By however many digits."""

    async def send() -> httpx.Response:
        async with client(scoring) as http:
            return await http.post("/v1/score", content=b"{}", headers={"Content-Length": length})

    assert asyncio.run(send()).status_code == 413


def test_requests_at_the_same_time_are_decided_together(history: RecentHistory) -> None:
    """And each gets its own answer."""
    scorer = CountingScorer()
    batches = []
    predict = scorer.predict

    def watched(matrix: np.ndarray[Any, Any]) -> Any:
        batches.append(len(matrix))
        return predict(matrix)

    scorer.predict = watched  # type: ignore[method-assign]
    scoring = Scoring(lambda: an_engine(scorer), history, lambda: None)
    asked = [("POST", "/v1/score", body_of(event_id=f"n-{n}")) for n in range(20)]
    answers = call(scoring, *asked, ("POST", "/v1/score", b"{}"))
    assert [one.json()["event_id"] for one in answers[:-1]] == [f"n-{n}" for n in range(20)]
    assert answers[-1].status_code == 422
    assert sum(batches) == 20
    assert len(batches) < 20


def test_a_failing_model_asks_for_review(history: RecentHistory) -> None:
    """As on the stream: an answer, and a reason."""

    class Failing(CountingScorer):
        def predict(self, matrix: object) -> Any:
            raise ArithmeticError("no")

    (response,) = call(
        Scoring(lambda: an_engine(Failing()), history, lambda: None),
        ("POST", "/v1/score", body_of()),
    )
    assert response.status_code == 200
    answer = response.json()["fd"]
    assert (answer["outcome"], answer["score"]) == ("review", None)
    assert [reason["code"] for reason in answer["reasons"]] == ["SCORING_FAILED"]


def test_a_bug_is_answered_without_details(
    history: RecentHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = an_engine()
    scoring = Scoring(lambda: engine, history, lambda: None)

    def fail(*_: object) -> None:
        raise RuntimeError("070-69-2161")

    monkeypatch.setattr(engine, "decide", fail)
    (response,) = call(scoring, ("POST", "/v1/score", body_of()))
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "070" not in response.text


def test_it_does_not_score_before_it_can(history: RecentHistory) -> None:
    """Ready says what it waits for, and a score would be made of half a history."""
    scoring = Scoring(an_engine, history, lambda: "the topic")
    live, ready, score = call(
        scoring,
        ("GET", "/health/live", None),
        ("GET", "/health/ready", None),
        ("POST", "/v1/score", body_of()),
    )
    assert (live.status_code, live.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (503, "the topic\n")
    assert (score.status_code, score.json()["code"]) == (503, "not_ready")
    assert score.headers["retry-after"] == "2"


def test_ready_and_metrics(scoring: Scoring) -> None:
    _, ready, metrics = call(
        scoring,
        ("POST", "/v1/score", body_of()),
        ("GET", "/health/ready", None),
        ("GET", "/metrics", None),
    )
    assert (ready.status_code, ready.text) == (200, "ok\n")
    assert 'fraudstream_transactions_scored_total{outcome="approve"}' in metrics.text


def test_other_paths_and_methods_are_problems_too(scoring: Scoring) -> None:
    lost, wrong = call(scoring, ("GET", "/v2/score", None), ("GET", "/v1/score", None))
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


def test_the_documentation_needs_no_network(scoring: Scoring) -> None:
    """All that the page loads comes from here."""
    page, script, style, schema = call(
        scoring,
        ("GET", "/docs", None),
        ("GET", "/docs/assets/swagger-ui-bundle.js", None),
        ("GET", "/docs/assets/swagger-ui.css", None),
        ("GET", "/openapi.json", None),
    )
    assert "//" not in page.text.replace("<!-- ", "").split("<script>")[0]
    for part in (page, script, style, schema):
        assert part.status_code == 200
    assert len(script.content) > 100_000


def test_the_description_holds_for_what_is_answered(scoring: Scoring) -> None:
    """Examples, answers and problems are valid by the schemas that `/openapi.json` gives."""
    (document,) = call(scoring, ("GET", "/openapi.json", None))
    described = document.json()
    operation = described["paths"]["/v1/score"]["post"]

    def check(schema: dict[str, Any], value: object) -> None:
        Draft202012Validator({**schema, "components": described["components"]}).validate(value)

    content = operation["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) >= 3
    for example in content["examples"].values():
        check(content["schema"], example["value"])
        (answer,) = call(scoring, ("POST", "/v1/score", orjson.dumps(example["value"])))
        check(operation["responses"]["200"]["content"]["application/json"]["schema"], answer.json())
    for body, status in ((b"{", "400"), (b"{}", "422"), (b"[{}]", "422")):
        (answer,) = call(scoring, ("POST", "/v1/score", body))
        assert str(answer.status_code) == status
        (kind,) = operation["responses"][status]["content"].values()
        check(kind["schema"], answer.json())
