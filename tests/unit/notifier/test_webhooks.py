"""Webhooks, to a real HTTP server: signatures, Slack's JSON, and answers as verdicts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from devstack.ports import free_ports
from notifier import webhooks
from notifier.channels import (
    MessageRefused,
    NotWritten,
    ServerUnavailable,
    TryLater,
    Unanswered,
    Unreachable,
)
from notifier.planning import MessageKind
from notifier.routing import Destination
from notifier.webhooks import HttpTransport, slack_documents
from notifier.wording import Links, Templates, sample_alert
from tests.support.alerts import a_destination, a_message, an_alert
from tests.support.receiver import Receiver

TEMPLATES = Templates(Links("https://fraud.example.com", "https://dash.example.com"))
SECRET = bytes(range(32))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    transport = HttpTransport("webhook:cases", TEMPLATES)
    yield transport
    transport.rest()


def to(receiver: Receiver, kind: str = "webhook") -> Destination:
    return a_destination(
        id=f"{kind}:cases", channel="cases", kind=kind, address=receiver.url, secret=SECRET
    )


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def test_a_signature_is_what_the_specification_says(
    receiver: Receiver, transport: HttpTransport
) -> None:
    """Verified by the specification's own library; a changed body, key or old request is refused."""
    transport.send(a_message(), to(receiver), now_ms=now_ms())
    headers, body = receiver.last
    library = Webhook(base64.b64encode(SECRET).decode())
    assert library.verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        library.verify(body.replace(b"evt-1", b"evt-2"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(bytes(32)).decode()).verify(body, headers)
    transport.send(a_message(), to(receiver), now_ms=now_ms() - 3_600_000)
    with pytest.raises(WebhookVerificationError):
        library.verify(receiver.last[1], receiver.last[0])


def test_the_document_tells_of_each_alert_with_masked_data(
    receiver: Receiver, transport: HttpTransport
) -> None:
    """And is the same on each try, under the same id."""
    message = a_message(an_alert(1).alert, an_alert(2).alert)
    for at_ms in (0, 90_000):
        transport.send(message, to(receiver), now_ms=at_ms)
    (first, body), (second, again) = receiver.requests
    assert body == again
    assert first["webhook-id"] == second["webhook-id"] == message.id
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    document = json.loads(body)
    assert (document["type"], document["count"]) == ("fraudstream.digest", 2)
    assert [alert["event_id"] for alert in document["alerts"]] == ["evt-1", "evt-2"]
    assert document["alerts"][0]["entity"] == "***-**-2161"
    for secret in (b"070-69", b"jasonsnyder", b"Dennis", b"Zachary"):
        assert secret not in body


def test_slack_gets_its_own_json(receiver: Receiver, transport: HttpTransport) -> None:
    """A text for notifications, a header, sections; text of a payer is escaped."""
    alert = sample_alert(merchant="<!channel> & <https://x|here>", event_id="evt-9")
    transport.send(a_message(alert), to(receiver, "slack"), now_ms=0)
    headers, body = receiver.last
    document = json.loads(body)
    assert "webhook-signature" not in headers
    assert document["text"].endswith("event evt-9")
    assert document["blocks"][0] == {
        "type": "header",
        "text": {"type": "plain_text", "text": document["text"]},
    }
    text = "\n".join(block["text"]["text"] for block in document["blocks"][1:])
    assert "&lt;!channel&gt; &amp; &lt;https://x|here&gt;" in text
    assert "<https://fraud.example.com/live#event=evt-9|Live page>" in text


@pytest.mark.parametrize("letter", ["x", "日", "&", "\U0001f600"])
def test_the_largest_message_to_slack_is_within_its_bounds(letter: str) -> None:
    """50 blocks of 3,000 characters, as many requests as that takes, with every event in them."""
    alerts = [sample_alert(event_id=f"{number:03}" + letter * 253) for number in range(150)]
    documents = slack_documents(a_message(*alerts, kind=MessageKind.SUMMARY), TEMPLATES)
    assert all(len(document["blocks"]) <= 50 for document in documents)
    headers = [document["blocks"][0]["text"]["text"] for document in documents]
    assert all(len(text) <= 150 for text in headers)
    assert len(set(headers)) == len(headers)
    sections = [block["text"]["text"] for document in documents for block in document["blocks"][1:]]
    assert all(0 < len(text) <= 3000 for text in sections)
    shown = [alert.event_id.replace("&", "&amp;") for alert in alerts]
    assert [sum(event in text for text in sections) for event in shown] == [1] * len(alerts)


def test_what_slack_took_of_a_message_is_not_sent_again(
    receiver: Receiver, transport: HttpTransport
) -> None:
    """A request that fails is tried again, and those before it are not."""
    alerts = [sample_alert(event_id=f"{number:03}" + "日" * 253) for number in range(150)]
    message = a_message(*alerts, kind=MessageKind.SUMMARY)
    bodies = [json.loads(json.dumps(one)) for one in slack_documents(message, TEMPLATES)]
    receiver.statuses = [200, 503]
    with pytest.raises(ServerUnavailable, match="503"):
        transport.send(message, to(receiver, "slack"), now_ms=0)
    transport.send(message, to(receiver, "slack"), now_ms=0)
    got = [json.loads(body) for _, body in receiver.requests]
    assert got == [bodies[0], bodies[1], *bodies[1:]]
    transport.send(message, to(receiver, "slack"), now_ms=0)
    assert len(receiver.requests) == 2 * len(bodies) + 1


def test_the_status_is_the_answer(receiver: Receiver, transport: HttpTransport) -> None:
    """A body that does not hold what its headers say is nothing to us."""
    receiver.headers = {"content-encoding": "gzip"}
    receiver.body = b"this is no gzip"
    transport.send(a_message(), to(receiver), now_ms=0)
    receiver.status = 500
    with pytest.raises(TryLater, match="500"):
        transport.send(a_message(), to(receiver), now_ms=0)


def test_a_message_that_cannot_be_written_is_refused(
    receiver: Receiver, transport: HttpTransport
) -> None:
    """Whatever goes wrong in that, only this message has it, and nothing is posted."""
    broken = sample_alert(event_id="\ud800")
    for kind in ("webhook", "slack"):
        with pytest.raises(NotWritten, match="not written: "):
            transport.send(a_message(broken), to(receiver, kind), now_ms=0)
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("kind", "verdict"), [("webhook", ServerUnavailable), ("slack", Unanswered)]
)
def test_an_answer_that_does_not_come(
    kind: str,
    verdict: type[Exception],
    receiver: Receiver,
    transport: HttpTransport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slack knows no ids, and would show a message once more for each try."""
    monkeypatch.setattr(webhooks, "_TIMEOUT_S", 0.05)
    receiver.answering.clear()
    with pytest.raises(ServerUnavailable, match="ReadTimeout") as found:
        transport.send(a_message(), to(receiver, kind), now_ms=0)
    receiver.answering.set()
    assert type(found.value) is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, None), (204, None),
        (302, MessageRefused), (400, MessageRefused), (404, MessageRefused), (410, MessageRefused), (413, MessageRefused),
        (408, TryLater), (425, TryLater), (500, TryLater), (502, TryLater), (504, TryLater),
        (401, ServerUnavailable), (403, ServerUnavailable), (429, ServerUnavailable), (503, ServerUnavailable),
    ],
)  # fmt: skip
def test_answers_become_verdicts(
    status: int,
    verdict: type[Exception] | None,
    receiver: Receiver,
    transport: HttpTransport,
) -> None:
    """About this message, now or for good, or about all of them."""
    receiver.status = status
    if verdict is None:
        transport.send(a_message(), to(receiver), now_ms=0)
    else:
        with pytest.raises(verdict, match=str(status)):
            transport.send(a_message(), to(receiver), now_ms=0)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("99999", 3600.0), ("soon", None)])
def test_retry_after_is_read(
    text: str, seconds: float | None, receiver: Receiver, transport: HttpTransport
) -> None:
    """In seconds, at most an hour."""
    receiver.status, receiver.headers = 429, {"retry-after": text}
    with pytest.raises(ServerUnavailable) as verdict:
        transport.send(a_message(), to(receiver), now_ms=0)
    assert verdict.value.retry_after_s == seconds


def test_a_server_that_is_not_there_is_unavailable(transport: HttpTransport) -> None:
    """And the verdict does not hold its address, which may be a secret."""
    url = f"http://127.0.0.1:{free_ports(1, '127.0.0.1')[0]}/T/B/secret"
    gone = a_destination(kind="slack", address=url)
    with pytest.raises(Unreachable) as verdict:
        transport.send(a_message(), gone, now_ms=0)
    assert str(verdict.value) == "ConnectError"
