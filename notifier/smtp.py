"""The mail server: one session for many mails, and its answers as verdicts."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Final

from fraud.kit.settings import SmtpSettings
from notifier.channels import Refused, ServerUnavailable, TryLater

_TIMEOUT_S: Final = 15.0
_MAILS_PER_SESSION: Final = 100
_CLOSING: Final = 421
_PERMANENT: Final = 500
_SIGN_IN_CODES: Final = frozenset({530, 534, 535, 538})
"""Refusals that are about our credentials or encryption, and so about every mail."""


class SmtpServer:
    """The mail server of the settings. Not thread-safe."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._session: smtplib.SMTP | None = None
        self._sent_in_session = 0

    def send(self, mail: EmailMessage, *, sender: str, recipient: str) -> None:
        """Hand over one mail; returns when the server is responsible for it.

        Raises:
            ServerUnavailable: Nothing can be sent now.
            TryLater: This mail cannot be taken now (4xx).
            Refused: This mail will never be taken (5xx).
        """
        try:
            self._send(self._open(), mail, parseaddr(sender)[1], parseaddr(recipient)[1])
        except smtplib.SMTPSenderRefused as error:
            raise self._verdict(error.smtp_code) from error
        except smtplib.SMTPRecipientsRefused as error:
            raise self._verdict(next(iter(error.recipients.values()))[0]) from error
        except smtplib.SMTPDataError as error:
            raise self._verdict(error.smtp_code) from error
        except smtplib.SMTPResponseException as error:
            # Greeting, EHLO, STARTTLS or sign-in: nothing to do with this mail.
            self._drop()
            raise ServerUnavailable(str(error.smtp_code)) from error
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            raise ServerUnavailable(type(error).__name__) from error
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
    def _send(session: smtplib.SMTP, mail: EmailMessage, sender: str, recipient: str) -> None:
        try:
            session.send_message(mail, from_addr=sender, to_addrs=[recipient])
        except smtplib.SMTPNotSupportedError as error:
            # The address has other letters than ASCII, which this server does not take.
            raise Refused("SMTPUTF8") from error

    def _open(self) -> smtplib.SMTP:
        if self._session is not None:
            return self._session
        settings = self._settings
        # Asking the name service for our full name may take seconds.
        name = socket.gethostname()
        context = ssl.create_default_context(cafile=settings.smtp_ca_certs or None)
        session = (
            smtplib.SMTP_SSL(
                settings.smtp_host, settings.smtp_port, name, timeout=_TIMEOUT_S, context=context
            )
            if settings.smtp_security == "tls"
            else smtplib.SMTP(settings.smtp_host, settings.smtp_port, name, timeout=_TIMEOUT_S)
        )
        self._session, self._sent_in_session = session, 0
        if settings.smtp_security == "starttls":
            session.starttls(context=context)
        if settings.smtp_username:
            session.login(settings.smtp_username, settings.smtp_password.get_secret_value())
        return session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _verdict(self, code: int) -> ServerUnavailable | TryLater | Refused:
        """Judge a refusal by its code."""
        if code == _CLOSING or code in _SIGN_IN_CODES:
            self._drop()
            return ServerUnavailable(str(code))
        return TryLater(str(code)) if code < _PERMANENT else Refused(str(code))
