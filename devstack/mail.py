"""A mail catcher: accepts every e-mail over SMTP, delivers none, and shows them over HTTP.

`python -m devstack.mail` runs it. A message is on disk before it is acknowledged to the sender, and
survives a restart. The API is the part of Mailpit's that this project and its users need: list, one
message, its source and headers, delete, and the health addresses.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re
import secrets
import signal
import sqlite3
import string
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address, AddressHeader
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import Field

from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_logs
from fraud.runtime.settings import ServiceSettings

_ID_ALPHABET: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 22
_SNIPPET_LENGTH: Final = 250
_DEFAULT_LIMIT: Final = 50
_MAX_MESSAGE_BYTES: Final = 25 * 1_048_576

log = structlog.get_logger()


class MailSettings(ServiceSettings):
    """Settings of the mail catcher."""

    smtp_port: int = Field(1025, ge=0, le=65535, description="Port of the mail server.")
    mail_ui_port: int = Field(8025, ge=0, le=65535, description="Port of the mail catcher's page and API.")  # fmt: skip
    mail_max_messages: int = Field(100_000, ge=1, description="Messages kept; the oldest go first.")


@dataclass(frozen=True, slots=True)
class Caught:
    """One message in the mailbox.

    Attributes:
        id: Id in the API, assigned by the mail catcher.
        received_ms: When the message was received, UTC epoch milliseconds.
        sender: Envelope sender.
        recipients: Envelope recipients.
        source: The message as received.
        read: Whether the message has been opened.
    """

    id: str
    received_ms: int
    sender: str
    recipients: tuple[str, ...]
    source: bytes
    read: bool


class Mailbox:
    """The caught messages, in an SQLite file. Safe to use from several threads.

    Args:
        path: The file, created if missing.
        max_messages: Number of messages to keep; the oldest ones are deleted.
    """

    def __init__(self, path: Path, max_messages: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_messages = max_messages
        with closing(self._connect()) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS message (position INTEGER PRIMARY KEY AUTOINCREMENT,"
                " id TEXT UNIQUE NOT NULL, received_ms INTEGER NOT NULL, sender TEXT NOT NULL,"
                " recipients TEXT NOT NULL, source BLOB NOT NULL, read INTEGER NOT NULL)"
            )

    def add(self, sender: str, recipients: Iterable[str], source: bytes, received_ms: int) -> str:
        """Store a message; it is on disk on return.

        Returns:
            Id of the stored message.
        """
        message_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        row = (message_id, received_ms, sender, json.dumps(list(recipients)), source)
        with closing(self._connect()) as database, database:
            position = database.execute(
                "INSERT INTO message (id, received_ms, sender, recipients, source, read)"
                " VALUES (?, ?, ?, ?, ?, 0)",
                row,
            ).lastrowid
            database.execute(
                "DELETE FROM message WHERE position <= ?", ((position or 0) - self._max_messages,)
            )
        return message_id

    def counts(self) -> tuple[int, int]:
        """Return the number of all messages and of unread ones."""
        with closing(self._connect()) as database:
            total, unread = database.execute(
                "SELECT COUNT(*), COALESCE(SUM(read = 0), 0) FROM message"
            ).fetchone()
        return int(total), int(unread)

    def page(self, start: int, limit: int) -> list[Caught]:
        """Return messages, newest first.

        Args:
            start: Number of newest messages to skip, at least 0.
            limit: Maximum number of messages to return.
        """
        with closing(self._connect()) as database:
            rows = database.execute(
                "SELECT id, received_ms, sender, recipients, source, read FROM message"
                " ORDER BY position DESC LIMIT ? OFFSET ?",
                (limit, start),
            ).fetchall()
        return [_caught(row) for row in rows]

    def open(self, message_id: str) -> Caught | None:
        """Return a message by id, or the newest for `latest`, and mark it read; None if missing."""
        with closing(self._connect()) as database, database:
            if message_id == "latest":
                newest = database.execute(
                    "SELECT id FROM message ORDER BY position DESC LIMIT 1"
                ).fetchone()
                message_id = newest[0] if newest else ""
            row = database.execute(
                "SELECT id, received_ms, sender, recipients, source, read FROM message WHERE id = ?",
                (message_id,),
            ).fetchone()
            database.execute("UPDATE message SET read = 1 WHERE id = ?", (message_id,))
        return _caught(row) if row else None

    def delete(self, ids: Iterable[str]) -> None:
        """Delete messages by id; delete all of them if no id is given."""
        chosen = list(ids)
        with closing(self._connect()) as database, database:
            if chosen:
                database.executemany(
                    "DELETE FROM message WHERE id = ?", [(message_id,) for message_id in chosen]
                )
            else:
                database.execute("DELETE FROM message")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)


def _caught(row: tuple[Any, ...]) -> Caught:
    return Caught(row[0], row[1], row[2], tuple(json.loads(row[3])), row[4], bool(row[5]))


def summary(caught: Caught) -> dict[str, Any]:
    """Return a message as an item of Mailpit's list."""
    message = _parse(caught.source)
    text, page = _bodies(message)
    return {
        "ID": caught.id,
        "MessageID": _message_id(message),
        "Read": caught.read,
        "From": (_addresses(message, "From") or [_address("", caught.sender)])[0],
        "To": _addresses(message, "To"),
        "Cc": _addresses(message, "Cc"),
        "Bcc": _blind(message, caught.recipients),
        "ReplyTo": _addresses(message, "Reply-To"),
        "Subject": str(message.get("Subject", "")),
        "Created": _iso(caught.received_ms),
        "Username": "",
        "Tags": [],
        "Size": len(caught.source),
        "Attachments": sum(1 for _ in message.iter_attachments()),
        "Snippet": _snippet(text or _without_tags(page)),
    }


def details(caught: Caught) -> dict[str, Any]:
    """Return a message as Mailpit's API returns a single one."""
    message = _parse(caught.source)
    text, page = _bodies(message)
    listed = summary(caught)
    kept = (
        "ID",
        "MessageID",
        "From",
        "To",
        "Cc",
        "Bcc",
        "ReplyTo",
        "Subject",
        "Username",
        "Tags",
        "Size",
    )
    return {
        **{name: listed[name] for name in kept},
        "ReturnPath": caught.sender,
        "Date": _date(message) or _iso(caught.received_ms),
        "ListUnsubscribe": {"Header": "", "Links": [], "Errors": "", "HeaderPost": ""},
        "Text": text,
        "HTML": page,
        "Inline": [],
        "Attachments": [
            {
                "PartID": str(number),
                "FileName": part.get_filename() or "",
                "ContentType": part.get_content_type(),
                "ContentID": str(part.get("Content-ID", "")).strip("<>"),
                "Size": len(part.get_payload(decode=True) or b""),
            }
            for number, part in enumerate(message.iter_attachments(), start=1)
        ],
    }


def listing(mailbox: Mailbox, start: int, limit: int) -> dict[str, Any]:
    """Return a page of messages in the format of Mailpit's list."""
    total, unread = mailbox.counts()
    return {
        "total": total,
        "unread": unread,
        "count": min(limit, max(0, total - start)),
        "messages_count": total,
        "messages_unread": unread,
        "start": start,
        "tags": [],
        "messages": [summary(caught) for caught in mailbox.page(start, limit)],
    }


def _parse(source: bytes) -> EmailMessage:
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(source)


def _bodies(message: EmailMessage) -> tuple[str, str]:
    plain, page = message.get_body(("plain",)), message.get_body(("html",))
    return (plain.get_content() if plain else "", page.get_content() if page else "")


def _message_id(message: EmailMessage) -> str:
    return str(message.get("Message-ID", "")).strip().strip("<>")


def _address(name: str, address: str) -> dict[str, str]:
    return {"Name": name, "Address": address}


def _addresses(message: EmailMessage, name: str) -> list[dict[str, str]]:
    found: list[Address] = []
    for header in message.get_all(name, []):
        if isinstance(header, AddressHeader):
            found.extend(header.addresses)
    return [_address(address.display_name, address.addr_spec) for address in found]


def _blind(message: EmailMessage, recipients: Iterable[str]) -> list[dict[str, str]]:
    """Return the envelope recipients that neither To nor Cc names."""
    named = {
        person["Address"].lower() for name in ("To", "Cc") for person in _addresses(message, name)
    }
    return [_address("", recipient) for recipient in recipients if recipient.lower() not in named]


def _iso(epoch_ms: int) -> str:
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(message: EmailMessage) -> str | None:
    try:
        return parsedate_to_datetime(str(message["Date"])).isoformat()
    except (TypeError, ValueError):
        return None


def _without_tags(page: str) -> str:
    return html.unescape(re.sub(r"(?s)<(style|script).*?</\1>|<[^>]+>", " ", page))


def _snippet(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SNIPPET_LENGTH else plain[:_SNIPPET_LENGTH] + "..."


class CatchAll:
    """Handler for aiosmtpd that stores each message before accepting it."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Answer 250 once the message is on disk, or 451 (try again later) if storing it failed."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        received_ms = int(datetime.now(UTC).timestamp() * 1000)
        try:
            message_id = await asyncio.to_thread(
                self._mailbox.add, envelope.mail_from or "", envelope.rcpt_tos, content, received_ms
            )
        except sqlite3.Error:
            log.exception("mail.not_kept")
            return "451 cannot keep the message now"
        log.info(
            "mail.caught", id=message_id, size=len(content), recipients_n=len(envelope.rcpt_tos)
        )
        return f"250 2.0.0 OK: queued as {message_id}"


_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Caught mail</title>
<meta http-equiv="refresh" content="10"><style>body{{font:15px system-ui;margin:2rem;max-width:70rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.4rem .8rem .4rem 0;
border-bottom:1px solid #8884}}td{{vertical-align:top}}small{{opacity:.7}}</style>
<h1>Caught mail: {total}</h1><table><tr><th>Received (UTC)<th>To<th>Subject</tr>{rows}</table>"""
_VIEW: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{subject}</title>
<style>body{{font:15px system-ui;margin:2rem;max-width:70rem}}iframe{{width:100%;height:60vh;
border:1px solid #8884}}pre{{white-space:pre-wrap}}</style><p><a href="/">All mail</a>
<h1>{subject}</h1><p>From {sender}, to {to}, {created}{frame}<pre>{text}</pre>"""


def _index_page(mailbox: Mailbox) -> str:
    document = listing(mailbox, 0, _DEFAULT_LIMIT)
    rows = "".join(
        f"<tr><td>{mail['Created'][:19]}<td>{_shown(mail['To'] + mail['Cc'] + mail['Bcc'])}"
        f'<td><a href="/view/{mail["ID"]}">{html.escape(mail["Subject"] or "(none)")}</a>'
        f"<br><small>{html.escape(mail['Snippet'])}</small></tr>"
        for mail in document["messages"]
    )
    return _PAGE.format(total=document["total"], rows=rows)


def _message_page(caught: Caught) -> str:
    document = details(caught)
    frame = f'<iframe sandbox src="/view/{caught.id}.html"></iframe>' if document["HTML"] else ""
    return _VIEW.format(
        subject=html.escape(document["Subject"]),
        sender=_shown([document["From"]]),
        to=_shown(document["To"] + document["Cc"] + document["Bcc"]),
        created=_iso(caught.received_ms),
        frame=frame,
        text=html.escape(document["Text"]),
    )


def _shown(people: list[dict[str, str]]) -> str:
    return html.escape(", ".join(person["Address"] for person in people))


def api_server(mailbox: Mailbox, host: str, port: int) -> ThreadingHTTPServer:
    """Return the HTTP server of page and API; the caller runs and closes it.

    Args:
        mailbox: The messages to show.
        host: Address to listen on.
        port: Port to listen on; 0 means any free one.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            match [unquote(part) for part in address.path.split("/") if part]:
                case []:
                    self._send(200, "text/html", _index_page(mailbox))
                case ["livez" | "readyz"]:
                    self._send(200, "text/plain", "ok")
                case ["view", name]:
                    self._view(name)
                case ["api", "v1", "messages"]:
                    self._list(parse_qs(address.query))
                case ["api", "v1", "info"]:
                    total, unread = mailbox.counts()
                    self._json({"Version": "fraudstream", "Messages": total, "Unread": unread})
                case ["api", "v1", "message", message_id, *rest]:
                    self._message(message_id, rest)
                case _:
                    self._send(404, "text/plain", "not found")

        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if urlsplit(self.path).path != "/api/v1/messages":
                self._send(404, "text/plain", "not found")
                return
            try:
                ids = (json.loads(body) if body.strip() else {}).get("IDs") or []
            except (ValueError, AttributeError):
                self._json({"Error": "the body is not a JSON object"}, 400)
                return
            mailbox.delete(ids)
            self._send(200, "text/plain", "ok")

        def _list(self, query: dict[str, list[str]]) -> None:
            try:
                start = max(0, int(query.get("start", ["0"])[0]))
                limit = max(0, int(query.get("limit", [str(_DEFAULT_LIMIT)])[0]))
            except ValueError:
                self._json({"Error": "start and limit must be whole numbers"}, 400)
                return
            self._json(listing(mailbox, start, limit or _DEFAULT_LIMIT))

        def _message(self, message_id: str, rest: list[str]) -> None:
            caught = mailbox.open(message_id)
            if caught is None:
                self._json({"Error": "message not found"}, 404)
            elif not rest:
                self._json(details(caught))
            elif rest == ["raw"]:
                self._send(200, "text/plain", caught.source)
            elif rest == ["headers"]:
                headers: dict[str, list[str]] = {}
                for name, value in _parse(caught.source).items():
                    headers.setdefault(name, []).append(str(value))
                self._json(headers)
            else:
                self._send(404, "text/plain", "not found")

        def _view(self, name: str) -> None:
            caught = mailbox.open(name.removesuffix(".html"))
            if caught is None:
                self._send(404, "text/plain", "not found")
            elif name.endswith(".html"):
                self._send(200, "text/html", _bodies(_parse(caught.source))[1])
            else:
                self._send(200, "text/html", _message_page(caught))

        def _json(self, document: Any, status: int = 200) -> None:
            self._send(status, "application/json", json.dumps(document))

        def _send(self, status: int, kind: str, body: str | bytes) -> None:
            content = body.encode("utf-8", "replace") if isinstance(body, str) else body
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            # HTML mail may contain anything, so scripts and external content are forbidden.
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; img-src data:",
            )
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing: the page reloads itself and would fill the log."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


async def serve(settings: MailSettings) -> None:
    """Catch mail until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    mailbox = Mailbox(settings.state_dir / "mail" / "mail.db", settings.mail_max_messages)
    handler = CatchAll(mailbox)
    with api_server(mailbox, settings.bind_host, settings.mail_ui_port) as api:
        thread = Thread(target=api.serve_forever, name="api", daemon=True)
        thread.start()
        smtp = await loop.create_server(
            lambda: SMTP(handler, data_size_limit=_MAX_MESSAGE_BYTES, enable_SMTPUTF8=True),
            settings.bind_host,
            settings.smtp_port,
        )
        log.info("mail.started", smtp_port=settings.smtp_port, ui_port=settings.mail_ui_port)
        async with smtp:
            await stop.wait()
        await asyncio.to_thread(api.shutdown)
    log.info("mail.stopped")


def main() -> int:
    """Run the mail catcher."""
    settings = load_settings(MailSettings)
    configure_logs(settings, "mail")
    # aiosmtpd logs every connection and command, with addresses.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
