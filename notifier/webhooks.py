"""Sends messages over HTTP, as signed webhooks or to Slack.

Signatures follow the Standard Webhooks specification, which has verifying libraries in many
languages; docs/alerts.md explains how to verify one by hand.
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
"""Bytes of a response body that are read, so that the connection can be reused."""
_SECTION_CHARACTERS: Final = 2900
"""Slack accepts 3,000 characters in a section."""
_SECTIONS: Final = 49
"""Slack accepts 50 blocks in a message; one is the header."""
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
"""Statuses that concern every message, not only this one."""
_LATER: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY}
)


def sign(secret: bytes, name: str, timestamp_s: int, body: bytes) -> str:
    """Sign a request: HMAC-SHA256 over id, timestamp and body, joined by dots.

    Args:
        secret: The shared key.
        name: Value of the header `webhook-id`.
        timestamp_s: Value of the header `webhook-timestamp`, UTC epoch seconds.
        body: The request body exactly as sent.

    Returns:
        Value of the header `webhook-signature`.

    Example:
        >>> sign(b"key", "id", 1, b"{}")
        'v1,5PVmP2AfJGwnp9flV+flrzfukNWA9zyUdqvI+IQalVs='
    """
    signed = f"{name}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def webhook_document(message: OutgoingMessage, templates: Templates) -> dict[str, Any]:
    """Render a message as our JSON (see docs/alerts.md); the same for every try."""
    return {
        "id": message.id,
        "type": f"fraudstream.{message.kind}",
        "made_at": utc_text(message.made_ms),
        "subject": templates.subject(message),
        "count": len(message.alerts),
        "alerts": [alert.model_dump(mode="json") for alert in message.alerts],
    }


def slack_documents(message: OutgoingMessage, templates: Templates) -> list[dict[str, Any]]:
    """Render a message as JSON for incoming webhooks of Slack; a long one takes several documents."""
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
    """Join lines into as few sections as possible, none above Slack's limit."""
    sections: list[str] = []
    for line in text.splitlines():
        # Percent-encoding makes links long, and a cut link leads nowhere: keep only its text.
        whole = line if len(line) <= _SECTION_CHARACTERS else _LINK.sub(r"\1", line)
        for start in range(0, len(whole) or 1, _SECTION_CHARACTERS):
            piece = whole[start : start + _SECTION_CHARACTERS]
            if sections and len(sections[-1]) + len(piece) < _SECTION_CHARACTERS:
                sections[-1] += f"\n{piece}"
            elif piece.strip():
                sections.append(piece)
    return sections


class HttpTransport:
    """Posts messages to one address; see `notifier.channels.Transport`.

    Args:
        name: Name of the transport.
        templates: Templates of subjects and of Slack's text.
    """

    def __init__(self, name: str, templates: Templates) -> None:
        self.name = name
        self._templates = templates
        self._client: httpx.Client | None = None
        self._taken: dict[str, int] = {}
        """Number of a message's requests that were accepted before one failed, by message id."""

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        """Post one message; see `notifier.channels.Transport`."""
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
                # Slack has no message ids to drop copies by: if it accepted this request, a retry
                # would show the message twice.
                verdict = Unanswered if destination.kind == "slack" else ServerUnavailable
                raise verdict(type(error).__name__) from error
            except httpx.HTTPError as error:
                raise ServerUnavailable(type(error).__name__) from error
            self._taken[message.id] = self._taken.get(message.id, 0) + 1
        self._taken.pop(message.id, None)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            with self._open().stream("POST", url, content=body, headers=headers) as answer:
                # Only the status counts, so errors while reading the body are ignored.
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
            # A redirect would send alerts to an address that is not configured.
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
    """Parse seconds; return None for a date, where our own back-off is enough."""
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else None
