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


def _elapsed_ns() -> int:
    """Return nanoseconds since the machine was started, those in which it slept included."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


def steady_clock(clock: Clock = system_clock, elapsed_ns: Callable[[], int] = _elapsed_ns) -> Clock:
    """Return a clock that starts at the present time and that nobody can set.

    Waits and ages go by it: a step of the machine's clock would end, prolong or forget them. What
    people and other machines read goes by the machine's clock.

    Args:
        clock: Sets the start.
        elapsed_ns: Monotonic clock, nanoseconds.

    Example:
        >>> elapsed = iter([5_000_000, 7_000_000])
        >>> steady_clock(lambda: 1_000, lambda: next(elapsed))()
        1002
    """
    start_ms, start_ns = clock(), elapsed_ns()
    return lambda: start_ms + (elapsed_ns() - start_ns) // 1_000_000


def to_datetime(epoch_ms: int) -> datetime:
    """Convert UTC epoch milliseconds to an aware datetime.

    Example:
        >>> to_datetime(0).isoformat()
        '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
