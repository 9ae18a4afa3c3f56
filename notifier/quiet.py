"""Quiet hours: times of the day at which alerts are held back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Self

from fraud.runtime.clock import to_datetime

_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_MAX_CHAIN: Final = 10
"""Bound on consecutive spans without a gap: spans that cover the whole day would loop for ever."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Spans of the local day, each from its start (included) to its end (not included).

    Attributes:
        spans: Start and end of each; a span whose end is before its start crosses midnight.
        zone: Time zone of the local day.
    """

    spans: tuple[tuple[time, time], ...]
    zone: tzinfo

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Self | None:
        """Parse comma-separated spans such as `22:00-07:00`; return None for an empty text.

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
        """Return the end of the quiet hours that cover a time.

        Args:
            at_ms: UTC epoch milliseconds.

        Returns:
            UTC epoch milliseconds, later than `at_ms`; None when no quiet hours cover it.
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
                # An end in the hour that repeats when clocks are set back: take the first that is
                # still ahead.
                for fold in (0, 1):
                    end_ms = int(until.replace(fold=fold).astimezone(UTC).timestamp() * 1000)
                    if end_ms > at_ms:
                        return end_ms
        return None
