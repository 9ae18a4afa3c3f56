"""Fraud: campaigns of thieves with a start, a pool of tools and an end, on top of their victims' own life.

A campaign belongs to a town and a day and draws from a stream of its own. Everything it does
ends within `DURATION_H` of its start, so that a process that starts in the middle of time finds
all that is under way.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from producer.events import EVENT, HOUR_MS, HOURS_A_DAY, Campaign, Channel, Events, event_ids, join
from producer.life import minor_units
from producer.population import (
    CATEGORY_MEDIAN,
    CATEGORY_ONLINE,
    CATEGORY_RESALE,
    CATEGORY_SIGMA,
    TOWN_MERCHANTS,
    TOWN_SIZE,
    Population,
)
from producer.randomness import Draws, Floats, Ints, Purpose, cumulative, pick

DAY_MS: Final = HOURS_A_DAY * HOUR_MS

MIX: Final[Mapping[Campaign, float]] = MappingProxyType(
    {
        Campaign.CARD_TESTING: 0.22,
        Campaign.CARD_NOT_PRESENT: 0.24,
        Campaign.ACCOUNT_TAKEOVER: 0.13,
        Campaign.STOLEN_CARD: 0.12,
        Campaign.MERCHANT_COMPROMISE: 0.08,
        Campaign.FRIENDLY_FRAUD: 0.07,
        Campaign.BUST_OUT: 0.05,
        Campaign.MULE_RING: 0.09,
    }
)
"""Share of each kind in the fraudulent transactions."""

DURATION_H: Final[Mapping[Campaign, int]] = MappingProxyType(
    {
        Campaign.CARD_TESTING: 22,
        Campaign.CARD_NOT_PRESENT: 25,
        Campaign.ACCOUNT_TAKEOVER: 21,
        Campaign.STOLEN_CARD: 21,
        Campaign.MERCHANT_COMPROMISE: 45,
        Campaign.BUST_OUT: 45,
        Campaign.MULE_RING: 61,
    }
)
"""Hours after its start by which a campaign is over."""
_LOOKBACK_DAYS: Final = -(-max(DURATION_H.values()) // HOURS_A_DAY)


@dataclass(frozen=True)
class Town:
    """What thieves know about a town.

    Attributes:
        first: Its first customer.
        residents: How many of its customers there are; the rest of it is empty.
        by_activity: Cumulative weights of its customers, by how much they pay: their cards are
            the ones that get stolen.
        category: Category of each of its merchants.
        price: Price level of each of its merchants.
        online_loot: Cumulative weights of its merchants as a thief with card data sees them.
        street_loot: The same for a thief with a card.
    """

    first: int
    residents: int
    by_activity: Floats
    category: Ints
    price: Floats
    online_loot: Floats
    street_loot: Floats


def survey(population: Population, number: int, residents: int) -> Town:
    """Look at a town."""
    first = number * TOWN_SIZE
    merchants = np.arange(number * TOWN_MERCHANTS, (number + 1) * TOWN_MERCHANTS)
    category, price = population.merchant_traits(merchants)
    appeal = CATEGORY_RESALE[category] / np.sqrt(1 + np.arange(TOWN_MERCHANTS))
    return Town(
        first,
        residents,
        cumulative(population.activity(np.arange(first, first + residents))),
        category,
        price,
        cumulative(np.where(CATEGORY_ONLINE[category], appeal, 1e-9)),
        cumulative(np.where(CATEGORY_ONLINE[category], 1e-9, appeal)),
    )


@dataclass
class Scene:
    """One campaign at work.

    Attributes:
        rng: Its own randomness.
        population: Everybody.
        town: Where it plays.
        number: The town's number.
        kind: Kind of campaign.
        start_ms: When it begins, UTC epoch milliseconds.
        key: Its coordinates: town, day, and kind with its number on that day.
        salt: 24 bits that differ between plans, so that no plan repeats another's event ids.
    """

    rng: np.random.Generator
    population: Population
    town: Town
    number: int
    kind: Campaign
    start_ms: int
    key: tuple[int, int, int]
    salt: int

    def victims(self, n: int) -> Ints:
        """Choose whose cards or accounts are used; a busy card is likelier, one may come twice."""
        return self.town.first + pick(self.town.by_activity, self.rng.random(n))

    def tool(self, n: int) -> Ints:
        """Number the thief's own devices and networks, below 2**32 and unlike a customer's."""
        return self.rng.integers(2**31, 2**32, n)

    def devices(self, tools: Ints) -> tuple[Ints, Ints]:
        """Give devices and user agents for tools."""
        return self.population.device_of(tools, 0, 2, self.start_ms // HOUR_MS)

    def networks(self, tools: Ints) -> Ints:
        """Give addresses for tools: one in three is a proxy behind the victims' own carrier."""
        near = self.population.carrier_ip(
            np.full(len(tools), self.number), self.rng.random(len(tools))
        )
        far = self.population.public_ip(Purpose.CAMPAIGN, tools, 0, 0)
        return np.where(tools % 3 == 0, near, far)

    def contacts(self, tools: Ints, share: float) -> Ints:
        """Give other contacts for a share of the tools, 0 (the customer's own) for the rest."""
        return np.where((tools % 1000) / 1000 < share, tools, 0)

    def shops(self, n: int, *, online: bool = True) -> Ints:
        """Choose merchants worth robbing, numbered within the town."""
        return pick(self.town.online_loot if online else self.town.street_loot, self.rng.random(n))

    def prices(self, shops: Ints, factor: float | Floats, spread: float = 0.5) -> Floats:
        """Price what a thief takes: the shop's usual amounts, times something around `factor`."""
        category = self.town.category[shops]
        usual = CATEGORY_MEDIAN[category] * self.town.price[shops]
        sigma = CATEGORY_SIGMA[category] * 0.7 + spread * 0.3
        return np.asarray(usual * factor * np.exp(sigma * self.rng.standard_normal(len(shops))))

    def payments(
        self,
        customer: Ints,
        time_ms: Any,
        shops: Ints,
        usd: Any,
        *,
        channel: Any = Channel.WEB,
        device: Any = -1,
        agent: Any = -1,
        ip: Any = -1,
        contact: Any = 0,
        place: Any = -1,
    ) -> Events:
        """Write the campaign's payments down."""
        n = len(customer)
        events = np.empty(n, EVENT)
        events["time_ms"] = np.asarray(time_ms, np.float64).astype(np.int64)
        events["customer"] = customer
        events["merchant"] = shops + self.number * TOWN_MERCHANTS
        events["category"] = self.town.category[shops]
        events["channel"] = channel
        events["device"] = device
        events["agent"] = agent
        events["ip"] = ip
        events["contact"] = contact
        events["place"] = place
        hour = np.asarray(events["time_ms"] // HOUR_MS)
        billed = np.where(
            events["place"] >= 0, events["place"], self.population.home(customer, hour)
        )
        events["currency"] = self.population.place_currency[billed]
        events["amount"] = minor_units(
            np.asarray(usd, np.float64), events["currency"].astype(np.int64), self.rng.random(n)
        )
        town, day, which = self.key
        events["id"] = event_ids(
            self.population.draws,
            Purpose.CAMPAIGN_EVENT_ID,
            town,
            day,
            which,
            (self.salt << 8) + np.arange(n),
        )
        events["campaign"] = self.kind
        events["campaign_id"] = np.uint64((town << 35) | (day << 18) | which)
        return events


def _card_testing(scene: Scene) -> Events:
    """Try many cards with small amounts from few machines; use the good ones within a day."""
    rng = scene.rng
    cards = scene.victims(int(rng.integers(10, 30)))
    tries = rng.integers(1, 3, len(cards))
    tested = np.repeat(cards, tries)
    n = len(tested)
    bots = scene.tool(int(rng.integers(1, 4)))
    used = bots[rng.integers(0, len(bots), n)]
    minutes = rng.uniform(10, 90)
    at = scene.start_ms + np.sort(rng.random(n)) * minutes * 60_000
    shop = np.repeat(scene.shops(int(rng.integers(1, 3))), n)[:n]
    device, agent = scene.devices(used)
    probe_usd = rng.uniform(0.5, 6.0, n)
    good = cards[rng.random(len(cards)) < 0.3]
    later = scene.start_ms + minutes * 60_000 + rng.uniform(0.2, 20, len(good)) * HOUR_MS
    loot = scene.shops(len(good))
    fresh = scene.tool(len(good))
    fresh_device, fresh_agent = scene.devices(fresh)
    return scene.payments(
        np.concatenate([tested, good]),
        np.concatenate([at, later]),
        np.concatenate([shop, loot]),
        np.concatenate([probe_usd, scene.prices(loot, 2.2)]),
        device=np.concatenate([device, fresh_device]),
        agent=np.concatenate([agent, fresh_agent]),
        ip=np.concatenate([scene.networks(used), scene.networks(fresh)]),
    )


def _remote_spending(scene: Scene, victim: Ints, start_ms: float) -> dict[str, Any]:
    """Spend one card's stolen details online: a few purchases within a day or so."""
    rng = scene.rng
    n = int(rng.integers(1, 7))
    tool = np.repeat(scene.tool(1), n)
    careful = rng.random() < 0.25
    shops = scene.shops(n)
    hours = np.sort(rng.exponential(0.8 if not careful else 6.0, n).cumsum()).clip(max=24)
    device, agent = scene.devices(tool)
    return {
        "customer": np.repeat(victim, n),
        "time_ms": start_ms + hours * HOUR_MS,
        "shops": shops,
        "usd": scene.prices(shops, 1.0 if careful else 2.4),
        "device": device,
        "agent": agent,
        "ip": scene.networks(tool),
        "contact": scene.contacts(tool, 0.35),
    }


def _together(scene: Scene, parts: list[dict[str, Any]]) -> Events:
    return scene.payments(
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def _card_not_present(scene: Scene) -> Events:
    return _together(scene, [_remote_spending(scene, scene.victims(1), scene.start_ms)])


def _merchant_compromise(scene: Scene) -> Events:
    """Use the cards of people who share a favourite merchant, the same one for weeks."""
    rng = scene.rng
    town, day, _ = scene.key
    leak = scene.population.draws.generator(Purpose.CAMPAIGN, town, day // 21, 99)
    breached = scene.number * TOWN_MERCHANTS + int(leak.integers(3, 40))
    people = np.arange(scene.town.first, scene.town.first + scene.town.residents)
    regulars = np.zeros(len(people), bool)
    for rank in range(3):
        regulars |= scene.population.favourite(people, np.full(len(people), rank)) == breached
    pool = people[regulars] if regulars.any() else people
    chosen = pool[rng.integers(0, len(pool), int(rng.integers(1, 4)))]
    starts = scene.start_ms + rng.uniform(0, 20, len(chosen)) * HOUR_MS
    return _together(
        scene,
        [
            _remote_spending(scene, chosen[i : i + 1], float(start))
            for i, start in enumerate(starts)
        ],
    )


def _account_takeover(scene: Scene) -> Events:
    """Sign in as the customer from elsewhere, change e-mail and phone, and shop."""
    rng = scene.rng
    n = int(rng.integers(2, 9))
    tool = np.repeat(scene.tool(1), n)
    shops = scene.shops(n)
    device, agent = scene.devices(tool)
    gaps = rng.exponential(0.35, n).cumsum().clip(max=20)
    return scene.payments(
        np.repeat(scene.victims(1), n),
        scene.start_ms + gaps * HOUR_MS,
        shops,
        scene.prices(shops, 1.8),
        channel=Channel.APP if rng.random() < 0.5 else Channel.WEB,
        device=device,
        agent=agent,
        ip=scene.networks(tool),
        contact=scene.contacts(tool, 0.7),
    )


def _stolen_card(scene: Scene) -> Events:
    """Pay at terminals with somebody's card; half the thieves are in another city or country."""
    rng = scene.rng
    n = int(rng.integers(2, 8))
    shops = scene.shops(n, online=False)
    far = rng.random() < 0.5
    place = int(pick(scene.population.place_cumulative, rng.random(1))[0]) if far else -1
    gaps = rng.exponential(0.6, n).cumsum().clip(max=20)
    return scene.payments(
        np.repeat(scene.victims(1), n),
        scene.start_ms + gaps * HOUR_MS,
        shops,
        scene.prices(shops, 2.0),
        channel=Channel.POS,
        place=place,
    )


def _bust_out(scene: Scene) -> Events:
    """Spend all there is in two days, as oneself, at shops whose goods sell on."""
    rng = scene.rng
    n = int(rng.integers(7, 16))
    customer = np.repeat(scene.victims(1), n)
    shops = scene.shops(n)
    hours = np.sort(rng.uniform(0, 44, n))
    time_ms = scene.start_ms + hours * HOUR_MS
    hour = (time_ms // HOUR_MS).astype(np.int64)
    device, agent = scene.population.device(customer, hour, np.zeros(n, bool))
    return scene.payments(
        customer,
        time_ms,
        shops,
        scene.prices(shops, 1.5 + 2.0 * hours / 44, 0.3),
        device=device,
        agent=agent,
        ip=scene.population.home_ip(customer, hour),
    )


def _mule_ring(scene: Scene) -> Events:
    """Pay from a handful of accounts by the same few devices and addresses, for similar amounts."""
    rng = scene.rng
    members = np.unique(scene.victims(int(rng.integers(5, 11))))
    customer = np.repeat(members, rng.integers(1, 5, len(members)))
    n = len(customer)
    tools = scene.tool(int(rng.integers(2, 4)))
    tool = tools[rng.integers(0, len(tools), n)]
    shops = scene.shops(2)[rng.integers(0, 2, n)]
    device, agent = scene.devices(tool)
    usual = float(scene.prices(shops[:1], 1.6)[0])
    return scene.payments(
        customer,
        scene.start_ms + np.sort(rng.uniform(0, 60, n)) * HOUR_MS,
        shops,
        usual * rng.uniform(0.85, 1.15, n),
        device=device,
        agent=agent,
        ip=scene.networks(tool),
    )


_ACTS: Final[Mapping[Campaign, Callable[[Scene], Events]]] = MappingProxyType(
    {
        Campaign.CARD_TESTING: _card_testing,
        Campaign.CARD_NOT_PRESENT: _card_not_present,
        Campaign.ACCOUNT_TAKEOVER: _account_takeover,
        Campaign.STOLEN_CARD: _stolen_card,
        Campaign.MERCHANT_COMPROMISE: _merchant_compromise,
        Campaign.BUST_OUT: _bust_out,
        Campaign.MULE_RING: _mule_ring,
    }
)
_MEAN_SIZE: Final[Mapping[Campaign, float]] = MappingProxyType(
    {
        Campaign.CARD_TESTING: 19.5 * 1.8,
        Campaign.CARD_NOT_PRESENT: 3.5,
        Campaign.ACCOUNT_TAKEOVER: 5.0,
        Campaign.STOLEN_CARD: 4.5,
        Campaign.MERCHANT_COMPROMISE: 2.0 * 3.5,
        Campaign.BUST_OUT: 11.0,
        Campaign.MULE_RING: 7.5 * 2.5,
    }
)
"""Transactions of an average campaign, from the ranges above."""


class Underworld:
    """All campaigns of a plan.

    Args:
        draws: Randomness.
        population: The victims.
        daily_fraud: Fraudulent transactions per customer and day that are wanted, on average.
        residents: Customers of a town; fewer than `TOWN_SIZE` in a population smaller than that.
        mix: Share of each kind in them.
    """

    def __init__(
        self,
        draws: Draws,
        population: Population,
        daily_fraud: float,
        residents: int,
        mix: Mapping[Campaign, float],
    ) -> None:
        self._draws = draws
        self._population = population
        total = sum(mix.values())
        self._rates = {
            kind: daily_fraud * residents * mix.get(kind, 0.0) / total / size
            for kind, size in _MEAN_SIZE.items()
        }
        plan = repr((daily_fraud, sorted((int(kind), share) for kind, share in mix.items())))
        self._salt = zlib.crc32(plan.encode()) & 0xFFFFFF
        self._residents = residents
        self._towns: OrderedDict[int, Town] = OrderedDict()
        self._agendas: dict[tuple[int, int], list[tuple[Campaign, int, int]]] = {}
        self._played: dict[tuple[int, int, int], Events] = {}

    def hours(self, customers: int, first: int, last: int) -> Events:
        """Make the fraud of some hours against the first `customers`, unordered.

        Args:
            customers: How many customers there are.
            first: First hour since 1970, inclusive.
            last: Last hour, exclusive.
        """
        start_ms, end_ms = first * HOUR_MS, last * HOUR_MS
        days = range(first // HOURS_A_DAY - _LOOKBACK_DAYS, (last - 1) // HOURS_A_DAY + 1)
        played: dict[tuple[int, int, int], Events] = {}
        for number in range(-(-customers // TOWN_SIZE)):
            for day in days:
                for kind, which, begins_ms in self._agenda(number, day):
                    if begins_ms < end_ms and begins_ms + DURATION_H[kind] * HOUR_MS > start_ms:
                        key = (number, day, which)
                        known = self._played.get(key)
                        played[key] = self._play(kind, key, begins_ms) if known is None else known
        # Only what is under way is kept.
        self._played = played
        self._agendas = {key: plans for key, plans in self._agendas.items() if key[1] in days}
        events = join(list(played.values()))
        time_ms = events["time_ms"]
        now = (time_ms >= start_ms) & (time_ms < end_ms)
        return np.asarray(events[now & (events["customer"] < customers)])

    def _agenda(self, number: int, day: int) -> list[tuple[Campaign, int, int]]:
        """Give what begins in a town on a day: kind, kind with its number on that day, start."""
        agenda = self._agendas.get((number, day))
        if agenda is None:
            dice = self._draws.generator(Purpose.CAMPAIGN, number, day, 0)
            agenda = [
                (kind, (int(kind) << 14) | nth, day * DAY_MS + int(dice.random() * DAY_MS))
                for kind, rate in self._rates.items()
                for nth in range(min(int(dice.poisson(rate)), 2**14))
            ]
            self._agendas[number, day] = agenda
        return agenda

    def _play(self, kind: Campaign, key: tuple[int, int, int], start_ms: int) -> Events:
        """Make all that a campaign does."""
        number = key[0]
        rng = self._draws.generator(Purpose.CAMPAIGN, *key)
        town = self._town(number)
        events = _ACTS[kind](
            Scene(rng, self._population, town, number, kind, start_ms, key, self._salt)
        )
        assert events["time_ms"].max() < start_ms + DURATION_H[kind] * HOUR_MS  # noqa: S101
        return events

    def _town(self, number: int) -> Town:
        town = self._towns.get(number)
        if town is None:
            town = self._towns[number] = survey(self._population, number, self._residents)
            if len(self._towns) > 2_000:
                self._towns.popitem(last=False)
        else:
            self._towns.move_to_end(number)
        return town
