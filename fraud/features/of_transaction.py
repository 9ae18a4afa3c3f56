"""Features of the transaction alone: they need no history."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

from fraud.contracts.transaction import Transaction
from fraud.features.currency import MICRO, UNKNOWN_AMOUNT

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_EPOCH_WEEKDAY: Final = 3  # 1 January 1970 was a Thursday; Monday is 0

# Where people of every kind have their private mail: a small, stable list, not a judgement.
_FREE_MAIL: Final = frozenset(
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
_DISPOSABLE_MAIL: Final = frozenset(
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


@dataclass(frozen=True, slots=True)
class Seen:
    """A transaction with what several features need of it."""

    transaction: Transaction
    amount_micro: int
    """Millionths of the base currency, or `UNKNOWN_AMOUNT`."""


@dataclass(frozen=True, slots=True)
class TransactionFeature:
    """One number about a transaction.

    Attributes:
        name: Name in the vector.
        unit: Unit or range of the number.
        meaning: One sentence for docs/features.md. NaN always means not known.
        reason: How a person reads it as a reason; `{value}` is the number.
        of: Computes it.
        reason_when_0: The same where the value is 0, if that reads otherwise.
    """

    name: str
    unit: str
    meaning: str
    reason: str
    of: Callable[[Seen], float]
    reason_when_0: str = ""


def _amount(seen: Seen) -> float:
    return math.nan if seen.amount_micro == UNKNOWN_AMOUNT else seen.amount_micro / MICRO


def _amount_is_round(seen: Seen) -> float:
    return float(seen.transaction.transaction_amt % 1 == 0)


def _hour(seen: Seen) -> float:
    return seen.transaction.event_time_ms % _DAY_MS // _HOUR_MS


def _weekday(seen: Seen) -> float:
    return (seen.transaction.event_time_ms // _DAY_MS + _EPOCH_WEEKDAY) % 7


@lru_cache(maxsize=65_536)
def _email_features(address: str) -> tuple[float, float, float]:
    local, at, domain = address.rpartition("@")
    if not at or not local:
        return (math.nan, math.nan, math.nan)
    domain = domain.lower()
    digits = sum(character.isdigit() for character in local) / len(local)
    return (float(domain in _FREE_MAIL), float(domain in _DISPOSABLE_MAIL), digits)


def _of_email(position: int) -> Callable[[Seen], float]:
    def of(seen: Seen) -> float:
        address = seen.transaction.fields.get("email_address")
        return math.nan if address is None else _email_features(address)[position]

    return of


@lru_cache(maxsize=65_536)
def _address_is_private(text: str) -> float:
    try:
        return float(not ipaddress.ip_address(text).is_global)
    except ValueError:
        return math.nan


def _ip_is_private(seen: Seen) -> float:
    text = seen.transaction.fields.get("ip_address")
    return math.nan if text is None else _address_is_private(text)


def _category(seen: Seen) -> float:
    category = seen.transaction.fields.get("product_category")
    return math.nan if category is None else crc32(category.encode()) % 1024


def _is_mobile(seen: Seen) -> float:
    agent = seen.transaction.fields.get("user_agent")
    return math.nan if agent is None else float("Mobi" in agent or "Android" in agent)


TRANSACTION_FEATURES: Final[tuple[TransactionFeature, ...]] = (
    TransactionFeature("amount_base", "USD", "Amount in the base currency; NaN without a known rate.", "The amount is {value:,.2f} USD.", _amount),
    TransactionFeature("amount_is_round", "0 or 1", "Whether the amount is a whole number of its currency.", "The amount is a round number.", _amount_is_round, "The amount is no round number."),
    TransactionFeature("event_hour", "0-23, UTC", "Hour of the day.", "It happened in hour {value:.0f} of the day (UTC).", _hour),
    TransactionFeature("event_weekday", "0-6, Monday = 0, UTC", "Day of the week.", "It happened on day {value:.0f} of the week (Monday is 0, UTC).", _weekday),
    TransactionFeature("email_domain_is_free", "0 or 1", "Whether the e-mail address is at a large free provider.", "The e-mail address is at a large free provider.", _of_email(0), "The e-mail address is at no large free provider."),
    TransactionFeature("email_domain_is_disposable", "0 or 1", "Whether the e-mail address is at a known throw-away provider.", "The e-mail address is at a throw-away provider.", _of_email(1), "The e-mail address is at no known throw-away provider."),
    TransactionFeature("email_digits_ratio", "0-1", "Share of digits before the @ of the e-mail address.", "{value:.0%} of the e-mail name are digits.", _of_email(2)),
    TransactionFeature("ip_is_private", "0 or 1", "Whether the IP address is private or reserved; NaN when it is none.", "The IP address is private or reserved.", _ip_is_private, "The IP address is a public one."),
    TransactionFeature("category_code", "0-1023, no order", "Code of the product category.", "The product category.", _category),
    TransactionFeature("user_agent_is_mobile", "0 or 1", "Whether the user agent names a phone or tablet.", "It was made on a phone or tablet.", _is_mobile, "It was not made on a phone or tablet."),
)  # fmt: skip
