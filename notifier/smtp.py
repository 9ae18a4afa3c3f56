"""SMTP client: reuses one session for many mails and maps replies to the errors of `channels`."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from email.utils import parseaddr
from typing import Any, Final

from fraud.runtime.settings import SmtpSettings
from notifier.channels import MessageRefused, ServerUnavailable, TryLater, Unanswered, Unreachable

_TIMEOUT_S: Final = 15.0
_ACCEPTANCE_TIMEOUT_S: Final = 600.0
"""Timeout for the reply to a whole mail, which content filters may delay (RFC 5321, 4.5.3.2.6). A
client that hangs up earlier sends the mail again and again."""
_MAILS_PER_SESSION: Final = 100
_CLOSING: Final = 421
_PERMANENT: Final = 500
_GO_ON: Final = 354
_TOO_BIG: Final = 552
"""May answer MAIL FROM already, if the announced size is too large (RFC 1870)."""
_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
"""Dot at the start of a line, which SMTP doubles on the wire."""
_SIGN_IN_CODES: Final = frozenset({530, 534, 535, 538})
"""Refusals because of our credentials or encryption, which concern every mail."""


def is_ascii(*addresses: str) -> bool:
    """Return whether all addresses, without display names, are ASCII.

    Other addresses need a mail server with SMTPUTF8.
    """
    return all(parseaddr(address)[1].isascii() for address in addresses)


class _Session(smtplib.SMTP):
    """An SMTP session with a longer timeout for the reply to a mail.

    Attributes:
        unanswered: Whether a complete mail was sent and the server's reply is missing.
    """

    unanswered = False

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send the content of a mail, whose lines end in CR LF, and return the server's reply."""
        code, reply = self.docmd("DATA")
        if code != _GO_ON:
            raise smtplib.SMTPDataError(code, reply)
        self.send(_DOT.sub(b"..", msg) + b".\r\n")
        self.unanswered = True
        assert self.sock is not None  # noqa: S101 - for the type checker
        self.sock.settimeout(_ACCEPTANCE_TIMEOUT_S)
        answer = self.getreply()
        self.sock.settimeout(_TIMEOUT_S)
        self.unanswered = False
        return answer


class _TlsSession(_Session, smtplib.SMTP_SSL):
    """A session with TLS from the first byte on."""


class SmtpServer:
    """The mail server of the settings. Not thread-safe."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._session: _Session | None = None
        self._sent_in_session = 0

    def send(self, mail: bytes, *, sender: str, recipient: str) -> None:
        """Send one mail; return once the server has taken responsibility for it.

        Args:
            mail: The mail with its headers; lines end in CR LF.
            sender: Address of the sender, with or without a display name.
            recipient: Address of the recipient, with or without a display name.

        Raises:
            Unreachable: The session could not be opened.
            Unanswered: The whole mail was sent, and the server did not reply.
            ServerUnavailable: The server accepts no mail from us, or the connection broke.
            TryLater: The server does not accept this mail now (4xx).
            MessageRefused: The server will never accept this mail (5xx), or lacks SMTPUTF8.
        """
        try:
            session = self._open()
        except smtplib.SMTPResponseException as error:
            self._drop()
            raise Unreachable(str(error.smtp_code)) from error
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            raise Unreachable(type(error).__name__) from error
        try:
            self._send(session, mail, sender, recipient)
        except smtplib.SMTPSenderRefused as error:
            if error.smtp_code >= _PERMANENT and error.smtp_code != _TOO_BIG:
                # The cause is our address or the server's configuration, so every mail would fail.
                self._drop()
                raise ServerUnavailable(f"{error.smtp_code} for the sender") from error
            raise self._verdict(error.smtp_code) from error
        except smtplib.SMTPRecipientsRefused as error:
            raise self._verdict(next(iter(error.recipients.values()))[0]) from error
        except smtplib.SMTPDataError as error:
            raise self._verdict(error.smtp_code) from error
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            verdict = Unanswered if session.unanswered else ServerUnavailable
            raise verdict(type(error).__name__) from error
        self._sent_in_session += 1
        if self._sent_in_session >= _MAILS_PER_SESSION:
            self.rest()

    def rest(self) -> None:
        """Close the session; the next `send` opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            try:
                session.quit()
            except (OSError, smtplib.SMTPException):
                session.close()

    @staticmethod
    def _send(session: _Session, mail: bytes, sender: str, recipient: str) -> None:
        options: tuple[str, ...] = ()
        if not is_ascii(sender, recipient):
            if not session.has_extn("smtputf8"):
                raise MessageRefused("SMTPUTF8")
            options = ("SMTPUTF8", "BODY=8BITMIME")
        session.sendmail(parseaddr(sender)[1], [parseaddr(recipient)[1]], mail, options)

    def _open(self) -> _Session:
        if self._session is not None:
            return self._session
        settings = self._settings
        # smtplib's default, the full host name, needs a DNS query that may take seconds.
        name = socket.gethostname()
        context = ssl.create_default_context(cafile=settings.smtp_ca_certs or None)
        session = (
            _TlsSession(
                settings.smtp_host, settings.smtp_port, name, timeout=_TIMEOUT_S, context=context
            )
            if settings.smtp_security == "tls"
            else _Session(settings.smtp_host, settings.smtp_port, name, timeout=_TIMEOUT_S)
        )
        self._session, self._sent_in_session = session, 0
        if settings.smtp_security == "starttls":
            session.starttls(context=context)
        if settings.smtp_username:
            session.login(settings.smtp_username, settings.smtp_password.get_secret_value())
        session.ehlo_or_helo_if_needed()
        return session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _verdict(self, code: int) -> ServerUnavailable | TryLater | MessageRefused:
        """Return the error for a reply code; drop the session if the code concerns every mail."""
        if code == _CLOSING or code in _SIGN_IN_CODES:
            self._drop()
            return ServerUnavailable(str(code))
        return TryLater(str(code)) if code < _PERMANENT else MessageRefused(str(code))
