"""The mail catcher's documents are Mailpit's."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from threading import Thread

import httpx
import pytest

from devstack.mail import Mailbox, api_server, details, listing

RECEIVED_MS = 1_790_000_000_123


def a_mail(subject: str = "Blocked", text: str = "plain words") -> bytes:
    message = EmailMessage()
    message["From"] = "Fraudstream <alerts@example.com>"
    message["To"] = "Ada <ada@example.com>, bob@example.com"
    message["Subject"] = subject
    message["Message-ID"] = "<one@example.com>"
    message["Date"] = "Mon, 21 Sep 2026 14:13:20 +0200"
    message.set_content(text)
    message.add_alternative("<p>rich <b>words</b></p>", subtype="html")
    return message.as_bytes()


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "mail.db", max_messages=100)


@pytest.fixture
def api(mailbox: Mailbox) -> Iterator[httpx.Client]:
    with api_server(mailbox, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_address[1]}") as client:
            yield client
        server.shutdown()
        thread.join()


def add(mailbox: Mailbox, subject: str = "Blocked", text: str = "plain words") -> str:
    recipients = ["ada@example.com", "bob@example.com", "hidden@example.com"]
    return mailbox.add("alerts@example.com", recipients, a_mail(subject, text), RECEIVED_MS)


def test_an_item_of_the_list_is_as_mailpit_gives_it(mailbox: Mailbox) -> None:
    """Names, types and values must be those of Mailpit's API, so that tests run on either."""
    message_id = add(mailbox)
    document = listing(mailbox, 0, 50)
    assert {name: document[name] for name in document if name != "messages"} == {
        "total": 1,
        "unread": 1,
        "count": 1,
        "messages_count": 1,
        "messages_unread": 1,
        "start": 0,
        "tags": [],
    }
    (item,) = document["messages"]
    assert item == {
        "ID": message_id,
        "MessageID": "one@example.com",
        "Read": False,
        "From": {"Name": "Fraudstream", "Address": "alerts@example.com"},
        "To": [
            {"Name": "Ada", "Address": "ada@example.com"},
            {"Name": "", "Address": "bob@example.com"},
        ],
        "Cc": [],
        "Bcc": [{"Name": "", "Address": "hidden@example.com"}],
        "ReplyTo": [],
        "Subject": "Blocked",
        "Created": "2026-09-21T14:13:20.123Z",
        "Username": "",
        "Tags": [],
        "Size": len(a_mail()),
        "Attachments": 0,
        "Snippet": "plain words",
    }


def test_a_message_has_both_bodies(mailbox: Mailbox) -> None:
    caught = mailbox.open(add(mailbox))
    assert caught is not None
    document = details(caught)
    assert document["Text"].strip() == "plain words"
    assert "<b>words</b>" in document["HTML"]
    assert document["Date"] == "2026-09-21T14:13:20+02:00"
    assert document["ReturnPath"] == "alerts@example.com"


def test_the_list_is_newest_first_and_paged(mailbox: Mailbox, api: httpx.Client) -> None:
    for number in range(5):
        add(mailbox, f"mail {number}")
    page = api.get("/api/v1/messages", params={"start": 1, "limit": 2}).json()
    assert [one["Subject"] for one in page["messages"]] == ["mail 3", "mail 2"]
    assert (page["total"], page["start"], page["count"]) == (5, 1, 2)


def test_opening_a_message_marks_it_read(mailbox: Mailbox, api: httpx.Client) -> None:
    message_id = add(mailbox)
    assert api.get(f"/api/v1/message/{message_id}").json()["ID"] == message_id
    assert api.get("/api/v1/messages").json()["unread"] == 0
    assert api.get("/api/v1/message/latest").json()["ID"] == message_id


def test_an_unknown_message_is_404(api: httpx.Client) -> None:
    assert api.get("/api/v1/message/nothing").status_code == 404


def test_source_and_headers_are_shown_as_they_came(mailbox: Mailbox, api: httpx.Client) -> None:
    source = a_mail()
    message_id = mailbox.add("alerts@example.com", ["ada@example.com"], source, RECEIVED_MS)
    assert api.get(f"/api/v1/message/{message_id}/raw").content == source
    assert api.get(f"/api/v1/message/{message_id}/headers").json()["Subject"] == ["Blocked"]


def test_delete_removes_the_named_or_all(mailbox: Mailbox, api: httpx.Client) -> None:
    first, second = add(mailbox), add(mailbox)
    api.request("DELETE", "/api/v1/messages", json={"IDs": [first]})
    assert [one.id for one in mailbox.page(0, 10)] == [second]
    assert api.request("DELETE", "/api/v1/messages").text == "ok"
    assert mailbox.counts() == (0, 0)


def test_messages_outlive_the_process(mailbox: Mailbox, tmp_path: Path) -> None:
    message_id = add(mailbox)
    again = Mailbox(tmp_path / "mail.db", max_messages=100)
    assert [one.id for one in again.page(0, 10)] == [message_id]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail.db", max_messages=3)
    ids = [add(mailbox) for _ in range(5)]
    assert [one.id for one in mailbox.page(0, 10)] == ids[:1:-1]


def test_a_caught_page_cannot_run_scripts(mailbox: Mailbox, api: httpx.Client) -> None:
    """What somebody puts into a subject or a body must be shown, not run."""
    message_id = add(mailbox, subject="<script>alert(1)</script>")
    for path in ("/", f"/view/{message_id}", f"/view/{message_id}.html"):
        answer = api.get(path)
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_message_that_is_no_proper_mail_is_shown_too(mailbox: Mailbox, api: httpx.Client) -> None:
    """Bytes that no mail program made must not break the list."""
    mailbox.add("a@example.com", ["b@example.com"], b"\xff\xfe no headers", RECEIVED_MS)
    assert api.get("/api/v1/messages").json()["messages"][0]["Subject"] == ""
    assert api.get("/").status_code == 200
