"""Authenticated callers: their identity, their role, and the rate limit of their keys."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fraud.runtime.metrics import RATE_LIMITED
from fraud.security.api_keys import Role
from fraud.security.audit import Actor


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller, with a role.

    Attributes:
        name: Name of the caller's key; `anyone` if keys are switched off.
        role: Role of the key.
        key_id: Id of the key; None if keys are switched off.
    """

    name: str
    role: Role
    key_id: str | None = None

    def actor(self, via: Literal["rest", "afd"]) -> Actor:
        """Return the caller as the audit log names them."""
        return Actor(name=self.name, key_id=self.key_id, role=self.role.value, via=via)


ANYONE: Final = Principal("anyone", Role.ADMIN)
"""The caller of every request when keys are switched off."""


class RateLimited(Exception):
    """The rate limit of a key was exceeded.

    Attributes:
        retry_after_s: Whole seconds until the next request is allowed, at least 1.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RateLimit:
    """Rate limit for each key: a token bucket that holds the requests of one second.

    Args:
        per_s: Requests per second; 0 switches the limit off.
        monotonic_s: Monotonic clock in seconds.
    """

    def __init__(self, per_s: int, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._monotonic_s = monotonic_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> None:
        """Count a request of a key.

        Raises:
            RateLimited: The key exceeded its limit.
        """
        if not self._per_s:
            return
        now_s = self._monotonic_s()
        left, counted_s = self._left.get(key_id, (float(self._per_s), now_s))
        # The bucket refills with the time passed since the last request, up to one second's worth.
        left = min(float(self._per_s), left + (now_s - counted_s) * self._per_s)
        if left < 1:
            self._left[key_id] = (left, now_s)
            RATE_LIMITED.labels(key_id).inc()
            raise RateLimited(max(1, math.ceil((1 - left) / self._per_s)))
        self._left[key_id] = (left - 1, now_s)
