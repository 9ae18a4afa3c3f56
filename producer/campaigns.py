"""Fraud campaigns, on top of the victims' own payments.

A campaign has a start, a pool of tools (devices and networks) and an end. It belongs to a town and
a day and draws from a random stream of its own. It ends within `DURATION_H` of its start, so that a
process that starts at any hour finds all campaigns under way.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import DAY_MS, HOUR_MS
from producer.events import EVENT, HOURS_A_DAY, Campaign, Channel, Events, event_ids, join
from producer.injections import TRAFFIC_SHARE, Injection
from producer.legitimate_traffic import minor_units
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
"""Share of each kind among the fraudulent transactions."""

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
REMOTE_ACCESS_SHARE: Final = 0.25
"""Share of account takeovers that use the victim's own device."""
ADDED_CARD_SHARE: Final = 0.25
"""Share of account takeovers that pay with another person's stolen card."""
_LOOKBACK_DAYS: Final = -(-max(DURATION_H.values()) // HOURS_A_DAY)


PlannedPayments = NDArray[Any]
"""One-dimensional array of `_ATTEMPT` rows."""
ERA_DAYS: Final = 21
"""Days for which the card data leaked by one merchant are used."""
BIN_ATTACK_SHARE: Final = 0.4
"""Share of card-testing campaigns that try the card numbers of a single issuer range (BIN)."""
_RAMP: Final = 1 / 3
"""Share of a campaign's duration in which its pace rises."""
_OWN: Final = -1
"""Value of `tool` for customers who pay with their own device and network."""

_ATTEMPT: Final = np.dtype(
    [
        ("time_ms", "i8"),
        ("customer", "i8"),
        ("shop", "i8"),  # numbered within the town
        ("country", "i2"),  # of the merchant; -1 = where the card is
        ("category", "i2"),
        ("usd", "f8"),
        ("charm", "f8"),  # uniform draw for how the price is rounded
        ("channel", "i1"),
        ("tool", "i8"),  # the thief's device and network; 0 = none, _OWN = the customer's
        ("proxy", "f8"),  # uniform draw for which of the carrier's addresses a proxy has
        ("contact", "i8"),  # 0 = the customer's own e-mail and phone
        ("card", "i8"),  # 0 = the customer's own
        ("place", "i2"),  # -1 = the customer's home
        ("campaign", "i1"),
        ("begun_h", "i8"),  # hour in which the campaign began
        ("town", "i8"),
        ("day", "i8"),
        ("which", "i8"),  # kind, with the campaign's number on that day
        ("nth", "i8"),  # number of the payment within the campaign
    ]
)
"""Payment as its campaign planned it; `_carry_out` turns many of them into events at once."""


@dataclass(frozen=True)
class Town:
    """Town as thieves see it.

    Attributes:
        first: Number of its first customer.
        residents: Number of its customers; its remaining customer numbers are unused.
        by_activity: Cumulative weights of its customers by activity: busy cards are stolen more often.
        category: Category of each of its merchants.
        price: Price level of each of its merchants.
        online_loot: Cumulative weights of its merchants for a thief with card data.
        street_loot: Cumulative weights of its merchants for a thief with a card.
        leaks: Customers whose card data leaked, by era; filled on demand.
    """

    first: int
    residents: int
    by_activity: Floats
    category: Ints
    price: Floats
    online_loot: Floats
    street_loot: Floats
    leaks: dict[int, Ints] = field(default_factory=dict)

    def regulars(self, population: Population, number: int, era: int) -> Ints:
        """Return the victims of an era's breach: customers of one country who like the breached merchant."""
        if era not in self.leaks:
            rng = population.draws.generator(Purpose.CAMPAIGN, number, era, 99)
            breached = int(rng.integers(3, 40))
            people = self.people()
            hour = np.full(len(people), era * ERA_DAYS * HOURS_A_DAY)
            country = population.place_country[population.home(people, hour)]
            here = country == country[int(rng.integers(0, len(people)))]
            likes = np.zeros(len(people), bool)
            for rank in range(3):
                likes |= population.favourite(people, np.full(len(people), rank)) == breached
            self.leaks[era] = people[likes & here] if (likes & here).any() else people[here]
        return self.leaks[era]

    def people(self) -> Ints:
        """Return the numbers of the town's customers."""
        return np.arange(self.first, self.first + self.residents)


def survey(population: Population, number: int, residents: int) -> Town:
    """Compute what thieves know about a town."""
    first = number * TOWN_SIZE
    shops = np.arange(TOWN_MERCHANTS)
    category, price = population.shop_traits(np.full(TOWN_MERCHANTS, number), shops)
    # Low numbers are popular merchants, which thieves know better too.
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
class CampaignRun:
    """One campaign while its payments are planned.

    Attributes:
        rng: Random generator of the campaign.
        population: Customers and merchants.
        town: Town of the victims.
        number: Number of the town.
        kind: Kind of campaign.
        start_ms: Start, UTC epoch milliseconds.
        key: Identity: town, day, and kind with its number on that day.
    """

    rng: np.random.Generator
    population: Population
    town: Town
    number: int
    kind: Campaign
    start_ms: int
    key: tuple[int, int, int]

    def victims(self, n: int) -> Ints:
        """Draw customers whose cards or accounts are used, by activity; a customer may occur twice."""
        return self.town.first + pick(self.town.by_activity, self.rng.random(n))

    def of_one_bin(self, n: int) -> Ints:
        """Draw cards from one issuer's range, that of a random victim."""
        people = self.town.people()
        hour = np.full(len(people), self.start_ms // HOUR_MS)
        home = self.population.home(people, hour)
        bins = self.population.card_bin(people, np.zeros(len(people), np.int64), hour, home)
        holders = people[bins == bins[self.victims(1)[0] - self.town.first]]
        return np.asarray(holders[self.rng.integers(0, len(holders), n)])

    def ramp(self, n: int) -> Floats:
        """Return `n` ascending times in [0, 1]: the pace rises during the first third, then stays even."""
        # Inverse of the cumulative pace: a square root while it rises, then linear.
        reached = self.rng.random(n) * (1 - _RAMP / 2)
        rising = np.sqrt(2 * _RAMP * np.minimum(reached, _RAMP / 2))
        return np.sort(np.where(reached < _RAMP / 2, rising, reached + _RAMP / 2))

    def abroad(self, n: int, share: float) -> Ints:
        """Draw countries of merchants: any country for a share of them, else -1 (the card's own)."""
        elsewhere = pick(self.population.country_cumulative, self.rng.random(n))
        return np.where(self.rng.random(n) < share, elsewhere, -1)

    def tool(self, n: int) -> Ints:
        """Draw numbers below 2**32 for the thief's devices and networks; no customer's number is as high."""
        return self.rng.integers(2**31, 2**32, n)

    def contacts(self, tools: Ints, share: float) -> Ints:
        """Return contacts: the tool's number for a share of the tools, 0 (the customer's own) for the rest."""
        return np.where((tools % 1000) / 1000 < share, tools, 0)

    def shops(self, n: int, *, online: bool = True) -> Ints:
        """Draw `n` merchants, weighted by their appeal to a thief, as indexes within the town."""
        return pick(self.town.online_loot if online else self.town.street_loot, self.rng.random(n))

    def prices(self, shops: Ints, factor: float | Floats, spread: float = 0.5) -> Floats:
        """Draw amounts in US dollars: the usual ones of each shop, times about `factor`."""
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
        tool: Any = 0,
        contact: Any = 0,
        card: Any = 0,
        place: Any = -1,
        country: Any = -1,
    ) -> PlannedPayments:
        """Return planned payments of the campaign; scalars apply to every payment."""
        n = len(customer)
        attempts = np.empty(n, _ATTEMPT)
        attempts["time_ms"] = np.asarray(time_ms, np.float64).astype(np.int64)
        attempts["customer"] = customer
        attempts["shop"] = shops
        attempts["category"] = self.town.category[shops]
        attempts["usd"] = usd
        attempts["charm"] = self.rng.random(n)
        attempts["channel"] = channel
        attempts["tool"] = tool
        attempts["proxy"] = self.rng.random(n)
        attempts["contact"] = contact
        attempts["card"] = card
        attempts["place"] = place
        attempts["country"] = country
        attempts["campaign"] = self.kind
        attempts["begun_h"] = self.start_ms // HOUR_MS
        attempts["town"], attempts["day"], attempts["which"] = self.key
        attempts["nth"] = np.arange(n)
        return attempts


def _carry_out(population: Population, attempts: PlannedPayments) -> Events:
    """Turn planned payments into events; the caller fills in `id` and `campaign_id`."""
    events = np.empty(len(attempts), EVENT)
    if not len(attempts):
        return events
    customer, tool, town = attempts["customer"], attempts["tool"], attempts["town"]
    hour = attempts["time_ms"] // HOUR_MS
    paid_at = np.where(attempts["place"] >= 0, attempts["place"], population.home(customer, hour))
    here = population.place_country[paid_at]
    country = np.where(attempts["country"] >= 0, attempts["country"], here)
    merchant = population.merchant(town, country, attempts["shop"])
    currency = population.merchant_currency(merchant)
    device, agent = population.device_of(tool, 0, 2, attempts["begun_h"])
    own_device, own_agent = population.device(customer, hour, np.zeros(len(attempts), bool))
    # One network in three is a proxy behind the victims' own carrier.
    near = population.carrier_ip(town, attempts["proxy"])
    far = population.public_ip(Purpose.CAMPAIGN, tool, 0, 0)
    ip = np.where(tool % 3 == 0, near, far)
    own_ip = population.home_ip(customer, hour)
    none, own = tool == 0, tool == _OWN
    for name in (
        "time_ms",
        "customer",
        "category",
        "channel",
        "contact",
        "card",
        "place",
        "campaign",
    ):
        events[name] = attempts[name]
    events["merchant"] = merchant
    events["currency"] = currency
    events["amount"] = minor_units(attempts["usd"], currency, attempts["charm"])
    events["device"] = np.where(none, -1, np.where(own, own_device, device))
    events["agent"] = np.where(none, -1, np.where(own, own_agent, agent))
    events["ip"] = np.where(none, -1, np.where(own, own_ip, ip))
    return events


def _card_testing(run: CampaignRun) -> PlannedPayments:
    """Try many cards with small amounts from a few devices; use the good ones within a day."""
    rng = run.rng
    many = int(rng.integers(10, 30))
    cards = run.of_one_bin(many) if rng.random() < BIN_ATTACK_SHARE else run.victims(many)
    tries = rng.integers(1, 3, len(cards))
    tested = np.repeat(cards, tries)
    n = len(tested)
    bots = run.tool(int(rng.integers(1, 4)))
    used = bots[rng.integers(0, len(bots), n)]
    minutes = rng.uniform(10, 90)
    at = run.start_ms + run.ramp(n) * minutes * 60_000
    shop = np.repeat(run.shops(int(rng.integers(1, 3))), n)[:n]
    country = np.repeat(run.abroad(1, 1.0), n)
    probe_usd = rng.uniform(0.5, 6.0, n)
    good = cards[rng.random(len(cards)) < 0.3]
    later = run.start_ms + minutes * 60_000 + rng.uniform(0.2, 20, len(good)) * HOUR_MS
    loot = run.shops(len(good))
    return run.payments(
        np.concatenate([tested, good]),
        np.concatenate([at, later]),
        np.concatenate([shop, loot]),
        np.concatenate([probe_usd, run.prices(loot, 2.2)]),
        tool=np.concatenate([used, run.tool(len(good))]),
        country=np.concatenate([country, run.abroad(len(good), 0.3)]),
    )


def _remote_spending(run: CampaignRun, victim: Ints, start_ms: float) -> dict[str, Any]:
    """Plan a few online purchases with the stolen details of one card, within a day."""
    rng = run.rng
    n = int(rng.integers(1, 7))
    tool = np.repeat(run.tool(1), n)
    careful = rng.random() < 0.25
    shops = run.shops(n)
    hours = np.sort(rng.exponential(0.8 if not careful else 6.0, n).cumsum()).clip(max=24)
    return {
        "customer": np.repeat(victim, n),
        "time_ms": start_ms + hours * HOUR_MS,
        "shops": shops,
        "usd": run.prices(shops, 1.0 if careful else 2.4),
        "channel": np.full(n, Channel.APP if rng.random() < 0.45 else Channel.WEB),
        "tool": tool,
        "contact": run.contacts(tool, 0.35),
        "country": run.abroad(n, 0.3),
    }


def _together(run: CampaignRun, parts: list[dict[str, Any]]) -> PlannedPayments:
    return run.payments(
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def _card_not_present(run: CampaignRun) -> PlannedPayments:
    return _together(run, [_remote_spending(run, run.victims(1), run.start_ms)])


def _merchant_compromise(run: CampaignRun) -> PlannedPayments:
    """Use the cards of customers who share a favourite merchant, which stays the same for weeks."""
    rng = run.rng
    town, day, _ = run.key
    pool = run.town.regulars(run.population, town, day // ERA_DAYS)
    chosen = pool[rng.integers(0, len(pool), int(rng.integers(1, 4)))]
    starts = run.start_ms + rng.uniform(0, 20, len(chosen)) * HOUR_MS
    return _together(
        run,
        [_remote_spending(run, chosen[i : i + 1], float(start)) for i, start in enumerate(starts)],
    )


def _account_takeover(run: CampaignRun) -> PlannedPayments:
    """Sign in as the customer from elsewhere, change e-mail and phone, and shop."""
    rng = run.rng
    n = int(rng.integers(2, 9))
    # With remote access, thieves use the customer's own device and network.
    remote = rng.random() < REMOTE_ACCESS_SHARE
    tool = np.repeat(_OWN if remote else run.tool(1), n)
    shops = run.shops(n)
    gaps = rng.exponential(0.35, n).cumsum().clip(max=20)
    # Some thieves add another person's stolen card to the account.
    card = run.tool(1) if rng.random() < ADDED_CARD_SHARE else np.zeros(1, np.int64)
    return run.payments(
        np.repeat(run.victims(1), n),
        run.start_ms + gaps * HOUR_MS,
        shops,
        run.prices(shops, 1.8),
        channel=Channel.APP if rng.random() < 0.5 else Channel.WEB,
        tool=tool,
        contact=0 if remote else run.contacts(tool, 0.7),
        card=np.repeat(card, n),
        country=run.abroad(n, 0.2),
    )


def _stolen_card(run: CampaignRun) -> PlannedPayments:
    """Pay at terminals with somebody's card; half the thieves are in another city or country."""
    rng = run.rng
    n = int(rng.integers(2, 8))
    shops = run.shops(n, online=False)
    far = rng.random() < 0.5
    place = int(pick(run.population.place_cumulative, rng.random(1))[0]) if far else -1
    gaps = rng.exponential(0.6, n).cumsum().clip(max=20)
    return run.payments(
        np.repeat(run.victims(1), n),
        run.start_ms + gaps * HOUR_MS,
        shops,
        run.prices(shops, 2.0),
        channel=Channel.POS,
        place=place,
    )


def _bust_out(run: CampaignRun) -> PlannedPayments:
    """Spend all available credit within two days, as the customer, on goods that can be resold."""
    rng = run.rng
    n = int(rng.integers(7, 16))
    customer = np.repeat(run.victims(1), n)
    shops = run.shops(n)
    hours = run.ramp(n) * 44
    time_ms = run.start_ms + hours * HOUR_MS
    return run.payments(
        customer,
        time_ms,
        shops,
        run.prices(shops, 1.5 + 2.0 * hours / 44, 0.3),
        tool=_OWN,
        country=run.abroad(n, 0.1),
    )


def _mule_ring(run: CampaignRun) -> PlannedPayments:
    """Pay similar amounts from a handful of accounts that share a few devices and addresses."""
    rng = run.rng
    members = np.unique(run.victims(int(rng.integers(5, 11))))
    customer = np.repeat(members, rng.integers(1, 5, len(members)))
    n = len(customer)
    tools = run.tool(int(rng.integers(2, 4)))
    tool = tools[rng.integers(0, len(tools), n)]
    shops = run.shops(2)[rng.integers(0, 2, n)]
    usual = float(run.prices(shops[:1], 1.6)[0])
    return run.payments(
        customer,
        run.start_ms + run.ramp(n) * 60 * HOUR_MS,
        shops,
        usual * rng.uniform(0.85, 1.15, n),
        tool=tool,
        country=np.repeat(run.abroad(1, 1.0), n),
    )


_ACTS: Final[Mapping[Campaign, Callable[[CampaignRun], PlannedPayments]]] = MappingProxyType(
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
"""Mean number of transactions of a campaign, from the ranges above."""


class FraudTraffic:
    """All fraud campaigns of a plan.

    Args:
        draws: Randomness.
        population: Population of the victims.
        daily_fraud: Wanted fraudulent transactions per customer and day, on average.
        residents: Customers per town; below `TOWN_SIZE` only in a smaller population.
        mix: Share of each kind among the fraudulent transactions.
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
        """Generate the fraud of some hours against the first customers, in no particular order.

        Args:
            customers: How many customers there are.
            first: First hour since 1970, inclusive.
            last: Last hour, exclusive.
        """
        start_ms, end_ms = first * HOUR_MS, last * HOUR_MS
        days = range(first // HOURS_A_DAY - _LOOKBACK_DAYS, (last - 1) // HOURS_A_DAY + 1)
        played: dict[tuple[int, int, int], Events] = {}
        begun: dict[tuple[int, int, int], PlannedPayments] = {}
        for number in range(-(-customers // TOWN_SIZE)):
            for day in days:
                for kind, which, begins_ms in self._agenda(number, day):
                    if begins_ms < end_ms and begins_ms + DURATION_H[kind] * HOUR_MS > start_ms:
                        key = (number, day, which)
                        if key in self._played:
                            played[key] = self._played[key]
                        else:
                            begun[key] = self._play(kind, key, begins_ms)
        # New campaigns become events in one call: small arrays cost as much as large ones.
        plans = list(begun.values())
        attempts = np.concatenate(plans) if plans else np.empty(0, _ATTEMPT)
        done = _carry_out(self._population, attempts)
        town, begun_d, numbers = attempts["town"], attempts["day"], attempts["which"]
        # The salt differs between plans, so that no plan repeats another's event ids.
        done["id"] = event_ids(
            self._draws, Purpose.CAMPAIGN_EVENT_ID, town, begun_d, numbers, (self._salt << 8) + attempts["nth"]
        )  # fmt: skip
        # 14 bits number a kind's campaigns of a day, 4 more name the kind, 17 count days.
        done["campaign_id"] = (town << 35) | (begun_d << 18) | numbers
        ends: Any = np.cumsum([len(plan) for plan in plans])[:-1] if plans else []
        played |= zip(begun, np.split(done, ends), strict=False)
        # Keep only campaigns that are under way.
        self._played = played
        self._agendas = {key: agenda for key, agenda in self._agendas.items() if key[1] in days}
        events = join(list(played.values()))
        time_ms = events["time_ms"]
        now = (time_ms >= start_ms) & (time_ms < end_ms)
        return np.asarray(events[now & (events["customer"] < customers)])

    def injected(self, injection: Injection, transactions: float, customers: int) -> Events:
        """Generate all events of an injected campaign, in no particular order.

        Each of its thieves starts in the first half of the campaign; the payments of a thief who would
        go on beyond its end are compressed in time.

        Args:
            injection: Injected campaign.
            transactions: Approximate number of the world's transactions during the campaign.
            customers: Number of customers at its start.
        """
        kind, number = injection.campaign, injection.number
        if kind not in _ACTS:
            return np.empty(0, EVENT)
        dice = self._draws.generator(Purpose.INJECTION, number)
        wanted = transactions * TRAFFIC_SHARE * injection.intensity / _MEAN_SIZE[kind]
        towns = -(-customers // TOWN_SIZE)
        plans = []
        for nth in range(max(1, int(dice.poisson(wanted)))):
            rng = self._draws.generator(Purpose.INJECTION, number, nth + 1)
            where = int(rng.integers(0, towns))
            half = (injection.end_ms - injection.start_ms) / 2
            start_ms = injection.start_ms + int(rng.random() * half)
            key = (where, start_ms // DAY_MS, nth)
            run = CampaignRun(rng, self._population, self._town(where), where, kind, start_ms, key)
            attempts = _ACTS[kind](run)
            after = attempts["time_ms"] - start_ms
            left = injection.end_ms - 1 - start_ms
            if after.max() > left:
                attempts["time_ms"] = start_ms + (after * (left / after.max())).astype(np.int64)
            plans.append(attempts)
        attempts = np.concatenate(plans)
        events = _carry_out(self._population, attempts)
        events["id"] = event_ids(
            self._draws, Purpose.INJECTION_EVENT_ID, number, attempts["which"], 0, attempts["nth"]
        )
        # Bit 62 tells injected campaigns from those of towns, whose numbers are smaller.
        events["campaign_id"] = (1 << 62) | (number << 20) | attempts["which"]
        on = (events["time_ms"] >= injection.effective_ms) & (
            events["time_ms"] < injection.stopped_ms
        )
        return np.asarray(events[on & (events["customer"] < customers)])

    def _agenda(self, number: int, day: int) -> list[tuple[Campaign, int, int]]:
        """Return the campaigns that begin in a town on a day: kind, kind with its number, start."""
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

    def _play(self, kind: Campaign, key: tuple[int, int, int], start_ms: int) -> PlannedPayments:
        """Plan all payments of a campaign."""
        number = key[0]
        rng = self._draws.generator(Purpose.CAMPAIGN, *key)
        town = self._town(number)
        attempts = _ACTS[kind](
            CampaignRun(rng, self._population, town, number, kind, start_ms, key)
        )
        assert attempts["time_ms"].max() < start_ms + DURATION_H[kind] * HOUR_MS  # noqa: S101
        return attempts

    def _town(self, number: int) -> Town:
        town = self._towns.get(number)
        if town is None:
            town = self._towns[number] = survey(self._population, number, self._residents)
            if len(self._towns) > 2_000:
                self._towns.popitem(last=False)
        else:
            self._towns.move_to_end(number)
        return town
