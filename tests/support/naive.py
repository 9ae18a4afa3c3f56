"""The features once more, naively: plain Python over plain transactions, one at a time.

Written from the meanings in docs/features.md, without NumPy, packing, rings or codes, so that the
fast definition in `fraud.features` has something to be equal to. Counts and money are exact
integers; where a quotient is formed, the order of the floating-point operations is part of the
definition, and every value is rounded to float32 once, at the end.
"""

from __future__ import annotations

import csv
import ipaddress
import math
import re
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from zlib import crc32

import ua_parser
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, SUPPORTED_REGIONS

from fraud.contracts.transaction import Transaction
from fraud.features import currency
from fraud.features.transaction_features import DISPOSABLE_MAIL, FREE_MAIL

REMEMBERED = 32
MINUTE_MS = 60 * 1000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WINDOWS_MS = {
    "10m": 10 * MINUTE_MS,
    "1h": HOUR_MS,
    "24h": DAY_MS,
    "7d": 7 * DAY_MS,
    "30d": 30 * DAY_MS,
}
NAN = math.nan

_RATES = list(csv.DictReader(Path(currency.EXCHANGE_RATE_FILE).read_text("ascii").splitlines()))


def float32(value: float) -> float:
    """Round to the nearest float32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


@cache
def rate_of(currency_code: str, month: str) -> str | None:
    """Return the rate of a month, or that of the table's nearest."""
    earlier = [row for row in _RATES if row["month"] <= month]
    return (earlier[-1] if earlier else _RATES[0]).get(currency_code)


def micro_dollars(transaction: Transaction) -> int | None:
    """Return the amount in whole millionths of a US dollar, None without a rate."""
    return _micro_dollars(
        transaction.transaction_amt, transaction.transaction_currency, transaction.event_time_ms
    )


@cache
def _micro_dollars(amount: float, currency_code: str, event_time_ms: int) -> int | None:
    rate = 1.0
    if currency_code != "USD":
        month = f"{datetime.fromtimestamp(event_time_ms // 1000, UTC):%Y-%m}"
        cell = rate_of(currency_code, month)
        if not cell:
            return None
        rate = float(cell)
    micro = round(amount * rate * 1_000_000)
    most = 2**51
    return max(-most, min(most, micro))


def text(transaction: Transaction, name: str) -> str | None:
    """Return a text field, None when missing."""
    if name == "transaction_currency":
        return transaction.transaction_currency
    return transaction.fields.get(name)


def point(transaction: Transaction) -> tuple[float, float, float] | None:
    """Return the billing location on the unit sphere, None when not known."""
    latitude = transaction.fields.get("billing_latitude")
    longitude = transaction.fields.get("billing_longitude")
    if latitude is None or longitude is None:
        return None
    latitude, longitude = latitude * (math.pi / 180), longitude * (math.pi / 180)
    x = math.cos(latitude) * math.cos(longitude)
    y = math.cos(latitude) * math.sin(longitude)
    return float32(x), float32(y), float32(math.sin(latitude))


@dataclass
class NaiveStream:
    """Sees transactions in the order of their arrival and gives the vector of each."""

    remembered: dict[str, dict[str, list[Transaction]]] = field(
        default_factory=lambda: {"entity": {}, "ip": {}, "merchant": {}}
    )
    duplicates: list[bool] = field(default_factory=list)
    reused: list[bool] = field(default_factory=list)

    def vector(self, now: Transaction) -> dict[str, float]:
        """Remember a transaction, unless it is, and give its features as float32 values."""
        features = own_features(now)
        duplicate = False
        for key, value in (
            ("entity", now.entity_id),
            ("ip", now.fields.get("ip_address")),
            ("merchant", now.fields.get("merchant_id")),
        ):
            ring = [] if value is None else self.remembered[key].setdefault(value, [])
            known = any(same_event(earlier, now) for earlier in ring)
            if not known and not duplicate:
                ring.append(now)
                del ring[:-REMEMBERED]
            if key == "entity":
                duplicate = known
                self.duplicates.append(known)
                self.reused.append(
                    any(one.event_id == now.event_id for one in ring if not same_event(one, now))
                )
            prior = [
                other
                for other in ring
                if not same_event(other, now) and other.event_time_ms <= now.event_time_ms
            ]
            if key == "entity":
                features |= entity_features(now, prior)
            else:
                features |= shared_features(key, now, prior, present=value is not None)
        return {name: float32(value) for name, value in features.items()}


def same_event(one: Transaction, other: Transaction) -> bool:
    """Return whether two records are of one event: its ids, its money, its card and its merchant."""
    return all(
        of(one) == of(other)
        for of in (
            lambda record: record.entity_id,
            lambda record: record.event_id,
            lambda record: record.transaction_amt,
            lambda record: record.transaction_currency,
            lambda record: record.fields.get("card_bin"),
            lambda record: record.fields.get("merchant_id"),
        )
    )


def shared_features(
    key: str, now: Transaction, prior: list[Transaction], *, present: bool
) -> dict[str, float]:
    """Return the features of an IP address or merchant."""
    features: dict[str, float] = {}
    for window in ("10m", "1h", "24h"):
        within = [now] + [
            one for one in prior if now.event_time_ms - one.event_time_ms <= WINDOWS_MS[window]
        ]
        known = [one for one in map(micro_dollars, within) if one is not None]
        small = [one for one in known if one < 5_000_000]
        features[f"{key}_tx_count_{window}"] = float(len(within))
        features[f"{key}_amount_sum_{window}"] = float(sum(known)) / 1e6
        features[f"{key}_entity_distinct_{window}"] = float(len({one.entity_id for one in within}))
        features[f"{key}_small_amount_ratio_{window}"] = len(small) / len(known) if known else NAN
    return features if present else dict.fromkeys(features, NAN)


def own_features(now: Transaction) -> dict[str, float]:
    """Return the features that need no history."""
    amount = micro_dollars(now)
    moment = datetime.fromtimestamp(now.event_time_ms // 1000, UTC)
    free = disposable = digits = private = ip_class = v6 = category = NAN
    mobile = family = device = phone_matches = NAN
    local, at, domain = (now.fields.get("email_address") or "").rpartition("@")
    if at and local:
        free = 1.0 if domain.lower() in FREE_MAIL else 0.0
        disposable = 1.0 if domain.lower() in DISPOSABLE_MAIL else 0.0
        digits = len([one for one in local if one.isdigit()]) / len(local)
    try:
        ip = ipaddress.ip_address(now.fields.get("ip_address") or "")
        v6 = 1.0 if ip.version == 6 else 0.0
        ip_class = class_of(ip.packed)
        private = 0.0 if ip_class == 0 else 1.0
    except ValueError:
        pass
    if "product_category" in now.fields:
        category = float(crc32(now.fields["product_category"].encode()) % 1024)
    if "user_agent" in now.fields:
        # What comes after its first 1,024 characters is not read.
        agent = now.fields["user_agent"][:1024]
        mobile = 1.0 if "Mobi" in agent or "Android" in agent else 0.0
        family, device = user_agent_features(agent)
    phone, country = now.fields.get("phone", ""), now.fields.get("billing_country")
    if phone.startswith("+") and (country or "").upper() in SUPPORTED_REGIONS:
        number = re.sub("[^0-9]", "", phone)
        for calling, regions in COUNTRY_CODE_TO_REGION_CODE.items():
            if number.startswith(str(calling)):
                phone_matches = 1.0 if country.upper() in regions else 0.0
    return {
        "amount_base": NAN if amount is None else amount / 1_000_000,
        "amount_is_round": 1.0 if now.transaction_amt == math.floor(now.transaction_amt) else 0.0,
        "event_hour": float(moment.hour),
        "event_weekday": float(moment.weekday()),
        "email_domain_is_free": free,
        "email_domain_is_disposable": disposable,
        "email_digits_ratio": digits,
        "ip_is_private": private,
        "ip_class": ip_class,
        "ip_is_v6": v6,
        "category_code": category,
        "user_agent_is_mobile": mobile,
        "user_agent_family_code": family,
        "user_agent_device": device,
        "phone_country_matches": phone_matches,
    }


def class_of(packed: bytes) -> float:
    """Return the class of an address by the first of its bytes."""
    if len(packed) == 16 and packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    if len(packed) == 4:
        a, b, c, d = packed
        if a in (127,) or a >= 224 or (a, b) == (169, 254) or packed == bytes(4):
            return 3.0
        if a == 100 and 64 <= b < 128:
            return 2.0
        if (a, b, c) == (192, 0, 0):
            return 0.0 if d in (9, 10) else 1.0
        own = a in (0, 10) or (a == 172 and 16 <= b < 32) or (a, b) == (192, 168)
        tests = (a == 198 and b in (18, 19)) or (a, b, c) in (
            (192, 0, 2),
            (198, 51, 100),
            (203, 0, 113),
        )
        return 1.0 if own or tests else 0.0
    words = [packed[at] << 8 | packed[at + 1] for at in range(0, 16, 2)]
    first, second = words[:2]
    if (first, second) == (0x64, 0xFF9B):
        if words[2] == 1:
            return 1.0
        return 3.0 if any(words[2:6]) else 0.0
    if first >> 9 == 0xFC >> 1 or first >> 6 == 0xFEC0 >> 6:
        return 1.0
    if first >> 13 != 1:
        return 3.0
    if first == 0x2001 and second < 0x200:
        anycast = second == 1 and not any(words[2:7]) and words[7] in (1, 2, 3)
        relay = second == 3 or (second, words[2]) == (4, 0x112)
        return 0.0 if anycast or relay or second >> 4 in (2, 3) else 1.0
    if first == 0x2002 or (first, second) == (0x2001, 0xDB8) or (first == 0x3FFF and second < 4096):
        return 1.0
    return 0.0


@cache
def user_agent_features(agent: str) -> tuple[float, float]:
    """Return the code of a user agent's family, and the kind of its device."""
    found = ua_parser.parse(agent).with_defaults()
    family = ua_parser.parse_user_agent(agent)
    code = float(crc32((family.family if family else "").encode()) % 1024)
    if found.device.family == "Spider":
        return code, 3.0
    if found.device.family == "iPad" or (found.os.family == "Android" and "Mobi" not in agent):
        return code, 2.0
    if found.os.family in ("iOS", "Android", "Windows Phone", "BlackBerry OS", "KaiOS"):
        return code, 1.0
    if found.os.family in ("Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora"):
        return code, 0.0
    return code, 4.0


def entity_features(now: Transaction, prior: list[Transaction]) -> dict[str, float]:
    """Return the features of an entity's prior transactions, oldest arrival first."""
    amount = micro_dollars(now)
    features: dict[str, float] = {}

    @cache
    def within(window: str) -> list[Transaction]:
        return [one for one in prior if now.event_time_ms - one.event_time_ms <= WINDOWS_MS[window]]

    @cache
    def amounts(window: str) -> list[int]:
        known = [micro_dollars(one) for one in within(window)]
        return [one for one in known if one is not None]

    for window in WINDOWS_MS:
        spent = sum(amounts(window)) + (amount or 0)
        features[f"entity_tx_count_{window}"] = float(1 + len(within(window)))
        features[f"entity_amount_sum_{window}"] = float(spent) / 1e6
        known = amounts(window) + ([] if amount is None else [amount])
        features[f"entity_amount_mean_{window}"] = (
            float(sum(known)) / len(known) / 1e6 if known else NAN
        )
        features[f"entity_amount_max_{window}"] = float(max(known)) / 1e6 if known else NAN

    usual = amounts("30d")
    total, count = sum(usual), len(usual)
    features["entity_amount_ratio_30d"] = (
        NAN if amount is None or total <= 0 else amount / (total / count)
    )
    # Both distances times the count, so that they are whole numbers.
    spread = sum(abs(one * count - total) for one in usual)
    features["entity_amount_deviation_30d"] = (
        NAN
        if amount is None or spread == 0
        else float((amount * count - total) * count) / float(spread)
    )
    features["entity_equal_amount_count_24h"] = (
        NAN if amount is None else float(1 + amounts("24h").count(amount))
    )

    for column, short, windows in (
        ("ip_address", "ip", tuple(WINDOWS_MS)),
        ("user_agent", "user_agent", ("24h", "7d")),
        ("device_id", "device", tuple(WINDOWS_MS)),
        ("product_category", "category", tuple(WINDOWS_MS)),
        ("card_bin", "bin", ("24h", "30d")),
        ("transaction_currency", "currency", tuple(WINDOWS_MS)),
    ):
        for window in windows:
            met = {text(one, column) for one in [now, *within(window)]}
            features[f"entity_{short}_distinct_{window}"] = float(len(met - {None}))
    for column, short in (
        ("ip_address", "ip"),
        ("user_agent", "user_agent"),
        ("email_address", "email"),
        ("phone", "phone"),
        ("card_bin", "bin"),
        ("product_category", "category"),
        ("device_id", "device"),
    ):
        met = {text(one, column) for one in prior} - {None}
        comparable = met and text(now, column) is not None
        features[f"entity_{short}_is_new"] = (
            float(text(now, column) not in met) if comparable else NAN
        )

    last: Transaction | None = None
    for one in prior:
        if last is None or one.event_time_ms >= last.event_time_ms:
            last = one
    since = distance = speed = NAN
    if last is not None:
        age_ms = now.event_time_ms - last.event_time_ms
        since = age_ms / 1000
        here, there = point(now), point(last)
        if here is not None and there is not None:
            square = 0.0
            for ours, theirs in zip(here, there, strict=True):
                square += (ours - theirs) * (ours - theirs)
            distance = math.sqrt(square) * 6371.0088
            speed = distance / (max(age_ms, 1000) / HOUR_MS)
    features["entity_seconds_since_last"] = since
    features["entity_distance_last_km"] = distance
    features["entity_speed_last_kmh"] = speed
    features["entity_known_count"] = float(len(prior))
    return features
