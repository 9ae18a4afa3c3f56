"""The live page over HTTP without a socket: who may see what, and what is asked of OpenSearch."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError

from dashboards.panels import PANELS
from fraud.security.api_keys import KeyStore, Role
from fraud.security.principals import RateLimit
from fraud.security.pseudonyms import Pseudonyms
from scoring_api.access import Access
from scoring_api.app import create_app
from scoring_api.decisions import NoSuchDecision
from scoring_api.history import RecentHistory
from scoring_api.live import session as session_module
from scoring_api.live.board import Board
from scoring_api.live.routes import live_routes
from scoring_api.live.session import COOKIE, Sessions
from scoring_api.scoring import Scoring
from tests.support.builders import START_MS
from tests.support.fakes import an_engine

PSEUDONYMS = Pseudonyms(b"a key of the tests, long enough to be one")
SECRET = b"signs the cookies of the tests"


class OpenSearchFake:
    """Keeps what it is asked, and finds what it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.hits: list[dict[str, Any]] = []
        self.problem: Exception | None = None
        self.error: dict[str, Any] | None = None

    def msearch(self, body: bytes) -> dict[str, Any]:
        """Answer each search with the same hits."""
        if self.problem:
            raise self.problem
        lines = [orjson.loads(line) for line in body.splitlines()]
        self.asked = list(zip(lines[::2], lines[1::2], strict=True))
        answer = {"hits": {"total": {"value": len(self.hits)}, "hits": self.hits}}
        answers: list[dict[str, Any]] = [answer] * len(self.asked)
        if self.error:
            answers[-1] = {"error": self.error, "status": 400}
        return {"responses": answers}


class Browser:
    """Sends requests to an app and keeps its cookies."""

    def __init__(self, app: FastAPI, cookies: httpx.Cookies | None = None) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.cookies = cookies or httpx.Cookies()

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request."""

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url="https://fraud.example", cookies=self.cookies
            ) as http:
                answer = await http.request(method, path, **more)
                self.cookies = http.cookies
                return answer

        return asyncio.run(send())

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        """Send a POST."""
        return self.request("POST", path, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        """Send a DELETE."""
        return self.request("DELETE", path, **more)


class Site:
    """The API with the live page, and a browser's cookies."""

    def __init__(self, folder: Path, *, keys: bool = True) -> None:
        self.keys = KeyStore(folder)
        self.keys.ensure_first()
        self.opensearch = OpenSearchFake()
        access = Access(self.keys if keys else None, RateLimit(0))
        board = Board(self.opensearch, PSEUDONYMS, lambda: START_MS)  # type: ignore[arg-type]
        self.app = create_app(
            Scoring(an_engine, RecentHistory(1), lambda: None),
            access,
            live_routes(board, Sessions(access, SECRET)),
        )
        self.http = Browser(self.app)

    def key(self, role: Role) -> str:
        return self.keys.create(f"a {role}", role, "the test")[1]

    def sign_in(self, key: str, **headers: str) -> int:
        return self.http.post("/live/session", json={"key": key}, headers=headers).status_code


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


DATA = [
    ("GET", "/live/session", None),
    ("POST", "/live/panels", {}),
    ("POST", "/live/alerts", {}),
    ("GET", "/live/decisions/transactions-0-7", None),
    ("POST", "/live/event", {"event_id": "evt-1"}),
]


@pytest.mark.parametrize(("method", "path", "body"), DATA)
def test_data_needs_a_session(site: Site, method: str, path: str, body: object) -> None:
    """Also with a key as for the API: a page of another site could not send one, nor need it."""
    answer = site.http.request(method, path, json=body)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert site.opensearch.asked == []
    site.http.cookies.set(COOKIE, "forged")
    assert site.http.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), DATA)
def test_a_session_opens_the_data(site: Site, method: str, path: str, body: object) -> None:
    """To analysts and above; what is answered is kept nowhere."""
    site.opensearch.hits = [{"_id": "transactions-0-7", "_source": {"event_id": "evt-1", "fd": {}}}]
    assert site.sign_in(site.key(Role.ANALYST)) == 204
    answer = site.http.request(method, path, json=body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    answer = site.http.post("/live/session", json={"key": site.key(Role.ADMIN)})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Secure", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Path" not in cookie
    (key,) = (key for key in site.keys.all_keys() if key.name == "a admin")
    assert site.http.get("/live/session").json()["name"] == key.name


def test_a_key_that_only_scores_shows_nothing(site: Site) -> None:
    assert site.sign_in(site.key(Role.SCORE)) == 403
    assert COOKIE not in site.http.cookies


@pytest.mark.parametrize("key", ["fs_unknown", " ", "x" * 257, "", None])
def test_what_is_no_key_is_refused_and_not_repeated(site: Site, key: object) -> None:
    answer = site.http.post("/live/session", json={"key": key})
    assert answer.status_code in (401, 422)
    assert "fs_unknown" not in answer.text


def test_a_sign_in_is_short(site: Site) -> None:
    """Anyone may send one: of a long one no more than that is read."""
    for body in (b'{"key":"%s"}' % (b"x" * 4_090), b" " * 5_000):
        assert site.http.post("/live/session", content=body).status_code == 413
    key = site.key(Role.ANALYST)
    longest = b'{"key":"%s"}' % key.encode()
    assert site.http.post("/live/session", content=longest.ljust(4_096)).status_code != 413


def test_a_revoked_key_ends_its_sessions(site: Site) -> None:
    """At once."""
    site.sign_in(site.key(Role.ANALYST))
    assert site.http.get("/live/session").status_code == 200
    (key,) = (key for key in site.keys.all_keys() if key.role is Role.ANALYST)
    site.keys.revoke(key.id)
    assert site.http.get("/live/session").status_code == 401


def test_a_session_ends_with_its_age_and_with_another_secret(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sign_in(site.key(Role.ANALYST))
    with monkeypatch.context() as later:
        later.setattr(session_module, "MAX_AGE_S", -1)
        assert site.http.get("/live/session").status_code == 401
    assert site.http.get("/live/session").status_code == 200
    access = Access(site.keys, RateLimit(0))
    board = Board(site.opensearch, PSEUDONYMS, lambda: START_MS)  # type: ignore[arg-type]
    scoring = Scoring(an_engine, RecentHistory(1), lambda: None)
    app = create_app(scoring, access, live_routes(board, Sessions(access, b"another")))
    other = Browser(app, site.http.cookies)
    assert other.get("/live/session").status_code == 401


def test_signing_out_takes_the_cookie_away(site: Site) -> None:
    site.sign_in(site.key(Role.ANALYST))
    assert site.http.delete("/live/session").status_code == 204
    assert site.http.get("/live/session").status_code == 401


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_another_sites_page_can_do_nothing(site: Site, site_of: str) -> None:
    """Neither sign in, nor out, nor read, even if a browser sent the cookie."""
    foreign = {"sec-fetch-site": site_of}
    key = site.key(Role.ANALYST)
    assert site.sign_in(key, **foreign) == 403
    site.sign_in(key)
    assert site.http.delete("/live/session", headers=foreign).status_code == 403
    assert site.http.post("/live/panels", json={}, headers=foreign).status_code == 403
    assert site.http.get("/live/session", headers={"sec-fetch-site": "same-origin"}).is_success


def test_a_body_that_a_form_could_send_is_refused(site: Site) -> None:
    """Only JSON is read, which takes a script of the page itself."""
    answer = site.http.post("/live/session", data={"key": site.key(Role.ANALYST)})
    assert answer.status_code in (400, 422)
    assert COOKIE not in site.http.cookies


def test_without_keys_nobody_signs_in(tmp_path: Path) -> None:
    site = Site(tmp_path, keys=False)
    assert site.http.get("/live/session").json()["needs_key"] is False
    assert site.http.post("/live/panels", json={}).status_code == 200


def test_the_page_is_open_and_its_policy_strict(site: Site) -> None:
    """Nothing from elsewhere, nothing inline: the policy would refuse it."""
    page = site.http.get("/live")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page.text)
    found = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(found) >= 6
    for address in found:
        assert "//" not in address
        asset = site.http.get(f"/{address}")
        assert asset.status_code == 200, address
        assert asset.headers["x-content-type-options"] == "nosniff"


def test_files_are_fetched_again_only_when_they_changed(site: Site) -> None:
    first = site.http.get("/live/assets/live.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = site.http.get("/live/assets/live.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["..%2froutes.py", "routes.py", "chart.LICENSE.md", "live.html"])
def test_no_other_file_is_served(site: Site, name: str) -> None:
    assert site.http.get(f"/live/assets/{name}").status_code == 404


def test_every_file_of_others_comes_with_its_licence() -> None:
    folder = Path(session_module.__file__).parent / "assets" / "vendor"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "chart.umd.min.js", "chart.LICENSE.md", "countries-110m.json", "world-atlas.LICENSE",
    }  # fmt: skip


def test_the_session_describes_every_panel(site: Site) -> None:
    site.sign_in(site.key(Role.ANALYST))
    described = site.http.get("/live/session").json()["panels"]
    assert [one["id"] for one in described] == [panel.id for panel in PANELS]
    assert all(one["columns"] and one["place"] for one in described)


def filters_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    return body["query"]["bool"]["filter"]  # type: ignore[no-any-return]


def test_filters_reach_every_panel_but_those_of_dead_letters(site: Site) -> None:
    """Which have neither outcome nor entity; the time is for all."""
    site.sign_in(site.key(Role.ANALYST))
    wanted = {"range": "24h", "outcomes": ["block"], "find": "070-69-2161"}
    answer = site.http.post("/live/panels", json=wanted).json()
    assert answer["end_ms"] - answer["start_ms"] == 86_400_000
    assert answer["panels"].keys() == {panel.id for panel in PANELS}
    assert len(site.opensearch.asked) == len(PANELS) + 1
    hashed = PSEUDONYMS.hash("entity_id", "070-69-2161")
    for (head, body), panel in zip(site.opensearch.asked, PANELS, strict=False):
        assert head["index"] == panel.index
        filters = filters_of(body)
        assert any("range" in one for one in filters)
        is_filtered = {"terms": {"fd.outcome": ["block"]}} in filters
        assert is_filtered == (panel.index == "processed_transactions")
        assert (hashed in str(filters)) == is_filtered


def test_a_personal_value_is_looked_for_by_its_hash(site: Site) -> None:
    """In the fields where it may stand, and as it is for who clicks on a hash."""
    site.sign_in(site.key(Role.ANALYST))
    site.http.post("/live/alerts", json={"find": " ada@example.com "})
    ((_, body),) = site.opensearch.asked
    (found,) = (one for one in filters_of(body) if "terms" in str(one))
    terms = {
        field: values
        for one in found["bool"]["should"]
        for field, values in one["terms"].items()
    }  # fmt: skip
    assert terms["email_address"] == [
        "ada@example.com",
        PSEUDONYMS.hash("email_address", "ada@example.com"),
    ]
    assert terms["ip_address"] == ["ada@example.com"]


def test_alerts_are_what_is_not_approved_unless_outcomes_are_chosen(site: Site) -> None:
    site.sign_in(site.key(Role.ANALYST))
    site.http.post("/live/alerts", json={})
    assert "review" in str(filters_of(site.opensearch.asked[0][1]))
    site.http.post("/live/alerts", json={"outcomes": ["approve"]})
    filters = str(filters_of(site.opensearch.asked[0][1]))
    assert "approve" in filters
    assert "review" not in filters


@pytest.mark.parametrize(
    "body",
    [
        {"range": "2h"},
        {"outcomes": ["deny"]},
        {"start": "2026-03-01T00:00:00Z"},
        {"start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:00:00Z"},
        {"start": "2026-03-01T00:00:00", "end": "2026-03-02T00:00:00"},
        {"find": "x" * 1000},
        {"entity": "a"},
    ],
)
def test_filters_that_mean_nothing_are_refused(site: Site, body: dict[str, Any]) -> None:
    site.sign_in(site.key(Role.ANALYST))
    answer = site.http.post("/live/panels", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_time_of_its_own_goes_before_the_range(site: Site) -> None:
    site.sign_in(site.key(Role.ANALYST))
    wanted = {"start": "2026-03-01T02:00:00+02:00", "end": "2026-03-01T01:00:00Z"}
    answer = site.http.post("/live/panels", json=wanted).json()
    assert (answer["start_ms"], answer["end_ms"]) == (START_MS, START_MS + 3_600_000)


def test_opensearch_away_is_said_without_details(site: Site) -> None:
    """Whether it is not there or fails in one search of many."""
    site.sign_in(site.key(Role.ANALYST))
    site.opensearch.problem = OpenSearchConnectionError("N/A", "secret host", Exception("x"))
    answer = site.http.post("/live/panels", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "search_away")
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text
    site.opensearch.problem = None
    site.opensearch.error = {"type": "search_phase_execution_exception", "reason": "070-69-2161"}
    answer = site.http.post("/live/panels", json={})
    assert answer.status_code == 503
    assert "070" not in answer.text


def test_a_decision_that_is_not_there_is_said_so(site: Site) -> None:
    site.sign_in(site.key(Role.ANALYST))
    answer = site.http.get("/live/decisions/transactions-0-7")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    with pytest.raises(NoSuchDecision):
        Board(site.opensearch, PSEUDONYMS, lambda: START_MS).decision("x")  # type: ignore[arg-type]
