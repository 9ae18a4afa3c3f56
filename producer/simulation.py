"""The simulated world as a pure function: the same code makes training history and live stream.

`simulate(world, seed, plan, t0, t1)` yields the ordered transactions of a time span, their hidden
truth, and when each label becomes known. The events of an hour depend on seed, plan and that hour
only: they are the same whether it is reached from yesterday, from last year, or alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import DAY_MS, HOUR_MS
from producer.adaptation import Observed, react
from producer.campaigns import MIX, FraudTraffic
from producer.events import HOURS_A_DAY, Campaign, Channel, Events, in_order, join
from producer.injections import TRAFFIC_SHARE, Injection, apply_drift
from producer.labels import SimulatedLabels, label
from producer.legitimate_traffic import (
    RETRY_SHARE,
    SPREE_SHARE,
    SUBSCRIPTION_HOURS,
    SUBSCRIPTION_SHARE,
    SUBSCRIPTIONS,
    LegitimateTraffic,
)
from producer.population import TOWN_SIZE, City, Pools, Population, load_pools, read_places
from producer.randomness import Draws, Purpose

DEFAULT_PREVALENCE: Final = 0.005
PREVALENCES: Final[Mapping[str, float]] = MappingProxyType(
    {"low": 0.001, "default": DEFAULT_PREVALENCE, "high": 0.02, "extreme": 0.06}
)
"""Fraudulent shares by name: a well guarded shop, the usual one, one under attack, the worst case."""
MAX_CUSTOMERS: Final = 2**31
"""Customer numbers are 32-bit coordinates of draws; the upper half numbers thieves' tools."""
_KEPT_HOURS: Final = 4
"""Hours kept: the two that a stream with late records looks back, the current one, the next one."""
_KEPT_EVENTS: Final = 150_000
"""Most events of an hour for it to be kept: 16 MB."""
_ONLINE_SHARE: Final = 0.34
"""Share of the legitimate payments that can be friendly fraud, measured with the defaults."""


def prevalence_of(text: str) -> float:
    """Parse a fraudulent share: a name of `PREVALENCES`, or a number.

    Raises:
        ValueError: The text is neither.
    """
    if text in PREVALENCES:
        return PREVALENCES[text]
    try:
        return float(text)
    except ValueError:
        names = ", ".join(PREVALENCES)
        raise ValueError(f"prevalence: expected {names} or a number, got {text}") from None


@dataclass(frozen=True)
class World:
    """Ingredients of a world: cities, and the words from which people are composed."""

    pools: Pools
    places: tuple[City, ...] = field(default_factory=read_places)

    @classmethod
    def load(cls, seed: int, cache: Path | None = None) -> World:
        """Generate a world with Faker, or read it from the cache.

        Args:
            seed: Seed of the words.
            cache: Cache folder; None caches nothing.
        """
        return cls(load_pools(seed, cache))


@dataclass(frozen=True)
class SimulationPlan:
    """Plan of a simulation: its size, pace, fraud and injections.

    Attributes:
        customers: Number of customers; None means as many as `rate` needs.
        rate: Transactions a second, on average over a week; None means the customers' natural
            pace. Together with `customers` it forces their pace: good for load tests, but no
            behaviour that a model could learn from.
        prevalence: Fraudulent share of the transactions, 0-1.
        mix: Share of each kind of fraud.
        injections: Injected campaigns and drifts.
        observed: Decisions that thieves observed.
    """

    customers: int | None = 2_000
    rate: float | None = None
    prevalence: float = DEFAULT_PREVALENCE
    mix: Mapping[Campaign, float] = field(default_factory=lambda: MIX)
    injections: tuple[Injection, ...] = ()
    observed: tuple[Observed, ...] = ()

    def __post_init__(self) -> None:
        if self.customers is None and self.rate is None:
            raise ValueError("a plan needs customers, a rate, or both")
        if self.customers is not None and not 1 <= self.customers <= MAX_CUSTOMERS:
            raise ValueError(f"customers must be 1 to {MAX_CUSTOMERS}, got {self.customers}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")
        if not 0 <= self.prevalence < 0.5:
            raise ValueError(f"prevalence must be 0 to 0.5, got {self.prevalence}")
        if min(self.mix.values(), default=0) < 0 or not sum(self.mix.values()) > 0:
            raise ValueError("mix must have shares of at least 0, and one above it")


@dataclass(frozen=True)
class Slice:
    """Consecutive time span of the world.

    Attributes:
        events: Transactions, ordered; `campaign` and `campaign_id` are the hidden truth.
        labels: Labels of the transactions, in the same order.
    """

    events: Events
    labels: SimulatedLabels

    def between(self, start_ms: int, end_ms: int) -> Slice:
        """Return the part from `start_ms`, inclusive, to `end_ms`, exclusive."""
        first, last = np.searchsorted(self.events["time_ms"], [start_ms, end_ms])
        part = slice(int(first), int(last))
        return Slice(self.events[part], self.labels.part(part))


class Process:
    """World in motion, which generates any hours on demand.

    Args:
        world: Ingredients of the world.
        seed: Seed of all random draws.
        plan: Plan of the simulation.
    """

    def __init__(self, world: World, seed: int, plan: SimulationPlan) -> None:
        self.draws = Draws(seed)
        self.population = Population(self.draws, world.pools, world.places)
        self.plan = plan
        a_day = _payments_a_day(self.population, 20_000)
        pace = 1.0
        if plan.customers is not None and plan.rate is not None:
            own = _payments_a_day(self.population, min(plan.customers, 20_000))
            pace = plan.rate * 86_400 * (1 - plan.prevalence) / (plan.customers * own)
        a_day *= pace
        self.customers = plan.customers or 1
        """Number of customers: the plan's, or as many as the rate needs on average over a week."""
        if plan.customers is None:
            assert plan.rate is not None  # noqa: S101 - Plan has checked it
            wanted = plan.rate * 86_400 * (1 - plan.prevalence) / a_day
            self.customers = min(max(1, round(wanted)), MAX_CUSTOMERS)
        self._legitimate = LegitimateTraffic(self.draws, self.population, pace)
        odds = plan.prevalence / (1 - plan.prevalence)
        total = sum(plan.mix.values())
        friendly = plan.mix.get(Campaign.FRIENDLY_FRAUD, 0.0) / total
        residents = min(self.customers, TOWN_SIZE)
        self._fraud_traffic = FraudTraffic(
            self.draws, self.population, a_day * odds, residents, plan.mix
        )
        self._friendly = plan.prevalence * friendly / _ONLINE_SHARE
        self._a_day = a_day / (1 - plan.prevalence)
        self._injected: dict[tuple[str, str], Events] = {}
        self._unaffected: OrderedDict[tuple[int, int], Events] = OrderedDict()

    def with_injections(
        self, injections: tuple[Injection, ...], observed: tuple[Observed, ...] = ()
    ) -> Process:
        """Return the same world with other injections; both share state, so use only one at a time."""
        process = copy(self)
        process.plan = replace(self.plan, injections=injections, observed=observed)
        # Injected fraud is generated anew; the rest depends on no injection and is shared.
        if injections != self.plan.injections:
            process._injected = {}
        return process

    def hours(self, first: int, last: int) -> Slice:
        """Generate the events from hour `first`, inclusive, to `last`, exclusive (since 1970)."""
        parts = [self._without_injections(first, last)]
        parts += self._campaigns(first * HOUR_MS, last * HOUR_MS)
        events = in_order(join(parts))
        self._turn_friendly(events)
        drifts = [injection for injection in self.plan.injections if injection.what == "drift"]
        apply_drift(self.population, events, drifts)
        events = react(self.population, events, drifts, self.plan.observed)
        return Slice(events, label(self.draws, events))

    def _without_injections(self, first: int, last: int) -> Events:
        """Generate the events that depend on no injection; cached, as each injection needs them again."""
        made = self._unaffected.get((first, last))
        if made is None:
            made = join(
                [
                    self._legitimate.hours(self.customers, first, last),
                    self._fraud_traffic.hours(self.customers, first, last),
                ]
            )
            if len(made) <= _KEPT_EVENTS:
                self._unaffected[first, last] = made
                while len(self._unaffected) > _KEPT_HOURS:
                    self._unaffected.popitem(last=False)
        return made

    def _campaigns(self, start_ms: int, end_ms: int) -> list[Events]:
        """Return the events of injected campaigns from `start_ms`, inclusive, to `end_ms`, exclusive."""
        parts = []
        for injection in self.plan.injections:
            if (
                injection.what == "campaign"
                and injection.start_ms < end_ms
                and injection.end_ms > start_ms
            ):
                if injection.key not in self._injected:
                    a_ms = self.customers * self._a_day / DAY_MS
                    self._injected[injection.key] = self._fraud_traffic.injected(
                        injection, a_ms * (injection.end_ms - injection.start_ms), self.customers
                    )
                made = self._injected[injection.key]
                parts.append(made[(made["time_ms"] >= start_ms) & (made["time_ms"] < end_ms)])
        return parts

    def _turn_friendly(self, events: Events) -> None:
        """Mark as friendly fraud the purchases that customers will dispute."""
        ids = events["id"].astype(np.int64)
        u = self.draws.uniforms(Purpose.FRIENDLY, ids[:, 0], ids[:, 1], ids[:, 2], ids[:, 3])[0]
        channel = events["channel"]
        online = (channel == Channel.WEB) | (channel == Channel.APP)
        share = np.full(len(events), self._friendly)
        for injection in self.plan.injections:
            if injection.kind == "friendly_fraud":
                lasting = (events["time_ms"] >= max(injection.start_ms, injection.effective_ms)) & (
                    events["time_ms"] < min(injection.end_ms, injection.stopped_ms)
                )
                share[lasting] += TRAFFIC_SHARE * injection.intensity / _ONLINE_SHARE
        friendly: NDArray[Any] = online & (events["campaign"] == 0) & (u < share)
        events["campaign"][friendly] = Campaign.FRIENDLY_FRAUD


def _payments_a_day(population: Population, customers: int) -> float:
    """Estimate the legitimate payments a day per customer, from the first customers."""
    activity = float(population.activity(np.arange(customers)).mean())
    follow_ups = 1 + SPREE_SHARE * 2 + RETRY_SHARE * _ONLINE_SHARE
    subscribed = SUBSCRIPTIONS * SUBSCRIPTION_SHARE * HOURS_A_DAY / SUBSCRIPTION_HOURS
    return activity * follow_ups + subscribed


def simulate(
    world: World, seed: int, plan: SimulationPlan, t0_ms: int, t1_ms: int
) -> Iterator[Slice]:
    """Yield the events from `t0_ms`, inclusive, to `t1_ms`, exclusive, in order.

    Args:
        world: Ingredients of the world.
        seed: Seed of all random draws.
        plan: Plan of the simulation.
        t0_ms: Start, UTC epoch milliseconds.
        t1_ms: End, UTC epoch milliseconds.

    Yields:
        Slices of an hour, or of a day if the population is small.
    """
    process = Process(world, seed, plan)
    step = HOURS_A_DAY if process.customers <= 50_000 else 1
    hour, end = t0_ms // HOUR_MS, -(-t1_ms // HOUR_MS)
    while hour < end:
        until = min((hour // step + 1) * step, end)
        part = process.hours(hour, until).between(t0_ms, t1_ms)
        if len(part.events):
            yield part
        hour = until
