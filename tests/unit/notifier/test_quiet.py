"""Quiet hours hold by the wall clock, over midnight and when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.quiet import QuietHours

BERLIN = ZoneInfo("Europe/Berlin")


def end(text: str, at: str, zone: ZoneInfo | None = None) -> str | None:
    quiet = QuietHours.parse(text, zone or UTC)
    assert quiet is not None
    ends_ms = quiet.ends_ms(int(datetime.fromisoformat(at).timestamp() * 1000))
    return None if ends_ms is None else datetime.fromtimestamp(ends_ms / 1000, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-01T21:59:59Z", None),
        ("2026-03-01T22:00:00Z", "2026-03-02T07:00"),
        ("2026-03-02T00:00:00Z", "2026-03-02T07:00"),
        ("2026-03-02T06:59:59Z", "2026-03-02T07:00"),
        ("2026-03-02T07:00:00Z", None),
    ],
)
def test_a_span_over_midnight_ends_the_next_morning(at: str, expected: str | None) -> None:
    """The start is in it, the end is not."""
    assert end("22:00-07:00", at) == expected


def test_spans_that_follow_each_other_end_together() -> None:
    """Nobody is woken in between."""
    assert end("22:00-06:00,06:00-08:00", "2026-03-01T23:00:00Z") == "2026-03-02T08:00"


def test_local_time_counts() -> None:
    """22:00 in Berlin is 21:00 UTC in winter and 20:00 in summer."""
    assert end("22:00-07:00", "2026-01-10T21:00:00Z", BERLIN) == "2026-01-11T06:00"
    assert end("22:00-07:00", "2026-07-10T20:00:00Z", BERLIN) == "2026-07-11T05:00"


def test_the_hour_that_comes_twice_ends_late() -> None:
    """On 25 October 2026 Berlin has 02:30 twice; within the second one the end is ahead."""
    assert end("22:00-02:30", "2026-10-25T00:10:00Z", BERLIN) == "2026-10-25T00:30"
    assert end("22:00-02:30", "2026-10-25T01:10:00Z", BERLIN) == "2026-10-25T01:30"


@pytest.mark.parametrize("text", ["22-7", "22:00", "24:00-07:00", "22:00-22:00", "22:00-07:00;"])
def test_other_text_is_refused(text: str) -> None:
    """The error says what was expected."""
    with pytest.raises(ValueError, match="as in 22:00-07:00"):
        QuietHours.parse(text, UTC)


def test_nothing_means_never() -> None:
    """An empty setting means no quiet hours."""
    assert QuietHours.parse("", UTC) is None


@given(
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.integers(0, 2**41),
)
def test_an_end_is_ahead_and_not_quiet(
    start: tuple[int, int], stop: tuple[int, int], at_ms: int
) -> None:
    """Whatever is held back until then can go out then."""
    if start == stop:
        return
    text = f"{start[0]:02}:{start[1]:02}-{stop[0]:02}:{stop[1]:02}"
    quiet = QuietHours.parse(text, BERLIN)
    assert quiet is not None
    ends_ms = quiet.ends_ms(at_ms)
    if ends_ms is not None:
        assert at_ms < ends_ms <= at_ms + 26 * 3_600_000
        assert quiet.ends_ms(ends_ms) is None
