"""Legitimate traffic: when and where customers pay, and how much.

It is full of legitimate payments that look like fraud: trips, new phones, moves, bursts of
shopping, retried payments, new merchants, the gift season. Without these, precision on simulated
data would mean nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import HOUR_MS
from producer.events import EVENT, HOURS_A_DAY, Campaign, Channel, Events, event_ids, join
from producer.population import (
    CATEGORY_MEDIAN,
    CATEGORY_ONLINE,
    CATEGORY_SIGMA,
    CURRENCY_DECIMALS,
    CURRENCY_LEVEL,
    SEGMENT_LATER_H,
    TOWN_SIZE,
    Population,
)
from producer.randomness import Draws, Floats, Ints, Purpose, normal, pick

HOUR_SHAPE: Final = np.array(
    [0.35, 0.25, 0.2, 0.2, 0.2, 0.3, 0.5, 0.8, 1.05, 1.2, 1.3, 1.45,
     1.6, 1.45, 1.3, 1.3, 1.4, 1.6, 1.75, 1.65, 1.4, 1.15, 0.9, 0.6]
)  # fmt: skip
"""Payments by hour of the local day, relative."""
WEEKDAY_SHAPE: Final = np.array([0.93, 0.93, 0.95, 1.0, 1.12, 1.15, 0.92])
"""Payments by weekday, Monday first, relative."""
SEASON_SHAPE: Final = np.array([0.92, 0.93, 0.97, 0.98, 1.0, 1.0, 1.0, 1.0, 0.98, 1.0, 1.08, 1.22])
"""Payments by month, relative."""
DAY_SIGMA: Final = 0.6
"""Overdispersion: sigma of the lognormal factor on a customer's activity that varies by day."""
MAX_DAY_FACTOR: Final = 5.0
SUBSCRIPTIONS: Final = 2
"""Most subscriptions of a customer."""
SUBSCRIPTION_SHARE: Final = 0.4
SUBSCRIPTION_HOURS: Final = 30 * 24
"""Hours from one charge of a subscription to the next."""
SPREE_SHARE: Final = 0.10
"""Share of the payments that are followed by more within the hour."""
RETRY_SHARE: Final = 0.015
"""Share of the online payments that are repeated within two minutes."""
STRAY_DEVICE_SHARE: Final = 0.05
"""Share of the payments with a device that use a device other than the customer's own."""
PRIVATE_BROWSER_SHARE: Final = 0.25
"""Share of the customers whose browser has a new identity every day, as with blocked trackers."""
CANDIDATES: Final = 5
"""Merchants that are considered for each payment."""
SECOND_CARD_USE: Final = 0.25
"""Share of the payments that customers with two cards make with the second."""
TRIP_SHARE: Final = 0.04
"""Share of the customer-weeks with a trip of one to five days."""

_BUSY: Final = 25
"""Mean payments an hour above which counts are drawn from the normal distribution.

No customer reaches it at the natural pace.
"""
_SHAPE: Final = np.outer(WEEKDAY_SHAPE / WEEKDAY_SHAPE.mean(), HOUR_SHAPE / HOUR_SHAPE.sum())
_SUBSCRIPTION_NUMBER: Final = 2**30
"""First number of subscription payments; the other payments of an hour are numbered from 0."""
_BLOCK: Final = 65_536
"""Customers processed at once, which bounds the memory for a large population."""


def intensity(population: Population, hour: Ints) -> Floats:
    """Return the share of a customer's average day that falls into each hour, by place.

    Args:
        population: Places and their time zones.
        hour: Hours since 1970-01-01T00:00Z, shape (n,).

    Returns:
        Shape (n, places).
    """
    local = hour[:, None] + population.utc_offset_h[None, :]
    weekday = (local // 24 + 3) % 7  # 1970-01-01 was a Thursday
    season = np.array([_season(int(h)) for h in hour])
    return np.asarray(_SHAPE[weekday, local % 24] * season[:, None])


def _season(hour: int) -> float:
    month = datetime.fromtimestamp(hour * 3600, UTC).month
    return float(SEASON_SHAPE[month - 1] / SEASON_SHAPE.mean())


class LegitimateTraffic:
    """Legitimate payments of the first customers of a population.

    Args:
        draws: Randomness.
        population: Customers and merchants.
        pace: Factor on everybody's activity; 1 is natural.
    """

    def __init__(self, draws: Draws, population: Population, pace: float = 1.0) -> None:
        self._draws = draws
        self._population = population
        self._pace = pace
        self._known = 0
        self._activity = np.empty(0)
        self._segment = np.empty(0, np.int8)
        self._subscribed = np.empty((0, SUBSCRIPTIONS), np.int16)
        self._days: dict[int, tuple[Ints, Floats]] = {}

    def hours(self, customers: int, first: int, last: int) -> Events:
        """Generate the payments of some hours, in no particular order.

        Args:
            customers: Number of customers, the first ones of the population.
            first: First hour since 1970, inclusive.
            last: Last hour, exclusive.
        """
        self._learn(customers)
        parts = []
        for hour in range(first, last):
            parts.append(self._spontaneous(customers, hour))
            parts.append(self._subscriptions(customers, hour))
        who, when, index = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self._payments(who, when, index)

    def _learn(self, customers: int) -> None:
        if customers <= self._known:
            return
        new = np.arange(self._known, customers)
        slots = []
        for index in range(SUBSCRIPTIONS):
            u = self._draws.uniforms(Purpose.SUBSCRIPTION, new, index=index)
            slots.append(np.where(u[0] < SUBSCRIPTION_SHARE, u[1] * SUBSCRIPTION_HOURS, -1))
        self._subscribed = np.concatenate([self._subscribed, np.stack(slots, 1).astype(np.int16)])
        self._activity = np.concatenate([self._activity, self._population.activity(new)])
        self._segment = np.concatenate(
            [self._segment, self._population.segment(new).astype(np.int8)]
        )
        self._known = customers

    def _today(self, customers: int, day: int) -> tuple[Ints, Floats]:
        """Return each customer's home place and expected number of payments on that day (UTC)."""
        place, level = self._days.get(day, (np.empty(0, np.int64), np.empty(0)))
        if len(place) < customers:
            new = np.arange(len(place), customers)
            u = self._draws.uniforms(Purpose.DAY, new, day)
            # The last term makes the mean of the lognormal factor 1.
            factor = np.exp(DAY_SIGMA * normal(u[0], u[1]) - DAY_SIGMA**2 / 2)
            home = self._population.home(new, np.full(len(new), day * HOURS_A_DAY))
            place = np.concatenate([place, home])
            level = np.concatenate(
                [level, self._activity[new] * self._pace * np.minimum(factor, MAX_DAY_FACTOR)]
            )
            self._days = {day: (place, level)}
        return place, level

    def _spontaneous(self, customers: int, hour: int) -> tuple[Ints, Ints, Ints]:
        """Draw the payments of an hour: customer, hour, and number of the payment for its customer."""
        place, level = self._today(customers, hour // HOURS_A_DAY)
        share = intensity(self._population, hour - SEGMENT_LATER_H)
        payers, counts = [], []
        for first in range(0, customers, _BLOCK):
            part = np.arange(first, min(first + _BLOCK, customers))
            # One draw of four words serves four hours.
            u = self._draws.uniforms(Purpose.COUNT, part, hour // 4)[hour % 4]
            mean = level[part] * share[self._segment[part], place[part]]
            hit = np.flatnonzero(u > np.exp(-mean))
            count = _poisson(mean[hit], u[hit])
            busy = np.flatnonzero(mean[hit] > _BUSY)
            if len(busy):
                v = self._draws.uniforms(Purpose.COUNT, part[hit][busy], hour, block=1)
                spread = np.sqrt(mean[hit][busy]) * normal(v[0], v[1])
                count[busy] = np.rint(np.maximum(mean[hit][busy] + spread, 0))
            payers.append(part[hit])
            counts.append(count)
        count = np.concatenate(counts)
        who = np.repeat(np.concatenate(payers), count)
        number = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
        return who, np.full(len(who), hour), number

    def _subscriptions(self, customers: int, hour: int) -> tuple[Ints, Ints, Ints]:
        slot = hour % SUBSCRIPTION_HOURS
        who, which = np.nonzero(self._subscribed[:customers] == slot)
        return who, np.full(len(who), hour), -1 - which

    def _payments(self, who: Ints, hour: Ints, index: Ints) -> Events:
        """Fill in payments; `index` counts them from 0 within an hour and is negative for subscriptions."""
        if not len(who):
            return np.empty(0, EVENT)
        draws, people = self._draws, self._population
        recurring = index < 0
        number = np.where(recurring, _SUBSCRIPTION_NUMBER - index, index)
        u = draws.uniforms(Purpose.PAYMENT, who, hour, number)
        v = draws.uniforms(Purpose.PAYMENT, who, hour, number, 1)
        spending, online_share, loyal, at_home, abroad = people.habits(who)

        away = self._away(who, hour)
        # Travellers know few of the local shops.
        loyal = np.where(away >= 0, 0.2, loyal)
        shop = self._shop(who, hour, number, online_share, loyal, recurring)
        town = who // TOWN_SIZE
        category, price = people.shop_traits(town, shop)
        online = CATEGORY_ONLINE[category]
        home = people.home(who, hour)
        place = np.where((away >= 0) & ~online & ~recurring, away, -1)
        paid_at = np.where(place >= 0, place, home)
        country = self._country(
            who, hour, number, people.place_country[paid_at], online, abroad, recurring
        )
        merchant = people.merchant(town, country, shop)

        channel = np.where(
            online, np.where(u[0] < 0.6, Channel.WEB, Channel.APP),
            np.where(u[0] < 0.7, Channel.POS, Channel.WALLET),
        )  # fmt: skip
        channel = np.where(recurring, int(Channel.RECURRING), channel)
        usd = CATEGORY_MEDIAN[category] * price * spending
        usd = usd * np.exp(CATEGORY_SIGMA[category] * normal(u[1], u[2]))
        currency = people.merchant_currency(merchant)
        # A subscription costs the same every month: its draws do not depend on the hour.
        fixed = draws.uniforms(Purpose.SUBSCRIPTION, who, index=np.where(recurring, -1 - index, 0))
        usd = np.where(recurring, 4.99 + np.floor(fixed[2] ** 2 * 30), usd)
        amount = minor_units(usd, currency, v[0])

        second = (v[1] < 0.4) & (channel == Channel.WEB)
        device, agent = people.device(who, hour, second)
        # A private window, a friend's tablet, a kiosk: a device never seen before.
        once = v[1] > 1 - STRAY_DEVICE_SHARE
        stray, stray_agent = people.device_of(who, hour, 3 + number % 1_000, hour)
        device, agent = np.where(once, stray, device), np.where(once, stray_agent, agent)
        private = draws.uniforms(Purpose.PRIVACY, who)[0] < PRIVATE_BROWSER_SHARE
        renewed, _ = people.device_of(who, hour // HOURS_A_DAY, 2_000, hour)
        device = np.where(private & ~once & (channel == Channel.WEB), renewed, device)
        ip = self._address(who, hour, v[2], v[3], at_home, online, away >= 0)
        offline = (channel == Channel.POS) | recurring

        events = np.empty(len(who), EVENT)
        events["time_ms"] = hour * HOUR_MS + (u[3] * HOUR_MS).astype(np.int64)
        events["customer"] = who
        events["id"] = event_ids(draws, Purpose.EVENT_ID, who, hour, number, 0)
        events["amount"] = amount
        events["currency"] = currency
        events["merchant"] = merchant
        events["category"] = category
        events["channel"] = channel
        events["ip"] = np.where(offline, -1, ip)
        events["device"] = np.where(offline, -1, device)
        events["agent"] = np.where(offline, -1, agent)
        events["contact"] = 0
        events["card"] = self._card(who, hour, number, recurring)
        events["place"] = place
        events["campaign"] = Campaign.LEGITIMATE
        events["campaign_id"] = 0
        return join(
            [events, self._sprees(events[~recurring]), self._retries(events[online & ~recurring])]
        )

    def _shop(
        self, who: Ints, hour: Ints, number: Ints, online_share: Floats, loyal: Floats, recurring: NDArray[np.bool_],
    ) -> Ints:  # fmt: skip
        """Choose shops: mostly favourites, sometimes new ones; online or not by habit.

        The first of `CANDIDATES` of the wanted kind is chosen, so that the favourites of customers who
        shop online are mostly online.
        """
        draws, people, town = self._draws, self._population, who // TOWN_SIZE
        u = draws.uniforms(Purpose.SHOP, who, hour, number)
        want_online = (u[0] < online_share) | recurring
        chosen = np.full(len(who), -1, np.int64)
        for attempt in range(CANDIDATES):
            w = draws.uniforms(Purpose.SHOP, who, hour, number, 2 + attempt)
            rank = np.minimum(-np.log(w[0]) * 3.0, 11).astype(np.int64)
            # A subscription's merchant depends on its number alone, so that it never changes.
            rank = np.where(recurring, number * CANDIDATES + attempt, rank)
            favourite = people.favourite(who, rank)
            fresh = people.shop_by_popularity(w[1])
            candidate = np.where((w[2] < loyal) | recurring, favourite, fresh)
            suits = CATEGORY_ONLINE[people.shop_traits(town, candidate)[0]] == want_online
            chosen = np.where(
                (chosen < 0) & (suits | (attempt == CANDIDATES - 1)), candidate, chosen
            )
        return chosen

    def _country(
        self, who: Ints, hour: Ints, number: Ints, here: Ints, online: NDArray[np.bool_], abroad: Floats, recurring: NDArray[np.bool_],
    ) -> Ints:  # fmt: skip
        """Choose the merchant's country: where the customer pays, or for some online payments elsewhere."""
        people = self._population
        # A subscription's merchant never changes: its draws do not depend on the hour.
        u = self._draws.uniforms(Purpose.SHOP, who, np.where(recurring, 0, hour), number, 8)
        elsewhere = pick(people.country_cumulative, u[2])
        elsewhere = np.where(u[1] < 0.6, people.other_country(who), elsewhere)
        return np.asarray(np.where(online & (u[0] < abroad), elsewhere, here))

    def _card(self, who: Ints, hour: Ints, number: Ints, recurring: NDArray[np.bool_]) -> Ints:
        """Choose one of the customer's cards; a subscription is always charged to the first."""
        u = self._draws.uniforms(Purpose.CARD, who, hour, number, 1)
        second = (u[0] < SECOND_CARD_USE) & ~recurring & self._population.has_second_card(who)
        return np.asarray(second, np.int64)

    def _away(self, who: Ints, hour: Ints) -> Ints:
        """Return the place each customer is visiting at that hour, -1 when at home."""
        week = hour // 168
        u = self._draws.uniforms(Purpose.TRIP, who, week)
        start = u[1] * 6 * 24
        length = 24 + u[2] * 96
        into = hour - week * 168
        gone = (u[0] < TRIP_SHARE) & (into >= start) & (into < start + length)
        return np.where(gone, pick(self._population.place_cumulative, u[3]), -1)

    def _address(
        self, who: Ints, hour: Ints, u: Floats, v: Floats, at_home: Floats, online: Any, away: Any
    ) -> Ints:
        """Choose IP addresses: home, work, the carrier's shared ones, a hotel's or a VPN's."""
        people = self._population
        mobile = people.carrier_ip(who // TOWN_SIZE, v)
        inside = np.where(u < 0.5 + at_home / 2, people.home_ip(who, hour), people.work_ip(who))
        settled = np.where(online & (u < at_home + 0.15), inside, mobile)
        # A trip has a new address each day; a VPN's exit changes daily and serves 512 customers.
        hotel = people.public_ip(Purpose.TRIP, who, hour // 24, 5)
        vpn = people.public_ip(Purpose.NETWORK, who // 512, hour // 24, 6)
        chosen = np.where(away, hotel, settled)
        private = people.draws.uniforms(Purpose.NETWORK, who, index=7)[0] < 0.04
        return np.where(private & online, vpn, chosen)

    def _sprees(self, events: Events) -> Events:
        """Generate follow-up payments: one to three within the hour, for some of the payments."""
        u = self._identity(events, 0)
        lead = events[u[0] < SPREE_SHARE]
        if not len(lead):
            return join([lead])
        u = u[:, u[0] < SPREE_SHARE]
        times = 1 + (u[1] * 3).astype(np.int64)
        rows = np.repeat(lead, times)
        nth = np.concatenate([np.arange(1, n + 1) for n in times])
        w = self._identity(rows, nth)
        online = CATEGORY_ONLINE[rows["category"]]
        people, town = self._population, rows["customer"] // TOWN_SIZE
        shop = people.shop_by_popularity(w[0])
        category, price = people.shop_traits(town, shop)
        # The next shop is in the same country.
        near = people.merchant(town, people.merchant_country(rows["merchant"]), shop)
        # Nobody switches between street and screen: they pay at the first shop again instead.
        same = CATEGORY_ONLINE[category] != online
        merchant = np.where(same, rows["merchant"], near)
        usd = (
            CATEGORY_MEDIAN[category]
            * price
            * np.exp(CATEGORY_SIGMA[category] * normal(w[1], w[2]))
        )
        rows["amount"] = np.where(
            same, np.maximum(1, (rows["amount"] * (0.4 + w[1])).astype(np.int64)),
            minor_units(usd, rows["currency"].astype(np.int64), w[3]),
        )  # fmt: skip
        rows["category"] = np.where(same, rows["category"], category)
        rows["merchant"] = merchant
        gap = (nth * (60_000 + 600_000 * w[3])).astype(np.int64)
        return self._later(rows, gap, 100 + nth)

    def _retries(self, events: Events) -> Events:
        """Repeat some online payments, as when a page hangs and the button is pressed again."""
        u = self._identity(events, 50)
        rows = events[u[0] < RETRY_SHARE].copy()
        gap = (4_000 + u[1][u[0] < RETRY_SHARE] * 110_000).astype(np.int64)
        return self._later(rows, gap, np.full(len(rows), 60))

    def _identity(self, events: Events, index: Any) -> Floats:
        """Return uniform draws that depend on the ids of events."""
        ids = events["id"].astype(np.int64)
        return self._draws.uniforms(Purpose.COMPANION, ids[:, 0], ids[:, 1], ids[:, 2], index)

    def _later(self, rows: Events, gap_ms: Ints, block: Ints) -> Events:
        """Move copied events to a later time within their hour, and assign new ids."""
        end = (rows["time_ms"] // HOUR_MS + 1) * HOUR_MS - 1
        ids = rows["id"].astype(np.int64)
        rows["id"] = event_ids(
            self._draws,
            Purpose.COMPANION,
            ids[:, 0],
            ids[:, 1] ^ ids[:, 3],
            ids[:, 2],
            1000 + block,
        )
        rows["time_ms"] = np.minimum(rows["time_ms"] + gap_ms, end)
        return rows


def _poisson(mean: Floats, u: Floats) -> Ints:
    """Draw counts of at least 1 by inversion, up to means of about `_BUSY`.

    Args:
        mean: Means of the distributions.
        u: Uniform draws, each above exp(-mean); lower ones stand for counts of 0.
    """
    term = np.exp(-mean)
    reach = term.copy()
    count = np.ones(len(mean), np.int64)
    for k in range(1, 4 * _BUSY):
        term = term * mean / k
        reach = reach + term
        more = u > reach
        if not more.any():
            break
        count += more
    return count


def minor_units(usd: Floats, currency: Ints, u: Floats) -> Ints:
    """Convert prices to a currency's smallest unit, rounded as shops do.

    Args:
        usd: Prices in US dollars.
        currency: Indexes into `CURRENCIES`.
        u: Uniform draws: a third of the prices end in 99, one in ten is round.

    Returns:
        Amounts of at least 1.
    """
    scale = 10 ** CURRENCY_DECIMALS[currency]
    exact = np.rint(usd * CURRENCY_LEVEL[currency] * scale).astype(np.int64)
    whole = np.maximum(exact // 100, 1) * 100
    charming = np.where(scale == 100, whole - 1, exact)
    amount = np.where(u < 0.33, charming, np.where(u < 0.43, whole, exact))
    return np.maximum(amount, 1)
