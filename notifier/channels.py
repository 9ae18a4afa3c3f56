"""The interface of transports, and the errors that they raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from notifier.ledger import OutgoingMessage
from notifier.routing import Destination

_log = structlog.get_logger("notifier")


class ServerUnavailable(Exception):
    """The server is down, refuses all our messages, or dropped the connection during this one.

    The fault may lie with the server or with this message; the sender finds out by trying others.

    Attributes:
        retry_after_s: Wait that the server asked for, seconds; None when it asked for none.
    """

    def __init__(self, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s


class Unreachable(ServerUnavailable):
    """The connection could not be opened, so no message is at fault."""


class Unanswered(ServerUnavailable):
    """The whole message was sent and no answer came, so the server may have accepted it.

    Every retry may deliver another copy; retries are therefore few.
    """


class TryLater(Exception):
    """The server does not accept this message now, but may accept others."""


class MessageRefused(Exception):
    """The server will never accept this message."""


class NotWritten(MessageRefused):
    """The message could not be rendered; the server was not involved."""


@contextmanager
def writing(message: OutgoingMessage) -> Iterator[None]:
    """Turn any error of the block, which renders a message, into `NotWritten`.

    Raises:
        NotWritten: The block failed.
    """
    try:
        yield
    except Exception as error:
        _log.exception("notifier.message_not_written", message_id=message.id[:12])
        raise NotWritten(f"not written: {type(error).__name__}") from error


class Transport(Protocol):
    """Sends messages to the destinations that share one server. Used by one thread."""

    @property
    def name(self) -> str:
        """Name of the transport in logs, metrics and the ledger."""
        ...

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        """Send one message; return once the server has taken responsibility for it.

        Raises:
            ServerUnavailable: The server is down or the connection broke.
            TryLater: The server does not accept this message now.
            MessageRefused: The server will never accept this message, or it cannot be rendered.
        """
        ...

    def rest(self) -> None:
        """Close the connection; the next `send` opens a new one."""
        ...
