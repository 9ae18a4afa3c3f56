"""A clock that moves when somebody waits, and a Kafka that acknowledges at the next poll."""

from __future__ import annotations

import threading
from collections.abc import Callable

import orjson


class Moment(threading.Event):
    """A clock on which waiting takes no time, and an event that stops it at a time."""

    def __init__(self, now_ms: int, stop_ms: int) -> None:
        super().__init__()
        self.now_ms = now_ms
        self.stop_ms = stop_ms

    def clock(self) -> int:
        """Return the time now."""
        return self.now_ms

    def wait(self, timeout: float | None = None) -> bool:
        """Advance the clock by the timeout."""
        assert timeout is not None
        self.now_ms += max(1, round(timeout * 1000))
        if self.now_ms >= self.stop_ms:
            self.set()
        return self.is_set()


class MemoryWriter:
    """Keeps records; acknowledges at the next poll."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.sent: list[tuple[str, bytes | None, bytes | None, int]] = []
        self.waiting: list[Callable[[], None]] = []

    def send(self, topic, key, value, _stop, on_acknowledged=None) -> bool:
        """Keep a record."""
        self.sent.append((topic, key, value, self.moment.now_ms))
        if on_acknowledged is not None:
            self.waiting.append(on_acknowledged)
        return True

    def poll(self) -> None:
        """Acknowledge."""
        waiting, self.waiting = self.waiting, []
        for acknowledge in waiting:
            acknowledge()

    def __len__(self) -> int:
        return len(self.waiting)

    def values(self, topic: str) -> list[dict]:
        """Return what was sent to a topic."""
        return [orjson.loads(value) for to, _, value, _ in self.sent if to == topic]
