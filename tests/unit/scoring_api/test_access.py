"""Keys, roles, limits, the audit log: who may ask what over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from fraud.security.api_keys import Role
from scoring_api.scoring import MAX_BODY_BYTES
from tests.support.an_api import AnApi
from tests.support.builders import a_record

PROBLEM = "application/problem+json"


@pytest.fixture
def api(tmp_path: Path) -> AnApi:
    return AnApi(tmp_path)


@pytest.fixture
def admin(api: AnApi) -> Callable[..., httpx.Response]:
    return api.asked_as(Role.ADMIN)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer fs_wrong", "Basic YTpi", "Bearer \xff", "fs_wrong"],
)
def test_without_a_key_that_is_in_use_it_answers_401(api: AnApi, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    response = api("POST", "/v1/score", headers=headers, json=a_record())
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == PROBLEM
    assert response.json()["code"] == "not_authenticated"
    assert "wrong" not in response.text


def test_a_path_that_is_not_there_is_told_to_keys_only(api: AnApi) -> None:
    assert api("GET", "/v1/nothing").status_code == 401
    assert api.asked_as(Role.SCORE)("GET", "/v1/nothing").status_code == 404


def test_a_body_is_not_read_before_the_key_is(api: AnApi) -> None:
    read = 0

    async def chunks() -> Any:
        nonlocal read
        for _ in range(4):
            read += 1
            yield b" " * 1000

    assert api("POST", "/v1/score", content=chunks()).status_code == 401
    # The transport of the test takes the first chunk; a server would not even that.
    assert read <= 1


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/docs"])
def test_health_metrics_and_the_docs_page_are_open(api: AnApi, path: str) -> None:
    assert api("GET", path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/v1/score", Role.SCORE),
        ("GET", "/v1/keys", Role.ADMIN),
        ("POST", "/v1/keys", Role.ADMIN),
        ("DELETE", "/v1/keys/key_1", Role.ADMIN),
        ("GET", "/v1/audit", Role.ADMIN),
        ("GET", "/v1/decisions", Role.ANALYST),
        ("GET", "/v1/decisions/e-1", Role.ANALYST),
        ("POST", "/v1/decisions/search", Role.ANALYST),
        ("GET", "/v1/models", Role.ANALYST),
        ("POST", "/v1/labels", Role.SCORE),
    ],
)
def test_a_role_too_low_is_told_which_one_is_needed(
    api: AnApi, method: str, path: str, needed: Role
) -> None:
    for role in Role:
        response = api.asked_as(role)(method, path)
        if role.covers(needed):
            assert response.status_code != 403
        else:
            assert response.status_code == 403
            assert response.headers["content-type"] == PROBLEM
            assert response.json()["code"] == "role_needed"
            assert f"role {needed.value}" in response.json()["detail"]


def test_a_key_is_made_used_and_revoked(api: AnApi, admin: Callable[..., httpx.Response]) -> None:
    """Revoked, it is refused by the next request."""
    made = admin("POST", "/v1/keys", json={"name": "checkout", "role": "score"})
    assert made.status_code == 201
    key = made.json()
    secret = key.pop("secret")
    assert api("POST", "/v1/score", secret, json=a_record()).status_code == 200
    listed = admin("GET", "/v1/keys")
    assert key in listed.json()["items"]
    assert secret not in listed.text
    assert admin("DELETE", f"/v1/keys/{key['id']}").status_code == 204
    assert api("POST", "/v1/score", secret, json=a_record()).status_code == 401
    gone = admin("DELETE", f"/v1/keys/{key['id']}")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    records = admin("GET", "/v1/audit").json()["items"]
    assert [(one["action"], one["target"], one["who"]["name"]) for one in records] == [
        ("key.revoked", "key/checkout", "the admin"),
        ("key.created", "key/checkout", "the admin"),
    ]
    assert records[1]["request_id"] == made.headers["x-request-id"]
    assert records[0]["before"] == {"id": key["id"], "name": "checkout", "role": "score"}
    assert secret not in json.dumps(records)


def test_keys_contradict_each_other_with_409(
    api: AnApi, admin: Callable[..., httpx.Response]
) -> None:
    again = admin("POST", "/v1/keys", json={"name": "the score", "role": "score"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    last = next(key.id for key in api.store.all_keys() if key.role is Role.ADMIN)
    refused = admin("DELETE", f"/v1/keys/{last}")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin_key")
    assert [one["result"] for one in admin("GET", "/v1/audit").json()["items"]] == [
        "failed",
        "recorded",
    ] * 2


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"{", 400, "not_json", None),
        (b"\xff", 400, "not_json", None),
        (b"", 422, "missing_field", None),
        (b"[]", 422, "wrong_type", None),
        (b'{"name":"a"}', 422, "missing_field", "role"),
        (b'{"name":"a","role":"god"}', 422, "out_of_range", "role"),
        (b'{"name":17,"role":"score"}', 422, "wrong_type", "name"),
        (b'{"name":"","role":"score"}', 422, "out_of_range", "name"),
        (b'{"name":"a","role":"score","x-ssn":1}', 422, "out_of_range", "x-ssn"),
    ],
)
def test_a_bad_request_names_the_field(
    admin: Callable[..., httpx.Response], body: bytes, status: int, code: str, field: str | None
) -> None:
    response = admin("POST", "/v1/keys", content=body, headers={"Content-Type": "application/json"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["content-type"] == PROBLEM
    if status == 422:
        assert [one["field"] for one in problem["errors"]] == [field]
    assert "god" not in response.text


def test_the_audit_log_is_paged(admin: Callable[..., httpx.Response]) -> None:
    for number in range(5):
        admin("POST", "/v1/keys", json={"name": f"k{number}", "role": "score"})
    first = admin("GET", "/v1/audit?limit=2").json()
    second = admin("GET", f"/v1/audit?limit=3&cursor={first['next_cursor']}").json()
    targets = [one["target"] for one in first["items"] + second["items"]]
    assert targets == [f"key/k{number}" for number in (4, 3, 2, 1, 0)]
    assert second["next_cursor"] is None
    wrong = admin("GET", "/v1/audit?cursor=x&limit=0")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
    assert [one["field"] for one in wrong.json()["errors"]] == ["limit", "cursor"]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    """Others are not kept from asking."""
    api = AnApi(tmp_path, limit=3)
    score = api.asked_as(Role.SCORE)
    answers = [score("POST", "/v1/score", json=a_record()).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    refused = score("POST", "/v1/score")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == PROBLEM
    assert refused.json()["code"] == "rate_limited"
    assert api.asked_as(Role.ANALYST)("POST", "/v1/score", json=a_record()).status_code == 200
    key_id = next(key.id for key in api.store.all_keys() if key.role is Role.SCORE)
    assert REGISTRY.get_sample_value("fraudstream_rate_limited_total", {"key_id": key_id}) == 3


def test_a_request_has_an_id_of_its_own_or_the_callers(api: AnApi) -> None:
    score = api.asked_as(Role.SCORE)
    one, two = (score("POST", "/v1/score").headers["x-request-id"] for _ in range(2))
    assert one != two
    assert (
        api("GET", "/v1/score", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"]
        == "mine-1"
    )
    strange = api("GET", "/health/live", headers={"X-Request-ID": "a b\n"}).headers["x-request-id"]
    assert strange not in ("a b", "a b\n")


def test_a_long_body_is_refused_wherever_it_goes(admin: Callable[..., httpx.Response]) -> None:
    """Declared or not."""

    async def chunks() -> Any:
        for _ in range(2 + MAX_BODY_BYTES // (1 << 20)):
            yield b" " * (1 << 20)

    for body in (b" " * (MAX_BODY_BYTES + 1), chunks()):
        response = admin(
            "POST", "/v1/keys", content=body, headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, response.json()["code"]) == (413, "too_large")
