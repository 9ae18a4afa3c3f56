"""Callers that were let in: who they are, what they may do, and how often they may ask."""

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
    """A caller whose key was found to be in use.

    Attributes:
        name: Of the key; `anyone` when keys are switched off.
        role: What they may do.
        key_id: None when keys are switched off.
    """

    name: str
    role: Role
    key_id: str | None = None

    def actor(self, via: Literal["rest", "afd"]) -> Actor:
        """Return who they are in the audit log."""
        return Actor(name=self.name, key_id=self.key_id, role=self.role.value, via=via)


ANYONE: Final = Principal("anyone", Role.ADMIN)
"""The caller of every request when keys are switched off."""


class RateLimited(Exception):
    """The key asks too often.

    Attributes:
        retry_after_s: Whole seconds until it may ask again, at least 1.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RateLimit:
    """A limit of requests per second for each key, as a bucket that holds a second's worth.

    Args:
        per_s: Requests a second; 0 is no limit.
        monotonic_s: Seconds that only go forward.
    """

    def __init__(self, per_s: int, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._monotonic_s = monotonic_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> None:
        """Count a request.

        Raises:
            RateLimited: There were too many.
        """
        if not self._per_s:
            return
        now_s = self._monotonic_s()
        left, counted_s = self._left.get(key_id, (float(self._per_s), now_s))
        left = min(float(self._per_s), left + (now_s - counted_s) * self._per_s)
        if left < 1:
            self._left[key_id] = (left, now_s)
            RATE_LIMITED.labels(key_id).inc()
            raise RateLimited(max(1, math.ceil((1 - left) / self._per_s)))
        self._left[key_id] = (left - 1, now_s)
