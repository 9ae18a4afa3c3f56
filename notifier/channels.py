"""What a way of sending promises, and its verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from notifier.ledger import OutgoingMessage
from notifier.routing import Destination

_log = structlog.get_logger("notifier")


class ServerUnavailable(Exception):
    """The server is down, refuses us altogether, or broke off with this message in hand.

    Any other message may fare the same, or only this one: who sends finds out by trying others.

    Attributes:
        retry_after_s: What the server asked for, seconds; None when it asked for nothing.
    """

    def __init__(self, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s


class Unreachable(ServerUnavailable):
    """There was not even a session, so that no message is at fault."""


class Unanswered(ServerUnavailable):
    """The whole message was handed over, and no answer came: the server may have taken it.

    Each further try may be one more copy of it, so that they are few.
    """


class TryLater(Exception):
    """This message cannot be taken now. Others may pass."""


class MessageRefused(Exception):
    """This message will never be taken."""


class NotWritten(MessageRefused):
    """This message cannot be written, which says nothing of the server."""


@contextmanager
def writing(message: OutgoingMessage) -> Iterator[None]:
    """Write one message in there: what goes wrong is a refusal of this message, and of no other.

    Raises:
        NotWritten: Writing it failed.
    """
    try:
        yield
    except Exception as error:
        _log.exception("notifier.message_not_written", message_id=message.id[:12])
        raise NotWritten(f"not written: {type(error).__name__}") from error


class Transport(Protocol):
    """A way of sending, for the destinations that share it. Used by one thread."""

    @property
    def name(self) -> str:
        """What it is called in logs, metrics and the ledger."""
        ...

    def send(self, message: OutgoingMessage, destination: Destination, *, now_ms: int) -> None:
        """Hand over one message; returns when the other side is responsible for it.

        Raises:
            ServerUnavailable: It, and maybe nothing, can be sent now.
            TryLater: This message cannot be taken now.
            Refused: This message will never be taken.
        """
        ...

    def rest(self) -> None:
        """End the session: nothing is to be sent for now."""
        ...
