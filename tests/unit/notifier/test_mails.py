"""The mail: two bodies, safe headers, and the same Message-ID however often it is sent."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from notifier.alerts import KeyedAlert, read_alert
from notifier.mails import message_id, render_alert
from tests.builders import START_MS, a_processed

SENDER = "Fraudstream <alerts@example.com>"


def a_mail(
    record: dict[str, Any] | None = None, decision: dict[str, Any] | None = None
) -> EmailMessage:
    """Give the mail as its reader gets it: written to bytes, and read again."""
    keyed = read_alert(a_processed(record, decision))
    assert isinstance(keyed, KeyedAlert)
    mail = render_alert(
        keyed.key,
        keyed.alert,
        sender=SENDER,
        recipients=["a@example.com", "b@example.com"],
        sent_at_ms=START_MS,
    )
    read = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def test_both_bodies_tell_the_whole_story() -> None:
    """Text and HTML hold the same facts."""
    mail = a_mail({"event_id": "evt-9"})
    for kind in ("plain", "html"):
        text = body(mail, kind)
        for fact in (
            "24.90 USD", "973", "evt-9", "Stockton, NY", "Many payments within an hour",
            "R002_block version 1: block", "champion abc123", "p-1", "***-**-2161",
            "transactions-0-0", "2026-03-01T00:00:00.000Z",
        ):  # fmt: skip
            assert fact in text, (kind, fact)


def test_headers_are_complete() -> None:
    """Sender, recipients, date, and a subject that says it all."""
    mail = a_mail({"event_id": "evt-9"})
    assert mail["Subject"] == "Payment blocked: 24.90 USD, score 973, event evt-9"
    assert mail["From"] == SENDER
    assert mail["To"] == "a@example.com, b@example.com"
    assert mail["Date"].datetime.timestamp() * 1000 == START_MS
    assert mail["Auto-Submitted"] == "auto-generated"


def test_the_same_alert_has_the_same_message_id() -> None:
    """By it a mail program recognises the one repeat that a crash may cause."""
    one = a_mail({"event_id": "evt-9"}, {"score": 960})
    again = a_mail({"event_id": "evt-9"}, {"score": 970})
    other = a_mail({"event_id": "evt-10"})
    assert one["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert one["Message-ID"].endswith("@example.com>")


def test_an_id_cannot_bring_headers_of_its_own() -> None:
    """Line breaks in an event_id stay inside the subject and the body."""
    mail = a_mail({"event_id": "e1\r\nBcc: thief@example.com\r\n\r\nHello"})
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    assert "e1 Bcc: thief@example.com Hello" in body(mail, "plain")


def test_html_is_escaped() -> None:
    """What a payer writes is text, not markup."""
    mail = a_mail({"merchant_id": "<script>alert(1)</script>", "event_id": "<b>"})
    html = body(mail, "html")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<script>alert(1)</script>" in body(mail, "plain")


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256))
def test_any_id_can_be_mailed(event_id: str, merchant_id: str) -> None:
    """No id breaks a mail or adds a header."""
    mail = a_mail({"event_id": event_id, "merchant_id": merchant_id})
    assert set(mail.keys()) == {
        "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip


def test_a_sender_without_domain_still_gives_a_message_id() -> None:
    """The header must hold an @."""
    assert message_id(bytes(32), "alerts").endswith("@alerts>")
    assert message_id(bytes(32), "").endswith("@localhost>")
