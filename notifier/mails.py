"""Renders messages as e-mails, in text and HTML, and sends them."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr

from fraud.runtime.clock import to_datetime
from notifier.channels import writing
from notifier.ledger import OutgoingMessage
from notifier.routing import Destination
from notifier.smtp import SmtpServer, is_ascii
from notifier.wording import Templates


def message_id(name: str, sender: str) -> str:
    """Return the Message-ID, which is the same for every try of a message.

    Args:
        name: See `notifier.ledger.OutgoingMessage.id`.
        sender: Address of the sender; its domain becomes that of the Message-ID.

    Example:
        >>> message_id("0f" * 20, "alerts@example.com")
        '<0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f@example.com>'
    """
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    return f"<{name}@{domain}>"


def plain(text: str) -> str:
    """Break up encoded words (RFC 2047) with a space, so that mail readers do not decode them.

    Otherwise an id from outside could smuggle in other text, line breaks or headers.

    Example:
        >>> plain("event =?utf-8?q?x=0D=0ABcc:_a@example.com?=")
        'event = ?utf-8?q?x=0D=0ABcc:_a@example.com?='
    """
    return text.replace("=?", "= ?")


def render_mail(
    message: OutgoingMessage, templates: Templates, *, sender: str, recipient: str, sent_at_ms: int
) -> EmailMessage:
    """Render a message as an e-mail.

    Args:
        message: The message.
        templates: Templates of subject, text and HTML.
        sender: Address of the sender.
        recipient: Address of the recipient.
        sent_at_ms: Time for the Date header, UTC epoch milliseconds.
    """
    wording = templates.mail(message)
    mail = EmailMessage(policy=SMTP if is_ascii(sender, recipient) else SMTPUTF8)
    mail["Subject"] = plain(wording.subject)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Date"] = format_datetime(to_datetime(sent_at_ms))
    mail["Message-ID"] = message_id(message.id, sender)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(wording.text, cte="quoted-printable")
    mail.add_alternative(wording.html, subtype="html", cte="quoted-printable")
    return mail


class MailTransport:
    """Sends messages as e-mails over one mail server; see `notifier.channels.Transport`.

    Args:
        server: The mail server.
        templates: Templates of subject, text and HTML.
        sender: Address of the sender.
    """

    name = "email"

    def __init__(self, server: SmtpServer, templates: Templates, sender: str) -> None:
        self._server = server
        self._templates = templates
        self._sender = sender

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        """Send one mail; see `notifier.channels.Transport`."""
        with writing(message):
            mail = render_mail(
                message,
                self._templates,
                sender=self._sender,
                recipient=destination.address,
                sent_at_ms=now_ms,
            ).as_bytes()
        self._server.send(mail, sender=self._sender, recipient=destination.address)

    def rest(self) -> None:
        """Close the session with the mail server."""
        self._server.rest()
