"""The clock that functions take as an argument, so that tests can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns the current time, UTC epoch milliseconds."""


def system_clock() -> int:
    """Return the machine's time, UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000


def to_datetime(epoch_ms: int) -> datetime:
    """Convert UTC epoch milliseconds to an aware datetime.

    Example:
        >>> to_datetime(0).isoformat()
        '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
