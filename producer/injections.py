"""Injections into a running world: campaigns of fraud, and drift of the traffic.

Injections are data: with seed and plan they determine everything that happens, so a run can be
repeated exactly from its log of injections. Each has random draws of its own and shifts no others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.times import HOUR_MS, utc_text
from fraud.contracts.transaction import event_time_to_ms
from producer.events import CAMPAIGNS, Campaign, Events
from producer.population import (
    AGENT_KIND,
    CATEGORY_ONLINE,
    NEW_AGENT_KINDS,
    NEW_CATEGORIES,
    TOWN_SIZE,
    Population,
)
from producer.randomness import Floats, Ints, Purpose

TRAFFIC_SHARE: Final = 0.01
"""Fraud that a campaign of intensity 1 adds, as a share of the traffic while it lasts."""
MAX_INTENSITY: Final = 50.0
MAX_MINUTES: Final = 7 * 24 * 60
FOREVER_MS: Final = 2**62
"""End of an injection that was not stopped."""


class Drift(StrEnum):
    """Ways in which traffic may change under a model."""

    INFLATION = "inflation"
    NEW_CATEGORIES = "new_categories"
    NEW_DEVICES = "new_devices"
    ADAPTING = "adapting"


CAMPAIGN_KINDS: Final = tuple(name for name in CAMPAIGNS if name)
CAMPAIGN_MEANINGS: Final = {
    "card_testing": "a bot tries many cards with small amounts and uses the good ones",
    "card_not_present": "stolen card details are used online",
    "account_takeover": "a stranger signs in as the customer and shops",
    "stolen_card": "a lost or stolen card is used at terminals, often far away",
    "merchant_compromise": "cards that were all used at one merchant are used by its thieves",
    "friendly_fraud": "customers dispute what they bought",
    "bust_out": "customers who will not pay spend all there is",
    "mule_ring": "a group of accounts shares devices and addresses",
}
DRIFT_MEANINGS: Final = {
    Drift.INFLATION: "prices rise by a fifth",
    Drift.NEW_CATEGORIES: "a fifth of the online shops turn to goods that nobody sold before",
    Drift.NEW_DEVICES: "three customers in ten change to a kind of device that is new",
    Drift.ADAPTING: "thieves react to what is blocked: smaller amounts, fewer attempts, the victim's device and network",
}
"""Effect of each drift at intensity 1, fully grown."""


@dataclass(frozen=True)
class Injection:
    """One injected campaign or drift.

    Attributes:
        what: `campaign` or `drift`.
        kind: One of `CAMPAIGN_KINDS` or of `Drift`.
        name: Unique name, on which the random draws depend.
        intensity: For a campaign, 1 adds fraud of 1 % of the traffic; for a drift, see
            `DRIFT_MEANINGS`.
        start_ms: Simulated start, UTC epoch milliseconds.
        minutes: Simulated length of a campaign, or of the growth of a drift to full strength.
        effective_ms: Time before which it has no effect; after the start if it was heard late.
        stopped_ms: Time from which it has no effect.
        learns: For a drift `adapting`: whether thieves react to observed decisions
            (`producer/adaptation.py`) instead of growing more careful with time.
    """

    what: str
    kind: str
    name: str
    intensity: float
    start_ms: int
    minutes: float
    effective_ms: int = 0
    stopped_ms: int = FOREVER_MS
    learns: bool = False

    def __post_init__(self) -> None:
        known: Sequence[str] = {"campaign": CAMPAIGN_KINDS, "drift": tuple(Drift)}.get(
            self.what, ()
        )
        if not known:
            raise ValueError(f"what: expected campaign or drift, got {self.what}")
        if self.kind not in known:
            raise ValueError(f"kind: expected one of {', '.join(known)}, got {self.kind}")
        if not 0 < self.intensity <= MAX_INTENSITY:
            raise ValueError(
                f"intensity: expected above 0 to {MAX_INTENSITY:g}, got {self.intensity:g}"
            )
        if not 0 < self.minutes <= MAX_MINUTES:
            raise ValueError(f"minutes: expected above 0 to {MAX_MINUTES}, got {self.minutes:g}")

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the injection among all of them."""
        return self.what, self.name

    @property
    def number(self) -> int:
        """32-bit number that stands for it in random draws."""
        return zlib.crc32(f"{self.what}/{self.kind}/{self.name}".encode())

    @property
    def end_ms(self) -> int:
        """End of a campaign, or time at which a drift is fully grown; UTC epoch milliseconds."""
        return self.start_ms + round(self.minutes * 60_000)

    @property
    def campaign(self) -> Campaign:
        """Kind of fraud of a campaign."""
        return Campaign(CAMPAIGNS.index(self.kind))

    def strength(self, time_ms: Any) -> Floats:
        """Return a drift's strength at each time: while in effect, it grows evenly to `intensity`."""
        times = np.asarray(time_ms)
        grown = np.clip((times - self.start_ms) / (self.end_ms - self.start_ms), 0.0, 1.0)
        on = (times >= self.effective_ms) & (times < self.stopped_ms)
        return np.asarray(np.where(on, grown * self.intensity, 0.0))


def injection_of(document: dict[str, Any], what: str, name: str) -> Injection:
    """Parse an injection from its document.

    Args:
        document: Keys kind, intensity, start, minutes, and optionally effective, stopped and learns.
        what: `campaign` or `drift`.
        name: Name of the injection.

    Raises:
        ValueError: A field is missing or malformed; the message names it and what was expected.
    """

    def number(field: str) -> float:
        value = document.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{field}: expected a number")
        return float(value)

    def moment(field: str, default: int) -> int:
        value = document.get(field)
        if value is None:
            return default
        try:
            return event_time_to_ms(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{field}: expected an ISO 8601 date and time") from None

    if document.get("start") is None:
        raise ValueError("start: expected an ISO 8601 date and time")
    return Injection(
        what, str(document.get("kind")), name, number("intensity"), moment("start", 0),
        number("minutes"), moment("effective", 0), moment("stopped", FOREVER_MS), document.get("learns") is True,
    )  # fmt: skip


def document_of(injection: Injection) -> dict[str, Any]:
    """Return an injection as a document, without `what` and `name`."""
    document: dict[str, Any] = {
        "kind": str(injection.kind),
        "intensity": injection.intensity,
        "start": utc_text(injection.start_ms),
        "minutes": injection.minutes,
    }
    if injection.effective_ms:
        document["effective"] = utc_text(injection.effective_ms)
    if injection.stopped_ms != FOREVER_MS:
        document["stopped"] = utc_text(injection.stopped_ms)
    if injection.learns:
        document["learns"] = True
    return document


def log_line(injection: Injection) -> bytes:
    """Encode an injection as a line of the log."""
    return orjson.dumps(
        {"what": injection.what, "name": injection.name, **document_of(injection)},
        option=orjson.OPT_APPEND_NEWLINE,
    )


def apply_drift(population: Population, events: Events, drifts: Iterable[Injection]) -> None:
    """Apply drifts to events in place; times, ids and the number of events stay the same."""
    for drift in drifts:
        if len(events) and not drift.learns:
            strength = drift.strength(events["time_ms"])
            if strength.any():
                _DRIFTS[Drift(drift.kind)](population, events, strength, drift.number)


def _inflation(_population: Population, events: Events, strength: Floats, _number: int) -> None:
    grown = np.rint(events["amount"] * (1 + 0.2 * strength)).astype(np.int64)
    events["amount"] = np.maximum(grown, 1)


def _new_categories(population: Population, events: Events, strength: Floats, number: int) -> None:
    """Change what merchants sell, one merchant after the other."""
    u = population.draws.uniforms(Purpose.DRIFT, events["merchant"], number)
    turned = CATEGORY_ONLINE[events["category"]] & (u[0] < 0.2 * strength)
    new = NEW_CATEGORIES[(u[1] * len(NEW_CATEGORIES)).astype(np.int64)]
    events["category"] = np.where(turned, new, events["category"])


def _new_devices(population: Population, events: Events, strength: Floats, number: int) -> None:
    """Change the devices of customers, one customer after the other; thieves keep their tools."""
    u = population.draws.uniforms(Purpose.DRIFT, events["customer"], number, 1)
    own = (events["campaign"] == 0) | (events["campaign"] == Campaign.FRIENDLY_FRAUD)
    turned = own & (events["device"] >= 0) & (u[0] < 0.3 * strength)
    kind = NEW_AGENT_KINDS[(u[1] * len(NEW_AGENT_KINDS)).astype(np.int64)]
    # XOR with an odd mask maps devices one to one, and none to itself.
    events["device"] = np.where(turned, events["device"] ^ (number | 1), events["device"])
    events["agent"] = np.where(
        turned, kind * AGENT_KIND + events["agent"] % AGENT_KIND, events["agent"]
    )


def _adapting(population: Population, events: Events, strength: Floats, number: int) -> None:
    """Make fraud resemble the victims' payments; half of it at intensity 1."""
    fraud = events["campaign"] > 0
    fraud &= events["campaign"] != Campaign.FRIENDLY_FRAUD
    rows = np.flatnonzero(fraud)
    if not len(rows):
        return
    ids = events["id"][rows].astype(np.int64)
    u = population.draws.uniforms(Purpose.DRIFT, ids[:, 0], number, ids[:, 1], 2)
    careful = u < 0.5 * strength[rows]
    amount = events["amount"][rows]
    events["amount"][rows] = np.where(
        careful[0], np.maximum((amount * (0.3 + 0.4 * u[3])).astype(np.int64), 1), amount
    )
    imitate(population, events, rows, careful[:3], u[3])


def imitate(
    population: Population, events: Events, rows: Ints, near: NDArray[np.bool_], u: Floats
) -> None:
    """Change fraudulent events in place to resemble their victims' payments.

    Args:
        population: Population of the victims.
        events: All events.
        rows: Indexes of the fraudulent events.
        near: Whether each imitates its victim's contact, device and network, shape (3, rows).
        u: Uniform draws that choose the carrier's address.
    """
    customer, hour = events["customer"][rows], events["time_ms"][rows] // HOUR_MS
    remote = events["device"][rows] >= 0
    device, agent = population.device(customer, hour, np.zeros(len(rows), bool))
    imitated = remote & near[1]
    events["device"][rows] = np.where(imitated, device, events["device"][rows])
    events["agent"][rows] = np.where(imitated, agent, events["agent"][rows])
    carrier = population.carrier_ip(customer // TOWN_SIZE, u)
    events["ip"][rows] = np.where(remote & near[2], carrier, events["ip"][rows])
    events["contact"][rows] = np.where(near[0], 0, events["contact"][rows])


_DRIFTS: Final = {
    Drift.INFLATION: _inflation,
    Drift.NEW_CATEGORIES: _new_categories,
    Drift.NEW_DEVICES: _new_devices,
    Drift.ADAPTING: _adapting,
}
