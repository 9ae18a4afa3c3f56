"""What a way of sending promises, and its verdicts."""

from __future__ import annotations

from typing import Protocol

from notifier.ledger import Message
from notifier.routing import Destination


class ServerUnavailable(Exception):  # noqa: N818 - a verdict
    """Nothing can be sent this way now: the server is down, or refuses us altogether.

    Attributes:
        retry_after_s: What the server asked for, seconds; None when it asked for nothing.
    """

    def __init__(self, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s


class TryLater(Exception):  # noqa: N818 - a verdict
    """This message cannot be taken now. Others may pass."""


class Refused(Exception):  # noqa: N818 - a verdict
    """This message will never be taken."""


class Transport(Protocol):
    """A way of sending, for the destinations that share it. Used by one thread."""

    @property
    def name(self) -> str:
        """What it is called in logs, metrics and the ledger."""
        ...

    def send(self, message: Message, destination: Destination, *, now_ms: int) -> None:
        """Hand over one message; returns when the other side is responsible for it.

        Raises:
            ServerUnavailable: Nothing can be sent now.
            TryLater: This message cannot be taken now.
            Refused: This message will never be taken.
        """
        ...

    def rest(self) -> None:
        """End the session: nothing is to be sent for now."""
        ...
