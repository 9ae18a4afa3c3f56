"""The mail server: one session for many mails, and its answers as verdicts."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Final, Protocol

from fraud.kit.settings import SmtpSettings

_TIMEOUT_S: Final = 15.0
_MAILS_PER_SESSION: Final = 100
_SIGN_IN_CODES: Final = frozenset({530, 534, 535, 538})
"""Refusals that are about our credentials or encryption, and so about every mail."""


class ServerUnavailable(Exception):  # noqa: N818 - a verdict
    """No mail can be sent now: the server is down, or refuses us altogether. Wait and try again."""


class TryLater(Exception):  # noqa: N818 - a verdict
    """The server cannot take this mail now (4xx). Others may pass."""


class Refused(Exception):  # noqa: N818 - a verdict
    """The server will never take this mail (5xx)."""


class MailServer(Protocol):
    """What takes mails."""

    def send(self, mail: EmailMessage, *, sender: str, recipients: Sequence[str]) -> int:
        """Hand over one mail; returns when the server is responsible for it.

        Returns:
            How many of the recipients were refused, less than all.

        Raises:
            ServerUnavailable: Nothing can be sent now.
            TryLater: This mail cannot be taken now.
            Refused: This mail will never be taken.
        """
        ...

    def rest(self) -> None:
        """End the session: nothing is to be sent for now."""
        ...


class SmtpServer:
    """The mail server of the settings, see `MailServer`. Not thread-safe."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._session: smtplib.SMTP | None = None
        self._sent_in_session = 0

    def send(self, mail: EmailMessage, *, sender: str, recipients: Sequence[str]) -> int:
        """Hand over one mail, see `MailServer`."""
        try:
            session = self._open()
            refused = session.send_message(
                mail,
                from_addr=parseaddr(sender)[1],
                to_addrs=[parseaddr(recipient)[1] for recipient in recipients],
            )
        except smtplib.SMTPSenderRefused as error:
            raise self._verdict([error.smtp_code]) from error
        except smtplib.SMTPRecipientsRefused as error:
            raise self._verdict([code for code, _ in error.recipients.values()]) from error
        except smtplib.SMTPDataError as error:
            raise self._verdict([error.smtp_code]) from error
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
        return len(refused)

    def rest(self) -> None:
        """End the session, see `MailServer`."""
        session, self._session = self._session, None
        if session is not None:
            try:
                session.quit()
            except (OSError, smtplib.SMTPException):
                session.close()

    def _open(self) -> smtplib.SMTP:
        if self._session is not None:
            return self._session
        settings = self._settings
        # Asking the name service for our full name may take seconds.
        name = socket.gethostname()
        context = ssl.create_default_context()
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

    def _verdict(self, codes: list[int]) -> ServerUnavailable | TryLater | Refused:
        """Judge a refusal by its codes, one per recipient or one for the mail."""
        if 421 in codes or not _SIGN_IN_CODES.isdisjoint(codes):
            self._drop()
            return ServerUnavailable(str(codes[0]))
        # Any recipient that may be served later is reason enough to try later.
        temporary = [code for code in codes if code < 500]
        return TryLater(str(temporary[0])) if temporary else Refused(str(codes[0]))
