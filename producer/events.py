"""Events of the simulated world as numbers, one row per transaction, before they become text."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from producer.randomness import Draws, Purpose

HOURS_A_DAY: Final = 24


class Channel(IntEnum):
    """How a payment is made."""

    POS = 0
    """Card at a terminal: no IP address, no device."""
    WALLET = 1
    """Phone at a terminal."""
    WEB = 2
    APP = 3
    RECURRING = 4
    """Subscription, charged without the customer."""


CHANNELS: Final = tuple(channel.name.lower() for channel in Channel)


class Campaign(IntEnum):
    """True kind of fraud of a transaction."""

    LEGITIMATE = 0
    CARD_TESTING = 1
    """A bot tries many cards with small amounts; the good ones are used soon after."""
    CARD_NOT_PRESENT = 2
    """One card's stolen details, used online from elsewhere."""
    ACCOUNT_TAKEOVER = 3
    """A thief signs in as the customer, changes the contacts, and shops."""
    STOLEN_CARD = 4
    """A lost or stolen card at terminals, often far from its owner."""
    MERCHANT_COMPROMISE = 5
    """Card data leaked by one merchant are used weeks later."""
    FRIENDLY_FRAUD = 6
    """The customer disputes a genuine purchase: nothing distinguishes it."""
    BUST_OUT = 7
    """A customer who will not pay quickly spends all available credit."""
    MULE_RING = 8
    """A group of accounts shares devices and addresses."""


CAMPAIGNS: Final = tuple(
    "" if campaign is Campaign.LEGITIMATE else campaign.name.lower() for campaign in Campaign
)
"""Names in truth files, empty for legitimate."""

EVENT: Final = np.dtype(
    [
        ("time_ms", "i8"),  # event_time, UTC epoch milliseconds
        ("customer", "i8"),  # whose account is charged
        ("id", "u4", (4,)),  # event_id, a Philox block: unique and without order
        ("amount", "i8"),  # in the currency's smallest unit
        ("currency", "i2"),  # index into CURRENCIES
        ("merchant", "i8"),
        ("category", "i2"),  # index into CATEGORIES
        ("channel", "i1"),
        ("ip", "i8"),  # IPv4 as an integer; -1 = none
        ("device", "i8"),  # -1 = none
        ("agent", "i8"),  # number of the user agent; -1 = none
        ("contact", "i8"),  # 0 = the customer's own e-mail and phone
        ("card", "i8"),  # 0 or 1 = the customer's own
        ("place", "i2"),  # where it is paid, index into places; -1 = at home
        ("campaign", "i1"),
        ("campaign_id", "u8"),  # 0 = none
    ]
)
Events = NDArray[Any]
"""One-dimensional array of `EVENT` rows."""


def event_ids(
    draws: Draws, purpose: Purpose, who: Any, when: Any, index: Any, block: Any
) -> NDArray[np.uint32]:
    """Return ids for events, shape (n, 4); different coordinates yield different ids."""
    return np.ascontiguousarray(draws.words(purpose, who, when, index, block).T.astype(np.uint32))


def in_order(events: Events) -> Events:
    """Sort events by time, then by customer and id, so that the order is unambiguous."""
    ids = events["id"]
    order = np.lexsort((ids[:, 1], ids[:, 0], events["customer"], events["time_ms"]))
    return np.asarray(events[order])


def join(parts: list[Events]) -> Events:
    """Concatenate events in the given order."""
    return np.concatenate(parts) if parts else np.empty(0, EVENT)
