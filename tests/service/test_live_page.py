"""The live page in a real browser, on a real OpenSearch.

- An analyst signs in with the keyboard alone; a key that only scores is told why it may not.
- What the page shows is what the documents say, and it follows new ones without a reload.
- PageFilters find a personal value by its hash; what is not found says what to do.
- An alert opens its whole record; a link leads to it.
- OpenSearch goes away and comes back; a page that nobody looks at asks nothing.
- It is usable on a phone, in the dark, and by who cannot see it.
"""

from __future__ import annotations

import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from opensearchpy import OpenSearch
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from dashboards.panels import PANELS, Chart
from fraud.contracts.times import HOUR_MS
from fraud.runtime.clock import system_clock
from fraud.runtime.settings import OpenSearchSettings
from fraud.security.api_keys import KeyStore, Role
from fraud.security.principals import RateLimit
from indexer.bulk import connect
from indexer.documents import Document
from indexer.sink import Sink
from scoring_api.access import Access
from scoring_api.app import create_app
from scoring_api.history import RecentHistory
from scoring_api.live.board import Board
from scoring_api.live.routes import live_routes
from scoring_api.live.session import Sessions
from scoring_api.scoring import Scoring
from tests.support.decisions import PSEUDONYMS, dead_letters, documents, processed_records
from tests.support.fakes import an_engine
from tests.support.gate import Gate

pytestmark = pytest.mark.service

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# A time of its own, years ahead, which is "now" for this page: other tests index at other times.
NOW_MS = 1_935_000_000_000
COUNT = 600
PHONE = {"width": 390, "height": 844}
DEADLINE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed; any of {', '.join(NAMES)} will do")
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


class Site:
    """The API with the live page, its documents, and a way to OpenSearch that can be shut."""

    def __init__(self, opensearch: str, folder: Path) -> None:
        address = urlsplit(opensearch)
        assert address.hostname
        assert address.port
        self.gate = Gate(address.hostname, address.port)
        self.keys = KeyStore(folder)
        self.client: OpenSearch = connect(OpenSearchSettings(opensearch_url=opensearch))
        self.sink = Sink(
            self.client, clock=lambda: NOW_MS, rng=random.Random(1), shards=1, replicas=0
        )
        self.documents = documents(
            processed_records(COUNT, NOW_MS - HOUR_MS, HOUR_MS, topic="page")
        )
        self.index([*self.documents, *dead_letters(20, NOW_MS - HOUR_MS, HOUR_MS, topic="page")])
        self.reader = connect(
            OpenSearchSettings(opensearch_url=f"http://127.0.0.1:{self.gate.port}")
        )
        access = Access(self.keys, RateLimit(0))
        board = Board(self.reader, PSEUDONYMS, lambda: NOW_MS)
        app = create_app(
            Scoring(an_engine, RecentHistory(1), lambda: None),
            access,
            live_routes(board, Sessions(access, b"signs the cookies of the tests")),
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/live"
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, name="site"
        )
        self.analyst = self.keys.create("ana", Role.ANALYST, "the test")[1]
        self.scorer = self.keys.create("checkout", Role.SCORE, "the test")[1]

    def index(self, some: list[Document]) -> None:
        """Index documents, to be found at once."""
        self.sink.write(some)
        self.client.indices.refresh(index="processed_transactions*,dead_letters*")

    def __enter__(self) -> Site:
        self.gate.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.gate.shut()
        self.reader.close()
        self.client.close()


@pytest.fixture(scope="module")
def site(
    browser: Browser, opensearch: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with Site(opensearch, tmp_path_factory.mktemp("state")) as site:
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A browser without cookies; whatever the page complains of fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(DEADLINE_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: problems.append(said.text) if "Content Security" in said.text else None,
    )
    elsewhere: list[str] = []

    def look(request: Request) -> None:
        if not request.url.startswith((site.url, "data:")):
            elsewhere.append(request.url)

    page.on("request", look)
    yield page
    context.close()
    assert problems == []
    assert elsewhere == []


def sign_in(page: Page, site: Site, fragment: str = "") -> None:
    page.goto(site.url + fragment)
    page.get_by_label("API key").fill(site.analyst)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#state-text")).to_contain_text("Live")


def card(page: Page, panel: str) -> str:
    return page.locator(f"#panel-{panel} dd").inner_text()


def outcomes(site: Site, *which: str) -> list[Document]:
    return [one for one in site.documents if one.body["fd"]["outcome"] in which]


def test_signing_in_takes_the_keyboard_and_the_right_key(page: Page, site: Site) -> None:
    page.goto(site.url)
    expect(page.get_by_label("API key")).to_be_focused()
    for key, said in (("fs_wrong", "There is no such API key"), (site.scorer, "only scores")):
        page.keyboard.insert_text(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").first).to_contain_text(said)
        page.get_by_label("API key").fill("")
    page.keyboard.insert_text(site.analyst)
    page.keyboard.press("Enter")
    expect(page.locator("#state-text")).to_contain_text("Live")
    expect(page.locator("#main")).to_be_focused()
    page.reload()
    expect(page.locator("#state-text")).to_contain_text("Live")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_the_page_shows_what_the_documents_say(page: Page, site: Site) -> None:
    """Every panel is there and drawn; the numbers are those of the documents."""
    sign_in(page, site)
    blocked = outcomes(site, "block")
    assert card(page, "transactions") == f"{COUNT:,}"
    assert card(page, "blocked") == str(len(blocked))
    rate = f"{len(blocked) / COUNT * 100:.2f}".rstrip("0").rstrip(".")
    assert card(page, "block_rate") == f"{rate}%"
    for panel in PANELS:
        shown = page.locator(f"#panel-{panel.id}")
        expect(shown).to_be_visible()
        if panel.chart is Chart.TABLE:
            expect(shown.locator("tbody tr").first).to_be_visible()
        elif panel.chart is not Chart.METRIC:
            pixels = shown.locator("canvas").evaluate(
                "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
            )
            assert pixels > 10, panel.id
            assert shown.locator("canvas").get_attribute("aria-label")
    table = page.locator("#panel-outcomes")
    table.get_by_role("button", name="Outcomes as a table").click()
    rows = {
        row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text()
        for row in table.locator("tbody tr").all()
    }
    assert rows == {one: str(len(outcomes(site, one))) for one in ("approve", "review", "block")}
    alerts = page.locator("#alerts tbody tr")
    expect(alerts).to_have_count(min(50, len(outcomes(site, "review", "block"))))
    newest = max(
        outcomes(site, "review", "block"), key=lambda one: one.body["fd"]["source"]["timestamp_ms"]
    )
    assert alerts.first.get_attribute("data-id") == newest.id


def test_new_decisions_appear_without_a_reload(page: Page, site: Site) -> None:
    page.clock.install()
    sign_in(page, site)
    page.evaluate("window.sameDocument = true")
    before = int(card(page, "transactions").replace(",", ""))
    new = documents(processed_records(5, NOW_MS - 1000, 999, seed=77, topic=f"new{system_clock()}"))
    site.index(new)
    site.documents += new
    page.clock.run_for(6000)
    expect(page.locator("#panel-transactions dd")).to_have_text(f"{before + 5:,}")
    assert page.evaluate("window.sameDocument") is True


def test_a_page_that_nobody_looks_at_asks_nothing(page: Page, site: Site) -> None:
    """Hidden or paused; it catches up at once when it is looked at again."""
    page.clock.install()
    sign_in(page, site)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.clock.run_for(120_000)
    assert asked == []
    with page.expect_response("**/live/alerts"):
        page.evaluate(hide, False)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state-text")).to_contain_text("Paused")
    asked.clear()
    page.clock.run_for(120_000)
    assert asked == []
    with page.expect_response("**/live/alerts"):
        page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state-text")).to_contain_text("Live")


def test_filters_narrow_down_everything_and_stay_in_the_address(page: Page, site: Site) -> None:
    """Also to a personal id, typed as it is, which the index holds as a hash."""
    sign_in(page, site)
    page.get_by_role("checkbox", name="Block").check()
    expect(page.locator("#panel-transactions dd")).to_have_text(str(len(outcomes(site, "block"))))
    page.get_by_label("Find").fill("101-45-6001")
    page.keyboard.press("Enter")
    hashed = PSEUDONYMS.hash("entity_id", "101-45-6001")
    expected = [one for one in outcomes(site, "block") if one.body["entity_id"] == hashed]
    if expected:
        expect(page.locator("#panel-transactions dd")).to_have_text(str(len(expected)))
    else:
        expect(page.locator("#empty")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Find")).to_have_value("101-45-6001")
    page.locator("#clear").click()
    expect(page.locator("#panel-transactions dd")).to_have_text(f"{len(site.documents):,}")
    mine = [one for one in site.documents if one.body["entity_id"] == hashed]
    page.get_by_label("Find").fill("101-45-6001")
    page.keyboard.press("Enter")
    expect(page.locator("#panel-transactions dd")).to_have_text(str(len(mine)))
    assert "101-45" not in urlsplit(page.url).path + urlsplit(page.url).query


def test_what_is_not_found_says_what_to_do(page: Page, site: Site) -> None:
    sign_in(page, site, "#find=nobody")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#panel-transactions dd")).to_be_visible()
    expect(page.locator("#empty")).to_be_hidden()


def test_an_alert_opens_its_whole_record(page: Page, site: Site) -> None:
    """By the keyboard; Escape closes it and the place in the table is kept."""
    sign_in(page, site)
    row = page.locator("#alerts tbody tr").first
    document = next(one for one in site.documents if one.id == row.get_attribute("data-id"))
    row.get_by_role("button").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("heading", level=2)).to_have_text(
        f"Decision on {document.body['event_id']}"
    )
    for reason in document.body["fd"]["reasons"]:
        expect(dialog.locator(".reasons").get_by_text(reason["text"])).to_be_visible()
    dialog.get_by_text("The whole record").click()
    expect(dialog.locator("pre")).to_contain_text(document.body["event_id"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(f'#alerts tr[data-id="{document.id}"] button')).to_be_focused()


def test_a_link_leads_to_a_decision_and_one_to_nothing_says_so(page: Page, site: Site) -> None:
    """As in the mail of an alert, by document or by event."""
    document = site.documents[0]
    sign_in(page, site, f"#decision={document.id}")
    title = page.get_by_role("dialog").get_by_role("heading", level=2)
    expect(title).to_have_text(f"Decision on {document.body['event_id']}")
    page.goto("about:blank")
    page.goto(f"{site.url}#event={document.body['event_id']}")
    expect(title).to_have_text(f"Decision on {document.body['event_id']}")
    page.goto("about:blank")
    page.goto(f"{site.url}#decision=transactions-9-9")
    expect(page.get_by_role("dialog")).to_contain_text("no such decision")


def test_an_outage_of_opensearch_is_said_and_heals(page: Page, site: Site) -> None:
    """What was there stays in sight."""
    page.clock.install()
    sign_in(page, site)
    site.gate.shut()
    page.clock.run_for(6000)
    expect(page.get_by_text("OpenSearch is not reached.")).to_be_visible()
    expect(page.locator("#state")).to_have_attribute("data-is", "away")
    expect(page.locator("#panel-transactions dd")).to_be_visible()
    site.gate.open()
    end_s = time.monotonic() + DEADLINE_MS / 1000
    while page.locator("#state").get_attribute("data-is") != "live":
        assert time.monotonic() < end_s
        page.clock.run_for(10_000)
        page.wait_for_load_state("networkidle")
    expect(page.get_by_text("OpenSearch is not reached.")).to_be_hidden()


def test_an_empty_index_says_how_to_get_decisions(browser: Browser, site: Site, page: Page) -> None:
    sign_in(page, site)
    nothing = {
        "panels": {panel.id: [[0]] if panel.chart is Chart.METRIC else [] for panel in PANELS}
    }
    span = {"total": 0, "start_ms": NOW_MS - HOUR_MS, "end_ms": NOW_MS, "interval_ms": 60_000}
    page.route("**/live/panels", lambda route: route.fulfill(json=nothing | span))
    page.route("**/live/alerts", lambda route: route.fulfill(json={"total": 0, "items": []}))
    page.reload()
    expect(page.get_by_role("heading", name="No decisions yet")).to_be_visible()
    expect(page.locator("#empty")).to_contain_text("fraudstream replay")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(page: Page, site: Site, scheme: str) -> None:
    """Contrast, names, landmarks, order of headings: of the sign-in, the page and a record."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(site.url)
    expect(page.get_by_label("API key")).to_be_visible()
    found = [Axe().run(page)]
    sign_in(page, site)
    page.get_by_role("button", name="Pause").click()
    found.append(Axe().run(page))
    page.locator("#alerts tbody tr button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found.append(Axe().run(page))
    for results in found:
        assert results.violations_count == 0, results.generate_report()


def test_a_phone_shows_it_without_scrolling_sideways(page: Page, site: Site) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    sign_in(page, site)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) <= PHONE["width"]
    page.locator("#alerts tbody tr button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(width) <= PHONE["width"]
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= PHONE["width"]


def test_the_theme_can_be_chosen_and_is_kept(page: Page, site: Site) -> None:
    sign_in(page, site)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for name in ("light", "dark"):
        page.locator("#theme").click()
        expect(page.locator("#theme")).to_have_text(f"Theme: {name}")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
