"""Who pays: customers with a home, an income, habits, devices, networks, contacts and a card; and merchants.

Nothing is stored per customer. Each attribute is a function of the seed and the customer's
number, so a population has no size: history takes its first two thousand, a live stream of
20 transactions a second its first million. What makes them look real (names, jobs, streets,
domains) is made by Faker once and cached.

Customers come in *towns* of `TOWN_SIZE`, each with its own merchants and carrier networks. Every
density (customers per merchant, per shared address, per campaign) is therefore the same in a
small population and a large one, and so are the features computed from it. A town is not a place:
its people live all over the world, and each of its `TOWN_MERCHANTS` shops is a chain with a
merchant of its own in every country, which sells in that country's currency.
"""

from __future__ import annotations

import csv
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from producer.randomness import Draws, Floats, Ints, Purpose, cumulative, normal, pick

PLACE_FILE: Final = Path(__file__).with_name("places.csv")
TOWN_SIZE: Final = 2_000
"""Customers of one town."""
TOWN_MERCHANTS: Final = 250
"""Merchants of one town in each country."""
TOWN_CARRIER_IPS: Final = 12
"""Public addresses of one town's mobile carriers: each is shared by hundreds of customers."""
CARD_BINS: Final = 300
"""Issuers' number ranges, shared out among the countries."""
SECOND_CARD_SHARE: Final = 0.35
"""Part of the customers who have another card."""
FOREIGN_PHONE_SHARE: Final = 0.04
"""Part of the customers whose phone number is of another country."""
MAX_ACTIVITY: Final = 15.0
"""Most transactions a day that a customer makes on average."""
_MEDIAN_ACTIVITY: Final = 1.2
_ACTIVITY_SIGMA: Final = 1.0
"""Of the logarithm: a tenth of the customers makes a third of the transactions."""

POOL_SIZES: Final = {
    "first_names": 600, "last_names": 900, "jobs": 400, "streets": 1_500, "domains": 300,
}  # fmt: skip
_POOL_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Currency:
    """Money of a country.

    Attributes:
        code: ISO 4217.
        decimals: Digits after the point.
        price_level: Units that buy what one US dollar buys.
    """

    code: str
    decimals: int
    price_level: float


CURRENCIES: Final[tuple[Currency, ...]] = (
    Currency("USD", 2, 1.0), Currency("GBP", 2, 0.8), Currency("EUR", 2, 0.9), Currency("SEK", 2, 10.0),
    Currency("PLN", 2, 3.6), Currency("CHF", 2, 1.1), Currency("CAD", 2, 1.3), Currency("MXN", 2, 14.0),
    Currency("BRL", 2, 4.0), Currency("INR", 2, 45.0), Currency("SGD", 2, 1.3), Currency("HKD", 2, 7.5),
    Currency("JPY", 0, 130.0), Currency("KRW", 0, 1_200.0), Currency("AUD", 2, 1.4), Currency("NZD", 2, 1.6),
    Currency("ZAR", 2, 12.0), Currency("TRY", 2, 25.0),
)  # fmt: skip
_CURRENCY_OF: Final = {
    "US": "USD", "GB": "GBP", "FR": "EUR", "DE": "EUR", "ES": "EUR", "IT": "EUR", "NL": "EUR", "SE": "SEK",
    "PL": "PLN", "CH": "CHF", "CA": "CAD", "MX": "MXN", "BR": "BRL", "IN": "INR", "SG": "SGD", "HK": "HKD",
    "JP": "JPY", "KR": "KRW", "AU": "AUD", "NZ": "NZD", "ZA": "ZAR", "TR": "TRY",
}  # fmt: skip
COUNTRIES: Final = tuple(_CURRENCY_OF)
"""ISO 3166 codes of the countries in which people live and merchants sell."""
_CALLING_CODE: Final = {
    "US": 1, "GB": 44, "FR": 33, "DE": 49, "ES": 34, "IT": 39, "NL": 31, "SE": 46, "PL": 48, "CH": 41,
    "CA": 1, "MX": 52, "BR": 55, "IN": 91, "SG": 65, "HK": 852, "JP": 81, "KR": 82, "AU": 61, "NZ": 64,
    "ZA": 27, "TR": 90,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Category:
    """What merchants of one kind sell.

    Attributes:
        name: As on the wire.
        online: Whether it is bought over the web or an app.
        share: Part of the merchants.
        median: Median amount, US dollars.
        sigma: Of the amount's logarithm.
        resale: How much a thief likes it, 0 = not at all.
    """

    name: str
    online: bool
    share: float
    median: float
    sigma: float
    resale: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Customers of one kind.

    Attributes:
        name: What they are.
        share: Part of the customers.
        activity: Payments, against everybody's.
        income: Median, US dollars a year.
        online: Payments over the web, against everybody's.
        later_h: Hours by which their day is later than others'.
        job: What they say they do; empty = an occupation.
    """

    name: str
    share: float
    activity: float
    income: float
    online: float
    later_h: int
    job: str = ""


SEGMENTS: Final[tuple[Segment, ...]] = (
    Segment("student", 0.17, 0.8, 18_000.0, 1.3, 2, "Student"),
    Segment("family", 0.30, 1.1, 46_000.0, 1.0, 0),
    Segment("professional", 0.25, 1.2, 66_000.0, 1.15, 1),
    Segment("retiree", 0.20, 0.75, 34_000.0, 0.6, -2, "Retired"),
    Segment("self_employed", 0.08, 1.3, 78_000.0, 1.0, -1),
)
SEGMENT_LATER_H: Final = np.array([segment.later_h for segment in SEGMENTS])
_SEGMENT_ACTIVITY: Final = np.array([segment.activity for segment in SEGMENTS])
_SEGMENT_INCOME: Final = np.array([segment.income for segment in SEGMENTS])
_SEGMENT_ONLINE: Final = np.array([segment.online for segment in SEGMENTS])
_SEGMENT_CUMULATIVE: Final = cumulative([segment.share for segment in SEGMENTS])
_USUAL_INCOME: Final = 45_000.0

CATEGORIES: Final[tuple[Category, ...]] = (
    Category("grocery_pos", False, 0.16, 38.0, 0.8, 0.3),
    Category("gas_transport", False, 0.12, 32.0, 0.5, 0.5),
    Category("food_dining", False, 0.14, 24.0, 0.7, 0.3),
    Category("shopping_pos", False, 0.09, 55.0, 1.0, 2.0),
    Category("health_fitness", False, 0.05, 40.0, 0.8, 0.1),
    Category("personal_care", False, 0.05, 30.0, 0.7, 0.2),
    Category("home", False, 0.05, 65.0, 1.0, 0.6),
    Category("shopping_net", True, 0.13, 52.0, 1.0, 2.2),
    Category("misc_net", True, 0.06, 28.0, 1.1, 1.8),
    Category("grocery_net", True, 0.04, 60.0, 0.7, 1.2),
    Category("entertainment", True, 0.05, 22.0, 0.8, 1.6),
    Category("digital_goods", True, 0.03, 18.0, 0.9, 2.2),
    Category("kids_pets", True, 0.02, 42.0, 0.8, 0.9),
    Category("travel", True, 0.01, 260.0, 1.0, 1.0),
    # Nobody sells these until they are injected as drift.
    Category("crypto_exchange", True, 0.0, 120.0, 1.0, 0.0),
    Category("telehealth", True, 0.0, 60.0, 0.8, 0.0),
    Category("virtual_goods", True, 0.0, 15.0, 0.9, 0.0),
)
NEW_CATEGORIES: Final = np.flatnonzero([category.share == 0 for category in CATEGORIES])
"""Categories that only drift brings."""
CATEGORY_ONLINE: Final = np.array([category.online for category in CATEGORIES])
CATEGORY_MEDIAN: Final = np.array([category.median for category in CATEGORIES])
CATEGORY_SIGMA: Final = np.array([category.sigma for category in CATEGORIES])
CATEGORY_RESALE: Final = np.array([category.resale for category in CATEGORIES])

CURRENCY_DECIMALS: Final = np.array([currency.decimals for currency in CURRENCIES])
CURRENCY_LEVEL: Final = np.array([currency.price_level for currency in CURRENCIES])
_COUNTRY_CURRENCY: Final = np.array(
    [[currency.code for currency in CURRENCIES].index(code) for code in _CURRENCY_OF.values()]
)

_FREE_DOMAINS: Final = (
    "gmail.com", "yahoo.com", "hotmail.com", "outlook.com", "icloud.com", "aol.com", "gmx.net", "proton.me",
)  # fmt: skip
_DISPOSABLE_DOMAINS: Final = (
    "mailinator.com",
    "guerrillamail.com",
    "10minutemail.com",
    "yopmail.com",
)

AGENT_KINDS: Final[tuple[tuple[str, float], ...]] = (
    ("Mozilla/5.0 (iPhone; CPU iPhone OS {major}_{minor} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{major}.{minor} Mobile/15E148 Safari/604.1", 0.34),
    ("Mozilla/5.0 (Linux; Android {android}; {model}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Mobile Safari/537.36", 0.36),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36", 0.16),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0", 0.04),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{major}.{minor} Safari/605.1.15", 0.07),
    ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36", 0.03),
    # Nobody has these until they are injected as drift.
    ("Mozilla/5.0 (Linux; Android {android}; Fold {model}) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/{major}.0 Chrome/{chrome}.0.0.0 Mobile Safari/537.36", 0.0),
    ("Mozilla/5.0 (SMART-TV; Linux; Tizen 8.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36 Edg/{chrome}.0.0.0", 0.0),
)  # fmt: skip
"""User agents with their share of devices. The first two are phones."""
AGENT_KIND: Final = 100_000
AGENT_VARIANT: Final = 10_000
"""A user agent's number is decimal: its kind, one digit of variant, four digits of release."""
NEW_AGENT_KINDS: Final = np.flatnonzero([share == 0 for _, share in AGENT_KINDS])
"""Kinds of user agents that only drift brings."""
_MODELS: Final = ("Pixel 7", "Pixel 8", "SM-S911B", "SM-A546B", "SM-G991U", "moto g power", "Redmi Note 12", "CPH2449")  # fmt: skip
_AGENT_CUMULATIVE: Final = cumulative([share for _, share in AGENT_KINDS])


@dataclass(frozen=True, slots=True)
class City:
    """A city in which people live and shops stand."""

    city: str
    state: str
    zip: str
    latitude: float
    longitude: float
    country: str
    utc_offset_h: int
    weight: float


def read_places(path: Path = PLACE_FILE) -> tuple[City, ...]:
    """Read the table of cities."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(
            City(
                row["city"], row["state"], row["zip"], float(row["latitude"]),
                float(row["longitude"]), row["country"], int(row["utc_offset_h"]), float(row["weight"]),
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pools:
    """What Faker made: the words of which people and companies are composed."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    jobs: tuple[str, ...]
    streets: tuple[str, ...]
    domains: tuple[str, ...]


def make_pools(seed: int) -> Pools:
    """Generate the pools by Faker.

    Args:
        seed: The same seed and Faker version give the same pools.
    """
    from faker import Faker

    fake = Faker("en_US")
    fake.seed_instance(seed)
    makers = {
        "first_names": fake.first_name, "last_names": fake.last_name, "jobs": fake.job,
        "streets": fake.street_name, "domains": fake.domain_name,
    }  # fmt: skip
    return Pools(
        **{name: tuple(makers[name]() for _ in range(n)) for name, n in POOL_SIZES.items()}
    )


def load_pools(seed: int, folder: Path | None = None) -> Pools:
    """Read the pools of a seed from their cache, or make and keep them.

    Args:
        seed: Part of the file's name, as is a hash of the configuration and of Faker's version, on
            which the words hang.
        folder: Cache folder; None makes them anew.
    """
    if folder is None:
        return make_pools(seed)
    made_of = [_POOL_VERSION, version("faker"), POOL_SIZES]
    config = orjson.dumps(made_of, option=orjson.OPT_SORT_KEYS)
    path = folder / f"population-{seed}-{hashlib.sha256(config).hexdigest()[:12]}.json"
    if path.exists():
        return Pools(
            **{name: tuple(words) for name, words in orjson.loads(path.read_bytes()).items()}
        )
    pools = make_pools(seed)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps({name: getattr(pools, name) for name in POOL_SIZES}))
    part.replace(path)
    return pools


def _mailbox(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain.lower() if letter.isalnum())


class Habits(NamedTuple):
    """What customers are like, each of shape (n,).

    Attributes:
        spending: Spending level, 1 = as most; it hangs on the income.
        online: Share of the payments made online.
        loyal: Share of the payments at favourite merchants.
        at_home: Share of the online payments made from home.
        abroad: Share of the online payments at merchants abroad.
    """

    spending: Floats
    online: Floats
    loyal: Floats
    at_home: Floats
    abroad: Floats


@dataclass(frozen=True)
class Population:
    """All customers and merchants of a seed.

    Args:
        draws: Randomness of the seed.
        pools: Words to compose them of.
        places: Cities.
    """

    draws: Draws
    pools: Pools
    places: tuple[City, ...] = field(default_factory=read_places)

    @cached_property
    def utc_offset_h(self) -> Ints:
        """Hours by which each place is ahead of UTC."""
        return np.array([place.utc_offset_h for place in self.places], np.int64)

    @cached_property
    def place_country(self) -> Ints:
        """Index into `COUNTRIES` of each place."""
        return np.array([COUNTRIES.index(place.country) for place in self.places], np.int64)

    @cached_property
    def _country_share(self) -> Floats:
        weights = [place.weight for place in self.places]
        total = np.bincount(self.place_country, weights, minlength=len(COUNTRIES))
        return np.asarray(total / total.sum())

    @cached_property
    def country_cumulative(self) -> Floats:
        """Cumulative weights of the countries, by how many live there."""
        return cumulative(self._country_share)

    @cached_property
    def place_cumulative(self) -> Floats:
        """Cumulative weights of the places."""
        return cumulative([place.weight for place in self.places])

    # Customers

    def activity(self, customer: Ints) -> Floats:
        """Return the transactions a day that each customer makes on average."""
        u = self.draws.uniforms(Purpose.ACTIVITY, customer)
        raw = _MEDIAN_ACTIVITY * np.exp(_ACTIVITY_SIGMA * normal(u[0], u[1]))
        raw = raw * _SEGMENT_ACTIVITY[pick(_SEGMENT_CUMULATIVE, u[2])]
        return np.asarray(np.clip(raw, 0.05, MAX_ACTIVITY))

    def segment(self, customer: Ints) -> Ints:
        """Return the kind of customer each is, an index into `SEGMENTS`."""
        return pick(_SEGMENT_CUMULATIVE, self.draws.uniforms(Purpose.ACTIVITY, customer)[2])

    def household(self, customer: Ints) -> Ints:
        """Return the first customer of each one's household: two in five share home and network."""
        first = customer & ~np.int64(1)
        shared = self.draws.uniforms(Purpose.HOME, first, block=1)[0] < 0.4
        return np.where(shared, first, customer)

    def residence(self, customer: Ints, hour: Ints) -> Ints:
        """Count the moves of each customer's household by that hour; one in about seven years."""
        house = self.household(customer)
        u = self.draws.uniforms(Purpose.HOME, house, block=2)
        return np.asarray((hour // 24 + u[0] * 2500) // 2500, np.int64)

    def home(self, customer: Ints, hour: Ints) -> Ints:
        """Return the place in which each customer lives at that hour, an index into `places`."""
        house = self.household(customer)
        u = self.draws.uniforms(Purpose.HOME, house, self.residence(customer, hour))
        return pick(self.place_cumulative, u[0])

    def home_jitter(self, customer: Ints, hour: Ints) -> tuple[Floats, Floats]:
        """Return where in its city each home stands, degrees north and east of the centre."""
        house = self.household(customer)
        u = self.draws.uniforms(Purpose.HOME, house, self.residence(customer, hour))
        return (u[1] - 0.5) * 0.3, (u[2] - 0.5) * 0.3

    def habits(self, customer: Ints) -> Habits:
        """Draw what each customer is like."""
        u = self.draws.uniforms(Purpose.HABITS, customer)
        w = self.draws.uniforms(Purpose.HABITS, customer, block=1)
        segment = self.segment(customer)
        income = _SEGMENT_INCOME[segment] * np.exp(0.5 * normal(w[0], w[1]))
        online = np.minimum((0.15 + 0.7 * u[1] ** 1.5) * _SEGMENT_ONLINE[segment], 0.95)
        # Few buy abroad all the time: they came from there, or collect something.
        abroad = np.where(w[2] < 0.1, 0.4, 0.04)
        spending = (income / _USUAL_INCOME) ** 0.75
        return Habits(spending, online, 0.6 + 0.35 * u[2], 0.3 + 0.6 * u[3], abroad)

    def other_country(self, customer: Ints) -> Ints:
        """Return the country abroad from which each customer buys most, an index into `COUNTRIES`."""
        return pick(
            self.country_cumulative, self.draws.uniforms(Purpose.HABITS, customer, block=1)[3]
        )

    def favourite(self, customer: Ints, rank: Ints) -> Ints:
        """Return each customer's favourite shop of that rank, from 0, numbered within the town."""
        return self.shop_by_popularity(
            self.draws.uniforms(Purpose.SHOP, customer, index=rank, block=1)[0]
        )

    def card_bin(self, customer: Ints, card: Ints, hour: Ints, home: Ints) -> Ints:
        """Return the issuer's range of a card, an index into `card_bins`.

        Args:
            customer: Who pays.
            card: 0 or 1 for the customer's own, else the number of another's.
            hour: When; people change their bank every six years.
            home: The place in which the customer lives: banks are of its country.
        """
        own = card < 2
        u = self.draws.uniforms(Purpose.CARD, customer, index=1)
        generation = np.where(own, (hour // 24 + u[0] * 2200) // 2200, 0).astype(np.int64)
        v = self.draws.uniforms(
            Purpose.CARD, np.where(own, customer, card), generation, np.where(own, 2 + card, 4)
        )
        country = np.where(own, self.place_country[home], pick(self.country_cumulative, v[1]))
        first, count = self._country_bins
        # Large banks have most of the customers.
        return np.asarray(first[country] + (v[0] ** 2 * count[country]).astype(np.int64))

    def has_second_card(self, customer: Ints) -> NDArray[np.bool_]:
        """Whether each customer has another card."""
        return np.asarray(
            self.draws.uniforms(Purpose.CARD, customer, index=1)[1] < SECOND_CARD_SHARE
        )

    def calling_code(self, customer: Ints, contact: Ints, home: Ints) -> list[str]:
        """Write the international prefix of each phone number, such as `+1`.

        Args:
            customer: Who.
            contact: 0 for their own phone, else the number of another's.
            home: The place in which the customer lives.
        """
        own = contact == 0
        u = self.draws.uniforms(
            Purpose.CONTACT, np.where(own, customer, contact & 0xFFFFFFFF), index=np.where(own, 8, 9), block=1
        )  # fmt: skip
        foreign = u[0] < np.where(own, FOREIGN_PHONE_SHARE, 0.35)
        place = np.where(foreign, pick(self.place_cumulative, u[1]), home)
        return list(self._calling_codes[place].tolist())

    def home_ip(self, customer: Ints, hour: Ints) -> Ints:
        """Return the address of each household's line; providers change it every month or two."""
        house = self.household(customer)
        u = self.draws.uniforms(Purpose.NETWORK, house)
        lease = ((hour // 24 + u[0] * 45) // 45).astype(np.int64)
        return self.public_ip(Purpose.NETWORK, house, lease, 1)

    def work_ip(self, customer: Ints) -> Ints:
        """Return the address of each customer's employer, shared by about twenty of the town."""
        u = self.draws.uniforms(Purpose.NETWORK, customer, index=2)
        employer = (u[0] * (TOWN_SIZE // 20)).astype(np.int64)
        return self.public_ip(Purpose.NETWORK, customer // TOWN_SIZE, employer, 3)

    def carrier_ip(self, town: Ints, u: Floats) -> Ints:
        """Return one of the addresses behind which a town's phones hide."""
        return self.public_ip(Purpose.NETWORK, town, (u * TOWN_CARRIER_IPS).astype(np.int64), 4)

    def public_ip(self, purpose: Purpose, who: Any, when: Any, index: Any) -> Ints:
        """Draw an IPv4 address, as an integer, that is neither private nor reserved."""
        words = self.draws.words(purpose, who, when, index, block=9)
        first = _PUBLIC_FIRST[(words[0] % np.uint64(len(_PUBLIC_FIRST))).astype(np.int64)]
        # The first of the four bytes decides what an address is for; the other three are free.
        rest = (words[1] & np.uint64(0xFFFFFF)).astype(np.int64)
        return np.asarray((first << 24) | rest)

    def device(self, customer: Ints, hour: Ints, second: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Return the device that each customer uses at that hour.

        Args:
            customer: Who.
            hour: When; a device is replaced every one to four years.
            second: Whether it is the computer rather than the phone.

        Returns:
            The device's number, and its user agent's (see `agent_texts`).
        """
        slot = second.astype(np.int64)
        u = self.draws.uniforms(Purpose.DEVICE, customer, index=slot)
        life_days = 400 + u[0] * 1000
        generation = ((hour // 24 + u[1] * 1400) // life_days).astype(np.int64)
        return self.device_of(customer, generation, slot, hour)

    def device_of(self, who: Any, generation: Any, slot: Any, hour: Any) -> tuple[Ints, Ints]:
        """Return a device by its owner, generation and slot: its number, and its user agent's."""
        words = self.draws.words(Purpose.DEVICE, who, generation, slot, block=1)
        # 63 bits: a device's number is never negative, as -1 stands for no device.
        number = ((words[0] << np.uint64(31)) ^ words[1]).astype(np.int64)
        u = (words[2].astype(np.float64) + 0.5) * 2.0**-32
        kind = pick(_AGENT_CUMULATIVE, u)
        # A phone is a phone and a computer a computer; fraudsters (other slots) have either.
        kind = np.where(np.asarray(slot) == 0, np.where(kind <= 1, kind, kind % 2), kind)
        kind = np.where((np.asarray(slot) == 1) & (kind <= 1), kind + 2, kind)
        variant = (words[3] & np.uint64(7)).astype(np.int64)
        # Software is updated every four weeks, each device on a day of its own.
        phase = (words[3] >> np.uint64(8)).astype(np.int64) % 28
        release = (np.asarray(hour, np.int64) // 24 + phase) // 28
        return number, kind * AGENT_KIND + variant * AGENT_VARIANT + release % AGENT_VARIANT

    # Merchants

    def shop_by_popularity(self, u: Floats) -> Ints:
        """Choose a shop of a town: the first few get most of the trade (Zipf)."""
        return pick(_ZIPF, u)

    def shop_traits(self, town: Ints, shop: Ints) -> tuple[Ints, Floats]:
        """Return the category (index into `CATEGORIES`) and price level (1 = usual) of shops.

        A shop's merchants are alike in every country.
        """
        u = self.draws.uniforms(Purpose.MERCHANT, town, index=shop)
        category = pick(_CATEGORY_CUMULATIVE, u[0])
        return category, np.asarray(np.exp(0.35 * normal(u[1], u[2])))

    def merchant(self, town: Ints, country: Ints, shop: Ints) -> Ints:
        """Number the merchant that a town's shop is in a country."""
        return np.asarray((town * len(COUNTRIES) + country) * TOWN_MERCHANTS + shop)

    def merchant_country(self, merchant: Ints) -> Ints:
        """Return the country of merchants, an index into `COUNTRIES`."""
        return np.asarray(merchant // TOWN_MERCHANTS % len(COUNTRIES))

    def merchant_currency(self, merchant: Ints) -> Ints:
        """Return the currency in which merchants sell, an index into `CURRENCIES`."""
        return np.asarray(_COUNTRY_CURRENCY[self.merchant_country(merchant)])

    # Words

    def texts(
        self, customer: Ints, contact: Ints, card: Ints, hour: Ints, home: Ints
    ) -> dict[str, list[str]]:
        """Write what customers say about themselves.

        Args:
            customer: Who.
            contact: 0 for their own e-mail and phone, else the number of another's.
            card: 0 or 1 for a card of their own, else the number of another's.
            hour: When (their street changes when they move).
            home: The place in which they live.

        Returns:
            Columns customer_name, email_address, phone (national part), customer_job,
            billing_street, card_bin.
        """
        pools, draws = self.pools, self.draws
        name = draws.words(Purpose.IDENTITY, customer).astype(np.int64)
        more = draws.words(Purpose.IDENTITY, customer, block=1).astype(np.int64)
        house = draws.words(
            Purpose.IDENTITY, self.household(customer), self.residence(customer, hour), block=2
        ).astype(np.int64)
        firsts = _take(pools.first_names, name[0])
        # A household's name is common.
        family = draws.words(Purpose.IDENTITY, self.household(customer), block=3).astype(np.int64)
        lasts = _take(pools.last_names, family[0])
        # A contact's number has 64 bits, a coordinate of a draw 32.
        other = draws.words(Purpose.CONTACT, contact & 0xFFFFFFFF, contact >> 32).astype(np.int64)
        own = contact == 0
        free = (more[1] % 10 < 7, other[1] % 10 < 6)
        own_domain = np.where(
            free[0], _array(_FREE_DOMAINS)[more[2] % len(_FREE_DOMAINS)],
            _array(pools.domains)[more[2] % len(pools.domains)],
        )  # fmt: skip
        other_domain = np.where(
            free[1], _array(_FREE_DOMAINS)[other[2] % len(_FREE_DOMAINS)],
            np.where(
                other[1] % 10 < 8, _array(_DISPOSABLE_DOMAINS)[other[2] % len(_DISPOSABLE_DOMAINS)],
                _array(pools.domains)[other[2] % len(pools.domains)],
            ),
        )  # fmt: skip
        domains = np.where(own, own_domain, other_domain).tolist()
        digits = np.where(own, more[0], other[0])
        mail_first = np.where(
            own, self._first_mailboxes[name[0] % len(pools.first_names)],
            self._first_mailboxes[other[3] % len(pools.first_names)],
        ).tolist()  # fmt: skip
        mail_last = np.where(
            own, self._last_mailboxes[family[0] % len(pools.last_names)],
            self._last_mailboxes[other[0] % len(pools.last_names)],
        ).tolist()  # fmt: skip
        numbers = (digits % 1000).tolist()
        phone = np.where(own, more[3], other[3])
        return {
            "customer_name": [f"{a} {b}" for a, b in zip(firsts, lasts, strict=True)],
            "email_address": [
                f"{a}.{b}@{d}" if n % 3 == 0 else f"{a}{n}@{d}" if n % 3 == 1 else f"{a[0]}{b}{n % 100}@{d}"
                for a, b, n, d in zip(mail_first, mail_last, numbers, domains, strict=True)
            ],
            "phone": [
                f"{200 + a}-555-{b:04d}"
                for a, b in zip((phone % 790).tolist(), ((phone >> 10) % 10_000).tolist(), strict=True)
            ],
            "customer_job": [
                SEGMENTS[segment].job or job
                for segment, job in zip(
                    self.segment(customer).tolist(), _take(pools.jobs, name[1]), strict=True
                )
            ],
            "billing_street": [
                f"{n} {s}" for n, s in zip((1 + house[1] % 9_800).tolist(), _take(pools.streets, house[2]), strict=True)
            ],
            "card_bin": self.card_bins[self.card_bin(customer, card, hour, home)].tolist(),
        }  # fmt: skip

    @cached_property
    def _first_mailboxes(self) -> NDArray[np.object_]:
        return _array([_mailbox(name) for name in self.pools.first_names])

    @cached_property
    def _last_mailboxes(self) -> NDArray[np.object_]:
        return _array([_mailbox(name) for name in self.pools.last_names])

    @cached_property
    def card_bins(self) -> NDArray[np.object_]:
        """Return the issuers' number ranges."""
        count = int(self._country_bins[1].sum())
        words = self.draws.words(Purpose.IDENTITY, np.arange(count), block=7).astype(np.int64)
        lead = np.where(words[0] % 10 < 6, 4, np.where(words[0] % 10 < 9, 5, 3))
        return _array(
            [
                f"{a}{b:05d}"
                for a, b in zip(lead.tolist(), (words[1] % 100_000).tolist(), strict=True)
            ]
        )

    @cached_property
    def _country_bins(self) -> tuple[Ints, Ints]:
        """Number of each country's first range, and how many it has."""
        count = np.maximum(np.rint(CARD_BINS * self._country_share), 2).astype(np.int64)
        return np.cumsum(count) - count, count

    @cached_property
    def _calling_codes(self) -> NDArray[np.object_]:
        return _array([f"+{_CALLING_CODE[place.country]}" for place in self.places])


def agent_text(agent: int) -> str:
    """Write a user agent by its number."""
    kind, rest = divmod(agent, AGENT_KIND)
    variant, release = divmod(rest, AGENT_VARIANT)
    # Chrome 120 came out in the four weeks numbered 703 since 1970.
    chrome = max(release - 703 + 120, 60)
    major = max(17 + (release - 703) // 13, 12)
    return AGENT_KINDS[kind][0].format(
        chrome=chrome, firefox=chrome + 1, major=major, minor=(release - 703) % 13 // 2,
        android=max(14 + (release - 703) // 13, 9), model=_MODELS[variant],
    )  # fmt: skip


def _array(words: Sequence[str]) -> NDArray[np.object_]:
    out = np.empty(len(words), object)
    out[:] = words
    return out


def _take(words: Sequence[str], index: Ints) -> list[str]:
    n = len(words)
    return [words[i] for i in (index % n).tolist()]


_CATEGORY_CUMULATIVE: Final = cumulative([category.share for category in CATEGORIES])
_ZIPF: Final = cumulative(1.0 / np.arange(1, TOWN_MERCHANTS + 1) ** 0.8)
_PUBLIC_FIRST: Final = np.array(
    [a for a in range(1, 224) if a not in {10, 100, 127, 169, 172, 192, 198, 203}], np.int64
)
