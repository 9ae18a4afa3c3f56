"""Features that are computed from the transaction alone, without history.

An operation computes a whole batch. Parsed texts are cached, because the same texts repeat.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
from ua_parser import parse as parse_user_agent

from fraud.contracts.times import DAY_MS, HOUR_MS
from fraud.contracts.transaction import Transaction
from fraud.features.currency import MICRO, UNKNOWN_AMOUNT, amounts_to_micro
from fraud.features.networks import PUBLIC, network_class
from fraud.features.remembering import remembered

Floats = NDArray[np.float64]

CODES: Final = 1024
"""Number of codes for categories and other texts: the model reads them as 0 to this, exclusive."""

_EPOCH_WEEKDAY: Final = 3  # 1 January 1970 was a Thursday; Monday is 0
_TEXTS: Final = 65_536
"""Maximum number of texts that each cache holds: about 10 MB, or 40 MB if all are of the longest."""

LONGEST_USER_AGENT: Final = 1_024
"""Number of characters of a user agent that are parsed: browsers send 100 to 300, and the time for
parsing grows with the length."""

# Where people of every kind have their private mail: a small, stable list, not a judgement.
FREE_MAIL: Final = frozenset(
    [
        "aol.com",
        "gmail.com",
        "gmx.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hotmail.com",
        "icloud.com",
        "live.com",
        "mail.com",
        "mail.ru",
        "me.com",
        "msn.com",
        "outlook.com",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "web.de",
        "yahoo.com",
        "yandex.ru",
        "zoho.com",
        "163.com",
        "126.com",
    ]
)
DISPOSABLE_MAIL: Final = frozenset(
    [
        "10minutemail.com",
        "dispostable.com",
        "getnada.com",
        "guerrillamail.com",
        "maildrop.cc",
        "mailinator.com",
        "mailnesia.com",
        "sharklasers.com",
        "temp-mail.org",
        "tempmail.com",
        "throwawaymail.com",
        "trashmail.com",
        "yopmail.com",
    ]
)


class Batch:
    """A batch of n transactions as columns."""

    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self.transactions = transactions
        self._parsed: dict[tuple[str, Callable[[str], Any]], Floats] = {}

    @cached_property
    def event_time_ms(self) -> NDArray[np.int64]:
        """Event times, shape (n,), UTC epoch milliseconds."""
        return np.array([one.event_time_ms for one in self.transactions], np.int64)

    @cached_property
    def amount(self) -> Floats:
        """Amounts in their own currencies, shape (n,)."""
        return np.array([one.transaction_amt for one in self.transactions], np.float64)

    @cached_property
    def amount_micro(self) -> NDArray[np.int64]:
        """Amounts in millionths of the base currency, or `UNKNOWN_AMOUNT`, shape (n,)."""
        return amounts_to_micro(self.amount, self.texts("transaction_currency"), self.event_time_ms)

    def texts(self, field: str) -> list[Any]:
        """Return the values of a field, None where it is missing."""
        if field in ("entity_id", "transaction_currency"):
            return [getattr(one, field) for one in self.transactions]
        return [one.fields.get(field) for one in self.transactions]

    def parsed(self, field: str, parse: Callable[[str], Any]) -> Floats:
        """Parse each text of a field; NaN where it is missing.

        Args:
            field: Name of the field.
            parse: Returns a fixed number of floats for one text; expected to cache them.

        Returns:
            One row per float of `parse`, shape (floats, n).
        """
        numbers = self._parsed.get((field, parse))
        if numbers is None:
            unknown = tuple(math.nan for _ in parse(""))
            cells = [unknown if text is None else parse(text) for text in self.texts(field)]
            numbers = np.array(cells, np.float64).reshape(-1, len(unknown)).T
            self._parsed[field, parse] = numbers
        return numbers


def amount_base(batch: Batch) -> Floats:
    """Return the amount in the base currency; NaN if its currency has no rate."""
    amount = batch.amount_micro
    values: Floats = np.where(amount == UNKNOWN_AMOUNT, np.nan, amount / MICRO)
    return values


def amount_is_round(batch: Batch) -> NDArray[np.bool_]:
    """Return whether the amount is a whole number in its own currency."""
    whole: NDArray[np.bool_] = batch.amount % 1 == 0
    return whole


def hour(batch: Batch) -> NDArray[np.int64]:
    """Return the hour of the day, UTC, 0 to 23."""
    return batch.event_time_ms % DAY_MS // HOUR_MS


def weekday(batch: Batch) -> NDArray[np.int64]:
    """Return the day of the week, UTC; Monday is 0."""
    return (batch.event_time_ms // DAY_MS + _EPOCH_WEEKDAY) % 7


def parsed(field: str, parse: Callable[[str], Any], position: int = 0) -> Callable[[Batch], Floats]:
    """Return an operation that yields one of the numbers parsed from the text of a field."""
    return lambda batch: batch.parsed(field, parse)[position]


@remembered(_TEXTS)
def code(text: str) -> tuple[float]:
    """Return the hash of a text for the model, 0 to `CODES` exclusive."""
    return (crc32(text.encode()) % CODES,)


@remembered(_TEXTS)
def email(address: str) -> tuple[float, float, float]:
    """Return whether the domain is free mail, or disposable, and the share of digits before the @."""
    local, at, domain = address.rpartition("@")
    if not at or not local:
        return (math.nan, math.nan, math.nan)
    domain = domain.lower()
    digits = sum(character.isdigit() for character in local) / len(local)
    return (float(domain in FREE_MAIL), float(domain in DISPOSABLE_MAIL), digits)


@remembered(_TEXTS)
def ip_address(text: str) -> tuple[float, float, float]:
    """Return whether an IP address is not public, its network class, and whether it is IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return (math.nan, math.nan, math.nan)
    kind = network_class(address)
    return (float(kind != PUBLIC), float(kind), float(address.version == 6))


_MOBILE_SYSTEMS: Final = frozenset({"iOS", "Android", "Windows Phone", "BlackBerry OS", "KaiOS"})
_DESKTOP_SYSTEMS: Final = frozenset(
    {"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora"}
)


@remembered(_TEXTS)
def user_agent(text: str) -> tuple[float, float, float]:
    """Return whether a user agent is mobile, the code of its family, and its device class.

    Only its first `LONGEST_USER_AGENT` characters are read.
    """
    text = text[:LONGEST_USER_AGENT]
    mobile = "Mobi" in text or "Android" in text
    found = parse_user_agent(text)
    family = "" if found.user_agent is None else found.user_agent.family
    system = "" if found.os is None else found.os.family
    device = "" if found.device is None else found.device.family
    if device == "Spider":
        kind = 3.0
    elif device == "iPad" or (system == "Android" and "Mobi" not in text):
        kind = 2.0
    elif system in _MOBILE_SYSTEMS:
        kind = 1.0
    elif system in _DESKTOP_SYSTEMS:
        kind = 0.0
    else:
        kind = 4.0
    return (float(mobile), *code(family), kind)


_COUNTRIES: Final = frozenset(
    region
    for regions in COUNTRY_CODE_TO_REGION_CODE.values()
    for region in regions
    if region.isalpha()  # "001" stands for no country
)


@remembered(_TEXTS)
def _calling_code_regions(phone: str) -> tuple[str, ...] | None:
    """Return the regions of a phone number's calling code; None if it has no calling code."""
    if not phone.startswith("+"):
        return None
    digits = "".join(islice((one for one in phone if one in "0123456789"), 3))
    # No calling code is the beginning of another one.
    for length in (1, 2, 3):
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:length] or 0))
        if regions:
            return regions
    return None


def _calling_code_matches(phone: str, country: str) -> float:
    region, regions = country.upper(), _calling_code_regions(phone)
    # "UK", "USA" and "Germany" are no ISO 3166 alpha-2 codes: what they match is not known.
    return math.nan if regions is None or region not in _COUNTRIES else float(region in regions)


def phone_country_matches(batch: Batch) -> Floats:
    """Return whether the calling code of the phone number belongs to the billing country."""
    pairs = zip(batch.texts("phone"), batch.texts("billing_country"), strict=True)
    return np.array(
        [
            math.nan if phone is None or country is None else _calling_code_matches(phone, country)
            for phone, country in pairs
        ],
        np.float64,
    )
