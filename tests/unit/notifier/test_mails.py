"""The mail: two bodies, safe headers, and the same Message-ID however often it is sent."""

from __future__ import annotations

import email
import email.policy
import io
from email.generator import BytesGenerator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.runtime.settings import SmtpSettings
from notifier.alerts import read_alert
from notifier.channels import NotWritten
from notifier.mails import MailTransport, message_id, render_mail
from notifier.planning import MessageKind
from notifier.smtp import SmtpServer
from notifier.wording import Links, Templates, TemplatesError, sample_alert
from tests.support.alerts import OUTCOMES, TEAM, a_destination, a_message, an_alert
from tests.support.builders import START_MS, a_processed

SENDER = "Fraudstream <alerts@example.com>"
TEMPLATES = Templates(
    Links("https://fraud.example.com", "https://dash.example.com"), None, {TEAM: 50}
)


def as_read(message: Any, templates: Templates = TEMPLATES) -> EmailMessage:
    """Return the mail as its reader gets it: written to bytes, and read again."""
    mail = render_mail(
        message, templates, sender=SENDER, recipient="a@example.com", sent_at_ms=START_MS
    )
    wire = io.BytesIO()
    BytesGenerator(wire).flatten(mail, linesep="\r\n")
    assert wire.getvalue() == mail.as_bytes(), "what goes over the wire is what smtplib would write"
    read = email.message_from_bytes(wire.getvalue(), policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def a_mail(
    record: dict[str, Any] | None = None, decision: dict[str, Any] | None = None
) -> EmailMessage:
    keyed = read_alert(a_processed(record, decision), outcomes=OUTCOMES)  # type: ignore[arg-type]
    assert keyed is not None
    return as_read(a_message(keyed.alert))


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
    assert mail["To"] == "a@example.com"
    assert mail["Date"].datetime.timestamp() * 1000 == START_MS
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_review_is_no_block() -> None:
    """Where both are told, they are told apart."""
    mail = a_mail({"event_id": "evt-9"}, {"outcome": "review", "score": 920})
    assert mail["Subject"] == "Payment to review: 24.90 USD, score 920, event evt-9"
    assert "is to be reviewed" in body(mail, "plain")


def test_lists_that_matched_are_named() -> None:
    """By name, use and field, without the value."""
    mail = a_mail(decision={"lists": [{"name": "stolen", "use": "block", "field": "card_bin"}]})
    for kind in ("plain", "html"):
        assert "block list stolen by card_bin" in body(mail, kind)


def test_a_mail_leads_to_the_live_page_and_dashboards() -> None:
    """To its own event, however the event is called."""
    mail = a_mail({"event_id": "a'b\"&c"})
    live = "https://fraud.example.com/live#event=a%27b%22%26c"
    assert live in body(mail, "plain")
    assert live in body(mail, "html")
    assert "https://dash.example.com/app/data-explorer/discover#?" in body(mail, "plain")
    assert "event_id:%22a!%27b%5C%22%26c%22" in body(mail, "plain")
    assert "indexPattern:%27fraudstream-processed-transactions%27" in body(mail, "plain")
    without = as_read(a_message(), Templates(Links()))
    assert "http" not in body(without, "plain")
    assert "<a " not in body(without, "html")


def test_a_digest_tells_of_each_event() -> None:
    """In both bodies; the customer is named once."""
    alerts = [an_alert(number).alert for number in range(12)]
    mail = as_read(a_message(*alerts))
    assert mail["Subject"] == "12 more payments of customer ***-**-2161: 12 blocked"
    for kind in ("plain", "html"):
        for alert in alerts:
            assert alert.event_id in body(mail, kind)


@pytest.mark.parametrize(
    ("kind", "subject", "text"),
    [
        (MessageKind.SUMMARY, "Summary of 3 alerts above the limit of messages: 2 blocked, 1 to review", "3 alerts above the limit of 50 messages an hour"),
        (MessageKind.QUIET, "Quiet hours are over: 3 alerts were held back: 2 blocked, 1 to review", "held back during quiet hours"),
    ],
)  # fmt: skip
def test_what_was_held_back_is_accounted_for(kind: MessageKind, subject: str, text: str) -> None:
    """Counts by outcome and severity, reasons, customers, and every event."""
    alerts = [
        an_alert(1).alert,
        an_alert(2, score=995).alert,
        an_alert(3, entity="b", outcome="review").alert,
    ]
    mail = as_read(a_message(*alerts, kind=kind))
    assert mail["Subject"].strip() == subject  # a folded line begins with a space
    plain = body(mail, "plain")
    for fact in (
        text,
        "1 high, 1 medium, 1 low",
        "2 x ***-**-2161",
        "3 x Many payments within an hour",
    ):
        assert fact in plain
    for kind_of_body in ("plain", "html"):
        assert all(f"evt-{n}" in body(mail, kind_of_body) for n in (1, 2, 3))


def test_templates_can_be_replaced_one_by_one(tmp_path: Path) -> None:
    """A file in the folder wins; the others are ours."""
    (tmp_path / "alert.subject.j2").write_text("ALARM {{ alert.event_id }}\nBcc: x@example.com")
    mail = as_read(a_message(), Templates(Links(), tmp_path))
    assert mail["Subject"] == "ALARM evt-1 Bcc: x@example.com"
    assert mail["Bcc"] is None
    assert "was blocked" in body(mail, "plain")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("alert.txt.j2", "{{ alert.nothing }}", r"alert\.txt\.j2.*nothing"),
        ("digest.html.j2", "\n{% if %}", r"digest\.html\.j2 line 2"),
        ("alarm.txt.j2", "", r"alarm\.txt\.j2: expected one of .*alert\.txt\.j2"),
    ],
)
def test_a_wrong_template_is_named_at_the_start(
    name: str, text: str, problem: str, tmp_path: Path
) -> None:
    """Not when the first alert comes."""
    (tmp_path / name).write_text(text)
    with pytest.raises(TemplatesError, match=problem):
        Templates(Links(), tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not taken for the default."""
    with pytest.raises(TemplatesError, match="expected a folder"):
        Templates(Links(), tmp_path / "nowhere")


def test_a_template_that_fails_on_one_alert_is_stood_in_for_by_ours(tmp_path: Path) -> None:
    """The alert is told all the same."""
    (tmp_path / "alert.txt.j2").write_text("{{ 1 // (alert.event_id != 'evt-9') }}")
    templates = Templates(Links(), tmp_path)
    told = as_read(a_message(sample_alert(merchant="x", event_id="evt-9")), templates)
    assert "Event:     evt-9" in body(told, "plain")


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


HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
}  # fmt: skip


@pytest.mark.parametrize(
    "event_id",
    [
        "=?utf-8?q?x=0D=0AReply-To:_evil@example.com=0D=0A=0D=0A<h1>hello</h1>?=",
        "=?utf-8?b?DQpCY2M6IGV2aWxAZXhhbXBsZS5jb20=?=",
        "x=?utf-8?q?a=0D=0ABcc:_b@c.d?==?utf-8?q?=0D=0A?=",
        "=?utf-8?q?=00=FF=0A?=",
        "=?unknown?b?////?=",
        "=?utf-8*en?q?=E2=80=A8?=",
    ],
)
def test_an_encoded_word_stays_what_it_is(event_id: str) -> None:
    """Its reader sees its letters, and nothing that they may encode."""
    for record in ({"event_id": event_id}, {"entity_id": event_id}):
        alerts = [read_alert(a_processed(record | {"customer_name": event_id})) for _ in range(2)]
        told = [keyed.alert for keyed in alerts if keyed is not None]
        for message in (a_message(told[0]), a_message(*told)):
            mail = as_read(message)
            subject = TEMPLATES.mail(message).subject
            # A header that is folded before its first word is read with one more space.
            assert str(mail["Subject"]).strip() == subject.replace("=?", "= ?")
            assert set(mail.keys()) == HEADERS


words = st.builds(
    "=?{}?{}?{}?=".format,
    st.sampled_from(["utf-8", "us-ascii", "iso-8859-1", "utf-16", "utf-8*en", "none", ""]),
    st.sampled_from("qQbBx"),
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["=0D=0ABcc:_a@b.c", "=0D=0A=0D=0A", "DQpCY2M6IGFAYi5j", "=00", "=ED=A0=80", "==", "="]),
    ),
)  # fmt: skip
ids = st.lists(st.one_of(words, st.text(max_size=60)), min_size=1, max_size=5).map(
    lambda parts: "".join(parts)[:256] or "x"
)


@given(ids, ids, ids)
def test_any_id_can_be_mailed(event_id: str, entity_id: str, merchant_id: str) -> None:
    """No id breaks a mail, adds a header, or is read as something else."""
    record = {"event_id": event_id, "entity_id": entity_id, "merchant_id": merchant_id}
    keyed = read_alert(a_processed(record), outcomes=OUTCOMES)  # type: ignore[arg-type]
    assert keyed is not None
    for message in (a_message(keyed.alert), a_message(keyed.alert, keyed.alert)):
        mail = as_read(message)
        assert set(mail.keys()) == HEADERS
        assert not {"\r", "\n"} & set(str(mail["Subject"]))


def test_a_mail_that_cannot_be_written_is_refused() -> None:
    """Only this one is, before the server hears of it."""
    transport = MailTransport(SmtpServer(SmtpSettings(smtp_port=1)), TEMPLATES, SENDER)
    with pytest.raises(NotWritten, match="UnicodeEncodeError"):
        transport.send(a_message(sample_alert(event_id="\ud800")), a_destination(), now_ms=START_MS)


def test_a_sender_without_domain_still_gives_a_message_id() -> None:
    """The header must hold an @."""
    assert message_id(bytes(32), "alerts").endswith("@alerts>")
    assert message_id(bytes(32), "").endswith("@localhost>")
