"""Quiet hours: times of the day at which people are not told. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Self

from fraud.runtime.clock import to_datetime

_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_MAX_CHAIN: Final = 10
"""Spans that may follow on each other without a gap."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Spans of the local day, each from its start (included) to its end (not included).

    Attributes:
        spans: Start and end; a span whose end is before its start goes over midnight.
        zone: Whose local time.
    """

    spans: tuple[tuple[time, time], ...]
    zone: tzinfo

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Self | None:
        """Read spans such as `22:00-07:00`, comma-separated; nothing gives None.

        Raises:
            ValueError: The text is malformed.

        Example:
            >>> QuietHours.parse("22:00-07:00,12:00-13:00", UTC).ends_ms(0) // 3_600_000
            7
        """
        spans = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            found = _SPAN.fullmatch(part)
            if found is None or found.group(1, 2) == found.group(3, 4):
                raise ValueError("expected quiet hours as in 22:00-07:00, comma-separated")
            start_h, start_m, end_h, end_m = (int(number) for number in found.groups())
            spans.append((time(start_h, start_m), time(end_h, end_m)))
        return cls(tuple(spans), zone) if spans else None

    def ends_ms(self, at_ms: int) -> int | None:
        """Return when the quiet that holds at a time ends, None when none holds.

        Args:
            at_ms: UTC epoch milliseconds.

        Returns:
            UTC epoch milliseconds, above `at_ms`.
        """
        end_ms: int | None = None
        for _ in range(_MAX_CHAIN):
            next_ms = self._end_of_span(end_ms or at_ms)
            if next_ms is None:
                break
            end_ms = next_ms
        return end_ms

    def _end_of_span(self, at_ms: int) -> int | None:
        local = to_datetime(at_ms).astimezone(self.zone)
        for start, end in self.spans:
            over_midnight = end < start
            now = local.time()
            inside = now >= start or now < end if over_midnight else start <= now < end
            if inside:
                days = 1 if over_midnight and now >= start else 0
                until = datetime.combine(local.date() + timedelta(days=days), end, self.zone)
                # The hour that comes twice when clocks are set back: the one that is still ahead.
                for fold in (0, 1):
                    end_ms = int(until.replace(fold=fold).astimezone(UTC).timestamp() * 1000)
                    if end_ms > at_ms:
                        return end_ms
        return None
