"""Durations in milliseconds, and times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def utc_text(epoch_ms: int) -> str:
    """Format a time as ISO 8601 in UTC with milliseconds.

    Example:
        >>> utc_text(1_772_323_200_123)
        '2026-03-01T00:00:00.123Z'
    """
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"
