"""Thieves who react to decisions.

While a drift `adapting` of a live stream lasts, the producer notes how decisions on its own
fraud turned out. Thieves of each kind share what they learn: a blocked payment makes them ask for
less, hold back and hide better; a payment that passes makes them ask for more. The log keeps each
observation with the time from which it takes effect, so that the run can be repeated exactly
without any decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.times import utc_text
from fraud.contracts.transaction import event_time_to_ms
from producer.events import CAMPAIGNS, Campaign, Events
from producer.injections import Drift, Injection, imitate, injection_of
from producer.population import Population
from producer.randomness import Floats, Purpose

LESS: Final = 0.92
"""Factor on the amounts that thieves ask for, per blocked payment."""
MORE: Final = 1.015
"""The same factor per payment that passes: amounts settle where one payment in seven is blocked."""
LEAST: Final = 0.1
MOST: Final = 1.5
"""Upper bound of the factor on amounts; `LEAST` is the lower one."""
HIDING: Final = 25.0
"""Blocked payments after which thieves hide in two cases of three; more lead towards always."""
MEMORY: Final = 20.0
"""Time constant, in decisions, of the average share of blocks that makes thieves hold back."""
_HELD_BACK: Final = 0.8
"""Share of the attempts that thieves skip where everything is blocked."""


@dataclass(frozen=True)
class Observed:
    """Decisions that thieves observed in one interval.

    Attributes:
        effective_ms: Time from which thieves act on them, simulated UTC epoch milliseconds.
        seen: Number of blocked and of all decisions, by kind of fraud.
    """

    effective_ms: int
    seen: Mapping[str, tuple[int, int]]


@dataclass
class Lessons:
    """Behaviour that thieves of one kind have learnt.

    Attributes:
        amount: Factor on the amounts that they ask for.
        hiding: Share of the payments in which they imitate their victim.
        held_back: Share of the attempts that they skip.
    """

    amount: float = 1.0
    hiding: float = 0.0
    held_back: float = 0.0
    _blocks: int = field(default=0, repr=False)
    _pressure: float = field(default=0.0, repr=False)

    def learn(self, blocked: int, decided: int) -> None:
        """Update the behaviour after some decisions.

        Example:
            >>> lessons = Lessons()
            >>> lessons.learn(10, 10)
            >>> round(lessons.amount, 2), round(lessons.hiding, 2), round(lessons.held_back, 2)
            (0.43, 0.33, 0.31)
        """
        grown = self.amount * LESS**blocked * MORE ** (decided - blocked)
        self.amount = min(max(grown, LEAST), MOST)
        self._blocks += blocked
        self.hiding = 1 - float(np.exp(-self._blocks / HIDING))
        kept = float(np.exp(-decided / MEMORY))
        self._pressure = kept * self._pressure + (1 - kept) * blocked / max(decided, 1)
        self.held_back = _HELD_BACK * self._pressure


def react(
    population: Population,
    events: Events,
    drifts: Sequence[Injection],
    observed: Sequence[Observed],
) -> Events:
    """Return events after thieves have applied what they learnt; skipped attempts are left out.

    Args:
        population: Population of the victims.
        events: Events in order; they may be changed in place.
        drifts: Drifts; those without `learns` have no effect.
        observed: Observations, oldest first.
    """
    for drift in drifts:
        if drift.learns and len(events):
            lasting = [
                observation
                for observation in observed
                if drift.effective_ms <= observation.effective_ms < drift.stopped_ms
            ]
            if lasting:
                events = _react(population, events, drift, lasting)
    return events


def _react(
    population: Population, events: Events, drift: Injection, observed: Sequence[Observed]
) -> Events:
    thieves = (events["campaign"] > 0) & (events["campaign"] != Campaign.FRIENDLY_FRAUD)
    thieves &= events["time_ms"] < drift.stopped_ms
    rows = np.flatnonzero(thieves)
    # Number of observations in effect at each event; thieves without any act as before.
    known = np.searchsorted(
        [observation.effective_ms for observation in observed], events["time_ms"][rows], "right"
    )
    rows, known = rows[known > 0], known[known > 0] - 1
    if not len(rows):
        return events
    learnt = _learnt(observed)[known, events["campaign"][rows]]
    amount, hiding, held_back = learnt.T
    ids = events["id"][rows].astype(np.int64)
    u = population.draws.uniforms(Purpose.DRIFT, ids[:, 0], drift.number, ids[:, 1], 3)
    asked = events["amount"][rows] * amount**drift.intensity
    events["amount"][rows] = np.maximum(asked.astype(np.int64), 1)
    hidden: NDArray[np.bool_] = u[:3] < hiding * drift.intensity
    imitate(population, events, rows, hidden, u[3])
    # A separate draw keeps skipping an attempt independent of hiding.
    skip = population.draws.uniforms(Purpose.DRIFT, ids[:, 0], drift.number, ids[:, 1], 4)[0]
    made = np.ones(len(events), np.bool_)
    made[rows] = skip >= held_back * drift.intensity
    return np.asarray(events[made])


def _learnt(observed: Sequence[Observed]) -> Floats:
    """Return amount, hiding and held_back after each observation by kind, shape (n, kinds, 3)."""
    lessons = {kind: Lessons() for kind in CAMPAIGNS if kind}
    after = np.empty((len(observed), len(CAMPAIGNS), 3))
    for number, observation in enumerate(observed):
        for kind, (blocked, decided) in observation.seen.items():
            lessons[kind].learn(blocked, decided)
        for kind_number, kind in enumerate(CAMPAIGNS):
            now = lessons.get(kind, Lessons())
            after[number, kind_number] = now.amount, now.hiding, now.held_back
    return after


def _observed_of(document: Mapping[str, Any]) -> Observed:
    try:
        effective_ms = event_time_to_ms(str(document.get("effective")))
    except (ValueError, OverflowError):
        raise ValueError("effective: expected an ISO 8601 date and time") from None
    seen = document.get("seen")
    if not isinstance(seen, dict):
        raise ValueError("seen: expected an object")
    read = {}
    for kind, counts in seen.items():
        if kind not in CAMPAIGNS or not kind:
            raise ValueError(f"seen: expected kinds of fraud, got {kind}")
        match counts:
            case [int(blocked), int(decided)] if 0 <= blocked <= decided:
                read[kind] = (blocked, decided)
            case _:
                raise ValueError(
                    f"seen.{kind}: expected how many were blocked and how many decided"
                )
    return Observed(effective_ms, read)


def learning(drifts: Sequence[Injection], now_ms: int) -> bool:
    """Return whether thieves observe decisions at that time."""
    return any(
        drift.kind == Drift.ADAPTING
        and drift.learns
        and drift.start_ms <= now_ms < drift.stopped_ms
        for drift in drifts
    )


@dataclass(frozen=True)
class LoggedInjections:
    """Contents of an injection log.

    Attributes:
        injections: Injections, each as in the last line with its name.
        observed: Observations of thieves, oldest first.
    """

    injections: tuple[Injection, ...] = ()
    observed: tuple[Observed, ...] = ()


def read_log(path: Path) -> LoggedInjections:
    """Read a log of injections, JSON lines.

    Raises:
        ValueError: A line is malformed; the message names file, line and field.
    """
    found: dict[tuple[str, str], Injection] = {}
    observed: list[Observed] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            document = orjson.loads(line)
            if not isinstance(document, dict):
                raise ValueError("expected a JSON object")
            if document.get("what") == "observed":
                observed.append(_observed_of(document))
                continue
            injection = injection_of(document, str(document.get("what")), str(document.get("name")))
        except ValueError as problem:
            raise ValueError(f"{path.name}, line {number}: {problem}") from None
        found[injection.key] = injection
    return LoggedInjections(tuple(found.values()), tuple(observed))


def observed_line(observed: Observed) -> bytes:
    """Encode an observation as a line of the log."""
    return orjson.dumps(
        {"what": "observed", "effective": utc_text(observed.effective_ms), "seen": observed.seen},
        option=orjson.OPT_APPEND_NEWLINE,
    )
