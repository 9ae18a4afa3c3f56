"""Messages over HTTP: signed JSON of our own, and Slack's.

Signatures are those of the Standard Webhooks specification, which has verifying libraries in many
languages; docs/alerts.md says how to verify one by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from fraud.contracts.times import utc_text
from notifier.channels import (
    MessageRefused,
    ServerUnavailable,
    TryLater,
    Unanswered,
    Unreachable,
    writing,
)
from notifier.ledger import OutgoingMessage
from notifier.routing import Destination
from notifier.wording import Templates

_TIMEOUT_S: Final = 10.0
_LONGEST_RETRY_AFTER_S: Final = 3600.0
_MOST_OF_AN_ANSWER: Final = 65_536
"""Bytes of an answer's body that are read, so that the connection can be used again."""
_SECTION_CHARACTERS: Final = 2900
"""Slack takes 3,000 in a section."""
_SECTIONS: Final = 49
"""Slack takes 50 blocks in a message; one is the header."""
_LINK: Final = re.compile(r"<[^<>|]*\|([^<>]*)>")
_HEADER_CHARACTERS: Final = 150
_ABOUT_US: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""Answers that any message would get now."""
_LATER: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY}
)


def sign(secret: bytes, name: str, timestamp_s: int, body: bytes) -> str:
    """Sign a request: HMAC-SHA256 over id, timestamp and body, joined by dots.

    Args:
        secret: The shared key.
        name: Header `webhook-id`.
        timestamp_s: Header `webhook-timestamp`, UTC epoch seconds.
        body: Exactly as sent.

    Returns:
        Header `webhook-signature`.

    Example:
        >>> sign(b"key", "id", 1, b"{}")
        'v1,5PVmP2AfJGwnp9flV+flrzfukNWA9zyUdqvI+IQalVs='
    """
    signed = f"{name}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def webhook_document(message: OutgoingMessage, templates: Templates) -> dict[str, Any]:
    """Write a message as our JSON, described in docs/alerts.md. It stays the same between tries."""
    return {
        "id": message.id,
        "type": f"fraudstream.{message.kind}",
        "made_at": utc_text(message.made_ms),
        "subject": templates.subject(message),
        "count": len(message.alerts),
        "alerts": [alert.model_dump(mode="json") for alert in message.alerts],
    }


def slack_documents(message: OutgoingMessage, templates: Templates) -> list[dict[str, Any]]:
    """Write a message as the JSON of Slack's incoming webhooks: one document, or what it takes more."""
    subject = templates.subject(message)
    sections = _sections(templates.slack(message))
    count = max(1, -(-len(sections) // _SECTIONS))
    documents = []
    for number in range(count):
        part = f" ({number + 1} of {count})" if count > 1 else ""
        title = subject[: _HEADER_CHARACTERS - len(part)] + part
        documents.append(
            {
                "text": title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
                "blocks": [
                    {"type": "header", "text": {"type": "plain_text", "text": title}},
                    *(
                        {"type": "section", "text": {"type": "mrkdwn", "text": text}}
                        for text in sections[number * _SECTIONS : (number + 1) * _SECTIONS]
                    ),
                ],
            }
        )
    return documents


def _sections(text: str) -> list[str]:
    """Put lines together into as few sections as hold them."""
    sections: list[str] = []
    for line in text.splitlines():
        # A link is as long as its letters percent-encoded. Cut short it would lead nowhere.
        whole = line if len(line) <= _SECTION_CHARACTERS else _LINK.sub(r"\1", line)
        for start in range(0, len(whole) or 1, _SECTION_CHARACTERS):
            piece = whole[start : start + _SECTION_CHARACTERS]
            if sections and len(sections[-1]) + len(piece) < _SECTION_CHARACTERS:
                sections[-1] += f"\n{piece}"
            elif piece.strip():
                sections.append(piece)
    return sections


class HttpTransport:
    """Posts to one address, see `notifier.channels.Transport`.

    Args:
        name: What it is called.
        templates: What messages say.
    """

    def __init__(self, name: str, templates: Templates) -> None:
        self.name = name
        self._templates = templates
        self._client: httpx.Client | None = None
        self._taken: dict[str, int] = {}
        """By message id: how many of several requests were taken, before one was not."""

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        """Post one message, see `notifier.channels.Transport`."""
        with writing(message):
            if destination.kind == "slack":
                bodies = [
                    orjson.dumps(document) for document in slack_documents(message, self._templates)
                ]
            else:
                bodies = [orjson.dumps(webhook_document(message, self._templates))]
        for body in bodies[self._taken.get(message.id, 0) :]:
            headers = {"content-type": "application/json", "user-agent": "fraudstream"}
            if destination.kind != "slack":
                now_s = now_ms // 1000
                headers |= {
                    "webhook-id": message.id,
                    "webhook-timestamp": str(now_s),
                    "webhook-signature": sign(destination.secret, message.id, now_s, body),
                }
            try:
                self._post(destination.address, body, headers)
            except httpx.ReadTimeout as error:
                # Slack knows no ids: what it took without saying so it would show once more.
                verdict = Unanswered if destination.kind == "slack" else ServerUnavailable
                raise verdict(type(error).__name__) from error
            except httpx.HTTPError as error:
                raise ServerUnavailable(type(error).__name__) from error
            self._taken[message.id] = self._taken.get(message.id, 0) + 1
        self._taken.pop(message.id, None)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            with self._open().stream("POST", url, content=body, headers=headers) as answer:
                # The status is the answer, whatever body it has and however that is encoded.
                with suppress(httpx.HTTPError):
                    read = 0
                    for chunk in answer.iter_raw():
                        read += len(chunk)
                        if read > _MOST_OF_AN_ANSWER:
                            break
                _raise_refusal(answer.status_code, answer.headers)
        except (
            httpx.InvalidURL,
            httpx.UnsupportedProtocol,
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.ProxyError,
        ) as error:
            raise Unreachable(type(error).__name__) from error

    def rest(self) -> None:
        """Close the connections to the server."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self) -> httpx.Client:
        if self._client is None:
            # A redirect would carry alerts to an address that nobody declared.
            self._client = httpx.Client(
                timeout=_TIMEOUT_S, follow_redirects=False, verify=ssl.create_default_context()
            )
        return self._client


def _raise_refusal(status: int, headers: Mapping[str, str]) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    code = str(status)
    if status in _ABOUT_US:
        raise ServerUnavailable(code, _retry_after_s(headers.get("retry-after", "")))
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TryLater(code)
    raise MessageRefused(code)


def _retry_after_s(text: str) -> float | None:
    """Read the seconds; a date is passed over, our own back-off does."""
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else None
