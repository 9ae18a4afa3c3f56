"""Messages over HTTP: signed JSON of our own, and Slack's.

Signatures are those of the Standard Webhooks specification, which has verifying libraries in many
languages; docs/notifier.md says how to verify one by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from fraud.contracts.dead_letter import utc_text
from notifier.channels import Refused, ServerUnavailable, TryLater
from notifier.ledger import Message
from notifier.routing import Destination
from notifier.wording import Templates

_TIMEOUT_S: Final = 10.0
_LONGEST_RETRY_AFTER_S: Final = 3600.0
_SECTION_CHARACTERS: Final = 2900
"""Slack takes 3,000 in a section, and 50 blocks in a message."""
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


def webhook_document(message: Message, templates: Templates) -> dict[str, Any]:
    """Write a message as our JSON, described in docs/notifier.md. It stays the same between tries."""
    return {
        "id": message.id,
        "type": f"fraudstream.{message.kind}",
        "made_at": utc_text(message.made_ms),
        "subject": templates.subject(message),
        "count": len(message.alerts),
        "alerts": [alert.model_dump(mode="json") for alert in message.alerts],
    }


def slack_document(message: Message, templates: Templates) -> dict[str, Any]:
    """Write a message as the JSON of Slack's incoming webhooks."""
    subject = templates.subject(message)
    sections: list[str] = []
    for line in templates.slack(message).splitlines():
        cut = line[:_SECTION_CHARACTERS]
        if sections and len(sections[-1]) + len(cut) < _SECTION_CHARACTERS:
            sections[-1] += f"\n{cut}"
        elif cut.strip():
            sections.append(cut)
    header = {"type": "plain_text", "text": subject[:_HEADER_CHARACTERS]}
    return {
        "text": subject.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "blocks": [
            {"type": "header", "text": header},
            *({"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in sections),
        ],
    }


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

    def send(self, message: Message, destination: Destination, *, now_ms: int) -> None:
        """Post one message, see `notifier.channels.Transport`."""
        headers = {"content-type": "application/json", "user-agent": "fraudstream"}
        if destination.kind == "slack":
            body = orjson.dumps(slack_document(message, self._templates))
        else:
            body = orjson.dumps(webhook_document(message, self._templates))
            now_s = now_ms // 1000
            headers |= {
                "webhook-id": message.id,
                "webhook-timestamp": str(now_s),
                "webhook-signature": sign(destination.secret, message.id, now_s, body),
            }
        try:
            answer = self._open().post(destination.address, content=body, headers=headers)
        except httpx.InvalidURL as error:
            raise ServerUnavailable("InvalidURL") from error
        except httpx.HTTPError as error:
            raise ServerUnavailable(type(error).__name__) from error
        _judge(answer.status_code, answer.headers)

    def rest(self) -> None:
        """Close the connections."""
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


def _judge(status: int, headers: Mapping[str, str]) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    code = str(status)
    if status in _ABOUT_US:
        raise ServerUnavailable(code, _retry_after_s(headers.get("retry-after", "")))
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TryLater(code)
    raise Refused(code)


def _retry_after_s(text: str) -> float | None:
    """Read the seconds; a date is passed over, our own back-off does."""
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else None
