"""Every key and every feature, declared once.

Records of keys, computation, order in the vector, reason texts and docs/features.md derive from
these declarations; CONTRIBUTING.md describes how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final

from fraud.features import history_features as history
from fraud.features import transaction_features as own
from fraud.features.currency import MICRO
from fraud.features.declaration import AMOUNT, ENTITY, EVENT_ID, EVENT_TIME, LOCATION, Feature, Key

_VALUES_VERSION: Final = 2
"""Raise it when a value that a feature reads changes its meaning but not its place, such as by another
hash: models must then be trained again."""

SMALL_AMOUNT: Final = 5
"""Amounts below this many dollars are small: cards are tested with amounts that nobody notices."""

_LAST: Final = {
    "10m": "in the last 10 minutes",
    "1h": "in the last hour",
    "24h": "in the last 24 hours",
    "7d": "in the last 7 days",
    "30d": "in the last 30 days",
}


def _of_transaction() -> Iterator[Feature]:
    mail, agent, address = ("email_address",), ("user_agent",), ("ip_address",)
    email = [own.parsed("email_address", own.email, at) for at in range(3)]
    user_agent = [own.parsed("user_agent", own.user_agent, at) for at in range(3)]
    ip = [own.parsed("ip_address", own.ip_address, at) for at in range(3)]
    category = own.parsed("product_category", own.code)
    yield Feature(
        "amount_base",
        (AMOUNT,),
        "USD",
        "Amount in the base currency; NaN without a known rate.",
        "The amount is {value:,.2f} USD.",
        own.amount_base,
    )
    yield Feature(
        "amount_is_round",
        ("transaction_amt",),
        "0 or 1",
        "Whether the amount is a whole number of its currency.",
        "The amount is a round number.",
        own.amount_is_round,
        reason_when_0="The amount is no round number.",
    )
    yield Feature(
        "event_hour",
        (EVENT_TIME,),
        "0-23, UTC",
        "Hour of the day.",
        "It happened in hour {value:.0f} of the day (UTC).",
        own.hour,
    )
    yield Feature(
        "event_weekday",
        (EVENT_TIME,),
        "0-6, Monday = 0, UTC",
        "Day of the week.",
        "It happened on day {value:.0f} of the week (Monday is 0, UTC).",
        own.weekday,
    )
    yield Feature(
        "email_domain_is_free",
        mail,
        "0 or 1",
        "Whether the e-mail address is at a large free provider.",
        "The e-mail address is at a large free provider.",
        email[0],
        reason_when_0="The e-mail address is at no large free provider.",
    )
    yield Feature(
        "email_domain_is_disposable",
        mail,
        "0 or 1",
        "Whether the e-mail address is at a known throw-away provider.",
        "The e-mail address is at a throw-away provider.",
        email[1],
        reason_when_0="The e-mail address is at no known throw-away provider.",
    )
    yield Feature(
        "email_digits_ratio",
        mail,
        "0-1",
        "Share of digits before the @ of the e-mail address.",
        "{value:.0%} of the e-mail name are digits.",
        email[2],
    )
    yield Feature(
        "ip_is_private",
        address,
        "0 or 1",
        "Whether the IP address is private or reserved; NaN when it is none.",
        "The IP address is private or reserved.",
        ip[0],
        reason_when_0="The IP address is a public one.",
    )
    yield Feature(
        "ip_class",
        address,
        "0 public, 1 private, 2 carrier NAT, 3 reserved",
        "What kind of network the IP address belongs to; NaN when it is none.",
        "The IP address is of class {value:.0f} (0 public, 1 private, 2 carrier NAT, 3 reserved).",
        ip[1],
    )
    yield Feature(
        "ip_is_v6",
        address,
        "0 or 1",
        "Whether the IP address is of version 6; NaN when it is none.",
        "The IP address is of version 6.",
        ip[2],
        reason_when_0="The IP address is of version 4.",
    )
    yield Feature(
        "category_code",
        ("product_category",),
        "0-1023, no order",
        "Code of the product category.",
        "The product category.",
        category,
    )
    yield Feature(
        "user_agent_is_mobile",
        agent,
        "0 or 1",
        "Whether the user agent names a phone or tablet.",
        "It was made on a phone or tablet.",
        user_agent[0],
        reason_when_0="It was not made on a phone or tablet.",
    )
    yield Feature(
        "user_agent_family_code",
        agent,
        "0-1023, no order",
        "Code of the browser or app that the user agent names.",
        "The kind of browser or app.",
        user_agent[1],
    )
    yield Feature(
        "user_agent_device",
        agent,
        "0 desktop, 1 phone, 2 tablet, 3 robot, 4 other",
        "Kind of device that the user agent names.",
        "The device is of kind {value:.0f} (0 desktop, 1 phone, 2 tablet, 3 robot, 4 other).",
        user_agent[2],
    )
    yield Feature(
        "phone_country_matches",
        ("phone", "billing_country"),
        "0 or 1",
        "Whether the phone number's calling code is one of the billing country's; NaN without both.",
        "The phone number is of the billing country.",
        own.phone_country_matches,
        reason_when_0="The phone number is of another country than the billing address.",
    )


_THINGS: Final = {
    "ip_address": ("ip", "IP address", "IP addresses"),
    "user_agent": ("user_agent", "browser or app", "browsers or apps"),
    "email_address": ("email", "e-mail address", "e-mail addresses"),
    "phone": ("phone", "phone number", "phone numbers"),
    "card_bin": ("bin", "card BIN", "card BINs"),
    "product_category": ("category", "product category", "product categories"),
    "transaction_currency": ("currency", "currency", "currencies"),
    "device_id": ("device", "device", "devices"),
}


def _of_key(key: Key, who: str) -> Callable[..., Feature]:
    """Return a function that declares features of a key; `{last}` is the window in words."""

    def declare(
        measure: str,
        inputs: tuple[str, ...],
        window: str,
        operation: Any,
        unit: str,
        meaning: str,
        reason: str,
        reason_when_0: str = "",
    ) -> Feature:
        last = _LAST.get(window, "")
        name = "_".join(filter(None, (key.name, measure, window)))
        meaning, reason, when_0 = (
            text.replace("{last}", last).replace("{who}", who)
            for text in (meaning, reason, reason_when_0)
        )
        return Feature(name, inputs, unit, meaning, reason, operation, key.name, window, when_0)

    return declare


def _of_entity(key: Key) -> Iterator[Feature]:
    add = _of_key(key, "this customer")
    amount, each, all_known = (AMOUNT,), ("10m", "1h", "24h", "7d", "30d"), ""
    for window in each:
        yield add(
            "tx_count",
            (EVENT_TIME,),
            window,
            history.count,
            "transactions",
            "Transactions {last}.",
            "{value:.0f} transactions {last}.",
        )
        yield add(
            "amount_sum",
            amount,
            window,
            history.amount_sum,
            "USD",
            "Amount spent {last}.",
            "{value:,.2f} USD spent {last}.",
        )
        yield add(
            "amount_mean",
            amount,
            window,
            history.amount_mean,
            "USD",
            "Mean amount {last}.",
            "The mean amount {last} is {value:,.2f} USD.",
        )
        yield add(
            "amount_max",
            amount,
            window,
            history.amount_max,
            "USD",
            "Largest amount {last}.",
            "The largest amount {last} is {value:,.2f} USD.",
        )
    yield add(
        "amount_ratio",
        amount,
        "30d",
        history.amount_ratio,
        "ratio",
        "Amount over the mean of the prior transactions {last}.",
        "{value:.1f} times {who}'s 30-day average.",
    )
    yield add(
        "amount_deviation",
        amount,
        "30d",
        history.amount_deviation,
        "mean absolute deviations",
        "Distance from the mean of the prior transactions {last}, in their mean absolute deviations.",
        "The amount is {value:.1f} times the usual deviation away from {who}'s average.",
    )
    yield add(
        "equal_amount_count",
        amount,
        "24h",
        history.equal_amounts,
        "transactions",
        "Transactions of exactly this amount {last}.",
        "{value:.0f} transactions of exactly this amount {last}.",
    )
    for column, windows in (
        ("ip_address", each),
        ("user_agent", ("24h", "7d")),
        ("device_id", each),
        ("product_category", each),
        ("card_bin", ("24h", "30d")),
        ("transaction_currency", each),
    ):
        short, _, plural = _THINGS[column]
        for window in windows:
            yield add(
                f"{short}_distinct",
                (column,),
                window,
                history.distinct(column),
                plural,
                f"Different {plural} {{last}}.",
                f"{{value:.0f}} different {plural} {{last}}.",
            )
    for column in (
        "ip_address",
        "user_agent",
        "email_address",
        "phone",
        "card_bin",
        "product_category",
        "device_id",
    ):
        short, singular, _ = _THINGS[column]
        yield add(
            f"{short}_is_new",
            (column,),
            all_known,
            history.is_new(column),
            "0 or 1",
            f"Whether this entity's remembered transactions hold no such {singular}; NaN without any to compare.",
            f"This {singular} is new for {{who}}.",
            f"This customer has used this {singular} before.",
        )
    yield add(
        "seconds_since_last",
        (EVENT_TIME,),
        all_known,
        history.seconds_since_last,
        "seconds",
        "Time since the latest prior transaction.",
        "{value:,.0f} seconds after {who}'s last transaction.",
    )
    yield add(
        "distance_last_km",
        (LOCATION,),
        all_known,
        history.distance_km,
        "km",
        "Straight-line distance to the billing location of the latest prior transaction.",
        "{value:,.0f} km from the last billing location.",
    )
    yield add(
        "speed_last_kmh",
        (LOCATION, EVENT_TIME),
        all_known,
        history.speed_kmh,
        "km/h",
        "That distance over the time between, of at least a second.",
        "The billing location moved at {value:,.0f} km/h.",
    )
    yield add(
        "known_count",
        (EVENT_TIME,),
        all_known,
        history.prior_count,
        "transactions",
        "Prior transactions that are remembered.",
        "{value:.0f} earlier transactions are known.",
    )


def _of_shared(key: Key, who: str) -> Iterator[Feature]:
    add = _of_key(key, who)
    small = history.share_below(SMALL_AMOUNT * MICRO)
    for window in ("10m", "1h", "24h"):
        yield add(
            "tx_count",
            (EVENT_TIME,),
            window,
            history.count,
            "transactions",
            "Transactions of {who} {last}.",
            "{value:.0f} transactions of {who} {last}.",
        )
        yield add(
            "amount_sum",
            (AMOUNT,),
            window,
            history.amount_sum,
            "USD",
            "Amount of all transactions of {who} {last}.",
            "{value:,.2f} USD over {who} {last}.",
        )
        yield add(
            "entity_distinct",
            (ENTITY,),
            window,
            history.distinct(ENTITY),
            "entities",
            "Different entities with {who} {last}.",
            "{value:.0f} different customers with {who} {last}.",
        )
        yield add(
            "small_amount_ratio",
            (AMOUNT,),
            window,
            small,
            "0-1",
            f"Share of amounts below {SMALL_AMOUNT} USD with {{who}} {{last}}.",
            f"{{value:.0%}} of the amounts with {{who}} {{last}} are below {SMALL_AMOUNT} USD.",
        )


_ENTITY: Final = Key("entity", field=ENTITY, rows=32)
_IP: Final = Key("ip", field="ip_address", rows=32)
_MERCHANT: Final = Key("merchant", field="merchant_id", rows=32)

FEATURES: Final[tuple[Feature, ...]] = (
    *_of_transaction(),
    *_of_entity(_ENTITY),
    *_of_shared(_IP, "this IP address"),
    *_of_shared(_MERCHANT, "this merchant"),
)
"""All features in vector order: those of the transaction alone, then those of each key."""

KEYS: Final[tuple[Key, ...]] = tuple(key.remembering(FEATURES) for key in (_ENTITY, _IP, _MERCHANT))
"""All keys with the inputs they remember; first the entity, whose rings detect duplicates."""

REMEMBERED: Final = f"layout {_VALUES_VERSION}: " + "; ".join(
    f"{key.name} of {key.field}, {key.rows} rows of {' '.join(key.columns)}" for key in KEYS
)
"""Describes what features can read in rings."""

LAYOUT: Final = f"{REMEMBERED}; event by id and content, {EVENT_ID} of {KEYS[0].name}"
"""Describes the contents of rings; rings of another layout cannot be read."""

LAYOUT_ID: Final = sha256(LAYOUT.encode()).hexdigest()[:12]
