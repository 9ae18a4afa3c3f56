"""How often a caller may ask."""

from __future__ import annotations

from fraud.security.principals import RateLimit, RateLimited


def test_the_limit_is_a_rate() -> None:
    now_s = 0.0
    limit = RateLimit(10, lambda: now_s)

    def taken() -> int:
        count = 0
        while True:
            try:
                limit.take("a")
            except RateLimited:
                return count
            count += 1

    assert taken() == 10
    now_s = 0.5
    assert taken() == 5
    now_s = 100.0
    assert taken() == 10
