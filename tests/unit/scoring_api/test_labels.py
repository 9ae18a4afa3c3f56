"""`POST /v1/labels`, and that a request sent again is done once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fraud.contracts.label import Label
from fraud.contracts.topics import Topic
from fraud.security.api_keys import Role
from fraud.security.sealing import Seal
from scoring_api.idempotency import Answers, Kept, KeyReused, StillWorking
from tests.support.an_api import SEAL, AnApi

Ask = Callable[..., httpx.Response]
FRAUD = {"event_id": "e-1", "label": "fraud", "source": "chargeback"}


@pytest.fixture
def api(tmp_path: Path) -> AnApi:
    return AnApi(tmp_path)


@pytest.fixture
def send(api: AnApi) -> Ask:
    ask = api.asked_as(Role.SCORE)
    return lambda body, **headers: ask("POST", "/v1/labels", json=body, headers=headers)


def test_a_label_goes_to_its_topic(api: AnApi, send: Ask) -> None:
    answer = send(FRAUD)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
    ((topic, key, value),) = api.publisher.sent
    assert (topic, key) == (Topic.LABELS, "e-1")
    label = Label.model_validate_json(value)
    assert (label.event_id, label.label, label.source) == ("e-1", "fraud", "chargeback")
    assert label.label_time == "2026-03-01T00:01:00.000Z"
    ((record,), _) = api.audit.page(10)
    assert (record.action, record.after) == ("labels.sent", {"labels": 1, "fraud": 1})


@pytest.mark.parametrize("label_time", ["2090-01-01T00:00:00Z", "2026-03-01T00:06:00.001Z"])
def test_a_label_from_the_future_is_refused(api: AnApi, send: Ask, label_time: str) -> None:
    """It would win against every later one; five minutes are for clocks that differ."""
    answer = send([FRAUD, FRAUD | {"label_time": label_time}])
    assert (answer.status_code, answer.json()["code"]) == (422, "out_of_range")
    assert answer.json()["errors"][0]["field"] == "label_time"
    assert not api.publisher.sent
    assert send(FRAUD | {"label_time": "2026-03-01T00:06:00Z"}).status_code == 200


def test_a_list_goes_in_its_order(api: AnApi, send: Ask) -> None:
    labels = [
        {"event_id": f"e-{n}", "label": "legitimate", "label_time": "2026-03-01T02:00:00+02:00"}
        for n in range(1000)
    ]
    assert send(labels).json() == {"accepted": 1000}
    sent = [orjson.loads(value) for _, _, value in api.publisher.sent]
    assert [one["event_id"] for one in sent] == [one["event_id"] for one in labels]
    assert {(one["source"], one["label_time"]) for one in sent} == {
        ("the score", "2026-03-01T00:00:00.000Z")
    }


@pytest.mark.parametrize(
    ("body", "index", "field"),
    [
        ([], None, None),
        ([FRAUD] * 1001, None, None),
        ([FRAUD, {"event_id": "e-2", "label": "maybe"}], 1, "label"),
        ({"event_id": "", "label": "fraud"}, None, "event_id"),
        ({"label": "fraud"}, None, "event_id"),
        (FRAUD | {"label_time": "2026-03-01T00:00:00"}, None, "label_time"),
        (FRAUD | {"label_time": "0001-01-01T00:00:00+14:00"}, None, "label_time"),
        (FRAUD | {"label_time": 1e300}, None, "label_time"),
        (FRAUD | {"source": "ada@example.com"}, None, "source"),
        (FRAUD | {"note": "?"}, None, "note"),
        (17, None, None),
    ],
)
def test_a_bad_label_is_named_and_none_is_sent(
    api: AnApi, send: Ask, body: Any, index: int | None, field: str | None
) -> None:
    answer = send(body)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error.get("index"), error["field"]) == (index, field)
    assert not api.publisher.sent


def test_kafka_away_is_503_and_on_record(api: AnApi, send: Ask) -> None:
    api.publisher.away = True
    answer = send(FRAUD, **{"Idempotency-Key": "k-1"})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_published")
    assert [one.result for one in api.audit.page(10)[0]] == ["failed", "recorded"]
    api.publisher.away = False
    assert send(FRAUD, **{"Idempotency-Key": "k-1"}).status_code == 200


def test_sent_again_it_is_answered_again_and_done_once(api: AnApi, send: Ask) -> None:
    first = send(FRAUD, **{"Idempotency-Key": "k-1"})
    again = send(FRAUD, **{"Idempotency-Key": "k-1"})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (
        None,
        "true",
    )
    assert len(api.publisher.sent) == 1
    other = send(FRAUD | {"event_id": "e-2"}, **{"Idempotency-Key": "k-1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    # Another caller's keys are their own.
    api.asked_as(Role.ADMIN)("POST", "/v1/labels", json=FRAUD, headers={"Idempotency-Key": "k-1"})
    assert len(api.publisher.sent) == 2
    assert send(FRAUD, **{"Idempotency-Key": "a b"}).status_code == 422


def test_a_secret_is_shown_once(api: AnApi) -> None:
    admin = api.asked_as(Role.ADMIN)
    new = {"name": "checkout", "role": "score"}
    made = admin("POST", "/v1/keys", json=new, headers={"Idempotency-Key": "k-1"})
    again = admin("POST", "/v1/keys", json=new, headers={"Idempotency-Key": "k-1"})
    assert (made.status_code, again.status_code, again.json()["code"]) == (201, 409, "shown_once")
    assert len(api.store.all_keys()) == 4


def test_answers_are_kept_for_a_day_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = 0
    answers = Answers(tmp_path / "a.sqlite", SEAL, lambda: now_ms)
    kept = Kept(200, b"{}", "application/json")
    assert answers.begin("a", "k", b"1") is None
    with pytest.raises(StillWorking):
        answers.begin("a", "k", b"1")
    answers.keep("a", "k", kept)
    assert Answers(tmp_path / "a.sqlite", SEAL, lambda: now_ms).begin("a", "k", b"1") == kept
    # By another key it cannot be read, and is done all the same.
    other = Answers(tmp_path / "a.sqlite", Seal(bytes(32)), lambda: now_ms)
    assert other.begin("a", "k", b"1") == Kept(200, None, "application/json")
    with pytest.raises(KeyReused):
        answers.begin("a", "k", b"2")
    now_ms = 24 * 3600 * 1000 + 1
    assert answers.begin("a", "k", b"2") is None
    for _ in range(3):
        now_ms += 50_000
        answers.renew("a", "k")
    with pytest.raises(StillWorking):
        answers.begin("a", "k", b"2")
    # Its process died: somebody may try again.
    now_ms += 60_001
    assert answers.begin("a", "k", b"2") is None
    monkeypatch.setattr("scoring_api.idempotency.MAX_KEPT", 2)
    for number in range(4):
        now_ms += 1
        answers.begin("a", f"n{number}", b"")
        answers.keep("a", f"n{number}", kept)
    assert answers.begin("a", "n3", b"") == kept
    assert answers.begin("a", "n0", b"") is None


def test_a_long_request_stays_the_only_one_of_its_key(
    api: AnApi, send: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it is worked on, and not for a minute only."""
    now_ms = [0]
    answers = Answers(tmp_path / "long.sqlite", SEAL, lambda: now_ms[0], lease_ms=30)
    api.app.state.answers = answers

    def held() -> tuple[str, int]:
        with closing(sqlite3.connect(tmp_path / "long.sqlite")) as database:
            row: tuple[str, int] = database.execute(
                "SELECT caller, at_ms FROM sealed_answers"
            ).fetchone()
            return row

    async def slow(*_: object) -> None:
        now_ms[0] += 1_000
        deadline_s = time.monotonic() + 30
        while held()[1] != now_ms[0]:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.001)
        with pytest.raises(KeyReused):
            answers.begin(held()[0], "k-1", b"of another")

    monkeypatch.setattr(api.publisher, "send", slow)
    assert send(FRAUD, **{"Idempotency-Key": "k-1"}).json() == {"accepted": 1}
