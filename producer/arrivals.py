"""When and in which form transactions reach Kafka: by default in order and intact.

The fate of a record depends on the seed and its event_id only, so that a disorderly stream is
reproducible and continues unchanged after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.times import HOUR_MS
from producer.events import Events
from producer.labels import SimulatedLabels
from producer.randomness import Draws, Ints, Purpose
from producer.simulation import Slice

MAX_LATE_MS: Final = 2 * HOUR_MS
"""Longest delay of a record; a stream that starts looks back as far."""
_HOURS_BACK: Final = MAX_LATE_MS // HOUR_MS

WHOLE: Final = -1
"""Form of an intact record; other forms are indexes into `_BREAK`."""


@dataclass(frozen=True)
class Disorder:
    """Shares of records, 0-1, that are delayed, repeated or corrupted, drawn independently.

    Attributes:
        out_of_order: Sent 1 to 60 s after their event_time.
        late: Sent 5 minutes to 2 hours after their event_time.
        duplicate: Sent a second time, up to a minute later.
        malformed: Corrupted, so that they become dead letters.
    """

    out_of_order: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    malformed: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share of 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Arrivals:
    """Records of a time span, ordered by when they are sent.

    Attributes:
        events: Transactions.
        labels: Labels of the transactions.
        sent_ms: Time at which each is sent, simulated, UTC epoch milliseconds.
        form: `WHOLE`, or the index of its corruption in `_BREAK`.
        repeated: Whether the same transaction was sent before.
    """

    events: Events
    labels: SimulatedLabels
    sent_ms: Ints
    form: Ints
    repeated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.events)

    def part(self, rows: Any) -> Arrivals:
        """Return a selection of the rows."""
        return Arrivals(
            self.events[rows], self.labels.part(rows), self.sent_ms[rows], self.form[rows], self.repeated[rows]
        )  # fmt: skip

    def between(self, start_ms: int, end_ms: int) -> Arrivals:
        """Return the records sent from `start_ms`, inclusive, to `end_ms`, exclusive."""
        first, last = np.searchsorted(self.sent_ms, [start_ms, end_ms])
        return self.part(slice(int(first), int(last)))


def deliver(draws: Draws, happened: Slice, disorder: Disorder) -> Arrivals:
    """Draw when and in which form each transaction of a slice is sent; return them in that order."""
    events = happened.events
    ids = events["id"].astype(np.int64)
    u = draws.uniforms(Purpose.DELIVERY, ids[:, 0], ids[:, 1], ids[:, 2], ids[:, 3])
    # The coordinates in reverse order yield four more draws for the same id.
    more = draws.uniforms(Purpose.DELIVERY, ids[:, 3], ids[:, 2], ids[:, 1], ids[:, 0])
    late_ms = 300_000 + (more[1] * (MAX_LATE_MS - 361_000)).astype(np.int64)
    near_ms = 1_000 + (more[1] * 59_000).astype(np.int64)
    delay_ms = np.where(u[0] < disorder.out_of_order, near_ms, 0)
    delay_ms = np.where(u[1] < disorder.late, late_ms, delay_ms)
    form = np.where(u[3] < disorder.malformed, (more[0] * len(_BREAK)).astype(np.int64), WHOLE)
    sent_ms = events["time_ms"] + delay_ms
    again = np.flatnonzero(u[2] < disorder.duplicate)
    rows = np.concatenate([np.arange(len(events)), again])
    sent_ms = np.concatenate(
        [sent_ms, sent_ms[again] + 1 + (more[2][again] * 60_000).astype(np.int64)]
    )
    repeated = np.arange(len(rows)) >= len(events)
    order = np.argsort(sent_ms, kind="stable")
    rows = rows[order]
    return Arrivals(
        events[rows], happened.labels.part(rows), sent_ms[order], form[rows], repeated[order]
    )


class ArrivalSchedule:
    """Arrivals by the hour, made from what happened in the hour and shortly before.

    Args:
        hours: Makes the transactions from an hour, inclusive, to another, exclusive.
        draws: Randomness.
        disorder: Shares of disturbed records.
    """

    def __init__(
        self, hours: Callable[[int, int], Slice], draws: Draws, disorder: Disorder
    ) -> None:
        self._hours = hours
        self._draws = draws
        self._disorder = disorder
        self._made: dict[int, Arrivals] = {}

    def hour(self, hour: int) -> Arrivals:
        """Return the records sent in an hour, numbered since 1970."""
        back = _HOURS_BACK if self._disorder != Disorder() else 0
        hours = range(hour - back, hour + 1)
        self._made = {
            h: self._made[h] if h in self._made else deliver(self._draws, self._hours(h, h + 1), self._disorder)
            for h in hours
        }  # fmt: skip
        start_ms = hour * HOUR_MS
        parts = [part.between(start_ms, start_ms + HOUR_MS) for part in self._made.values()]
        if len(parts) == 1:
            return parts[0]
        joined = Arrivals(
            np.concatenate([part.events for part in parts]),
            SimulatedLabels.joined([part.labels for part in parts]),
            np.concatenate([part.sent_ms for part in parts]),
            np.concatenate([part.form for part in parts]),
            np.concatenate([part.repeated for part in parts]),
        )
        return joined.part(np.argsort(joined.sent_ms, kind="stable"))


def written(row: dict[str, Any], form: int) -> bytes:
    """Encode a record, corrupted unless its form is `WHOLE`."""
    return orjson.dumps(row) if form == WHOLE else _BREAK[form](row)


_BREAK: Final[tuple[Callable[[dict[str, Any]], bytes], ...]] = (
    lambda row: orjson.dumps(row)[:-20],
    lambda row: b"\xff\xfe" + orjson.dumps(row),
    lambda row: orjson.dumps([row]),
    lambda row: orjson.dumps({k: v for k, v in row.items() if k != "transaction_amt"}),
    lambda row: orjson.dumps(row | {"transaction_amt": "twelve"}),
    lambda row: orjson.dumps(row | {"event_time": "yesterday"}),
    lambda row: orjson.dumps(row | {"transaction_currency": "DOLLARS"}),
    lambda _row: b"",
)
