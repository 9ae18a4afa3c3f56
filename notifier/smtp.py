"""The mail server: one session for many mails, and its answers as verdicts."""

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
"""For the answer to a whole mail, which content filters look through first (RFC 5321, 4.5.3.2.6): who
hangs up earlier sends it again, and again."""
_MAILS_PER_SESSION: Final = 100
_CLOSING: Final = 421
_PERMANENT: Final = 500
_GO_ON: Final = 354
_TOO_BIG: Final = 552
"""May come before the mail, as an answer to its announced size (RFC 1870)."""
_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
"""A line's first dot, which is doubled on the wire."""
_SIGN_IN_CODES: Final = frozenset({530, 534, 535, 538})
"""Refusals that are about our credentials or encryption, and so about every mail."""


def is_ascii(*addresses: str) -> bool:
    """Return whether addresses, names aside, are those that every mail server takes."""
    return all(parseaddr(address)[1].isascii() for address in addresses)


class _Session(smtplib.SMTP):
    """A session that waits long where it should, and knows whether the server has a whole mail.

    Attributes:
        unanswered: The server has a whole mail, and has not said whether it takes it.
    """

    unanswered = False

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Hand over a mail, with lines that end in CR LF, and give the answer to it."""
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
    """The same, encrypted from the first byte on."""


class SmtpServer:
    """The mail server of the settings. Not thread-safe."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._session: _Session | None = None
        self._sent_in_session = 0

    def send(self, mail: bytes, *, sender: str, recipient: str) -> None:
        """Hand over one mail; returns when the server is responsible for it.

        Args:
            mail: As it goes over the wire, with lines that end in CR LF.
            sender: Address, with or without a name.
            recipient: The same.

        Raises:
            Unreachable: The session could not be opened.
            Unanswered: It has the mail, and did not say whether it takes it.
            ServerUnavailable: It takes no mail from us, or broke off.
            TryLater: This mail cannot be taken now (4xx).
            Refused: This mail will never be taken (5xx).
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
                # About our address or this server's settings: the same for every mail.
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
        """End the session: nothing is to be sent for now."""
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
        # Asking the name service for our full name may take seconds.
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
        """Classify a refusal by its code."""
        if code == _CLOSING or code in _SIGN_IN_CODES:
            self._drop()
            return ServerUnavailable(str(code))
        return TryLater(str(code)) if code < _PERMANENT else MessageRefused(str(code))
