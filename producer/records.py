"""Converts events to records of the topic `transactions`, and to lines of truth files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from fraud.contracts.times import HOUR_MS
from fraud.contracts.transaction import FIELDS
from model.missing import OPTIONAL, Mask, left_out
from producer.events import CAMPAIGNS, CHANNELS, Campaign, Events
from producer.population import CATEGORIES, CURRENCIES, CURRENCY_DECIMALS, Population, agent_text
from producer.randomness import Floats, Ints, Purpose

COLUMNS: Final = tuple(field.name for field in FIELDS)
"""Columns of a record, in the order of the contract."""


def time_texts(time_ms: Ints) -> list[str]:
    """Format times as ISO 8601 with milliseconds and Z.

    Example:
        >>> time_texts(np.array([1_772_323_200_123]))
        ['2026-03-01T00:00:00.123Z']
    """
    texts = np.datetime_as_string(time_ms.astype("datetime64[ms]"), unit="ms", timezone="UTC")
    return [str(text) for text in texts.tolist()]


def event_id_texts(events: Events) -> list[str]:
    """Format event ids, 32 hexadecimal digits each."""
    digits = events["id"].astype(">u4").tobytes().hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def entity_text(customer: int) -> str:
    """Return the entity_id of a customer."""
    return f"cust-{customer:07d}"


def columns(population: Population, events: Events) -> dict[str, list[Any]]:
    """Return events as columns of records, in the order of the contract; None means absent."""
    customer = np.asarray(events["customer"])
    hour = np.asarray(events["time_ms"] // HOUR_MS)
    merchant = np.asarray(events["merchant"])
    home = population.home(customer, hour)
    contact = np.asarray(events["contact"])
    texts = population.texts(customer, contact, np.asarray(events["card"]), hour, home)
    elsewhere = events["place"] >= 0
    # The address is always the customer's home; the coordinates are where they pay.
    billed = home.tolist()
    paid_at = np.where(elsewhere, events["place"], home).tolist()
    places = population.places
    north, east = population.home_jitter(customer, hour)
    # The merchant's number determines where in the city its terminal stands.
    north = np.where(elsewhere, (merchant % 97 - 48) / 400, north).tolist()
    east = np.where(elsewhere, (merchant % 89 - 44) / 400, east).tolist()
    decimals = CURRENCY_DECIMALS[events["currency"]]
    # True division of integers by a power of ten gives the float nearest to the decimal number.
    amounts = (events["amount"] / 10**decimals).tolist()
    agents = {
        number: agent_text(number) for number in np.unique(events["agent"]).tolist() if number >= 0
    }
    wire: dict[str, list[Any]] = {
        "event_id": event_id_texts(events),
        "entity_id": [entity_text(number) for number in customer.tolist()],
        "event_time": time_texts(np.asarray(events["time_ms"])),
        "transaction_amt": amounts,
        "transaction_currency": [CURRENCIES[i].code for i in events["currency"].tolist()],
        "email_address": texts["email_address"],
        "ip_address": [
            f"{ip >> 24}.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}" if ip >= 0 else None
            for ip in events["ip"].tolist()
        ],
        "user_agent": [agents.get(number) for number in events["agent"].tolist()],
        "phone": [
            f"{code}-{number}"
            for code, number in zip(
                population.calling_code(customer, contact, home), texts["phone"], strict=True
            )
        ],
        "card_bin": texts["card_bin"],
        "customer_name": texts["customer_name"],
        "customer_job": texts["customer_job"],
        "product_category": [CATEGORIES[i].name for i in events["category"].tolist()],
        "billing_street": texts["billing_street"],
        "billing_city": [places[i].city for i in billed],
        "billing_state": [places[i].state for i in billed],
        "billing_zip": [places[i].zip for i in billed],
        "billing_country": [places[i].country for i in billed],
        "billing_latitude": [
            round(places[i].latitude + d, 4) for i, d in zip(paid_at, north, strict=True)
        ],
        "billing_longitude": [
            round(places[i].longitude + d, 4) for i, d in zip(paid_at, east, strict=True)
        ],
        "merchant_id": [f"m-{number:06d}" for number in merchant.tolist()],
        "channel": [CHANNELS[i] for i in events["channel"].tolist()],
        "device_id": [f"d-{number:016x}" if number >= 0 else None for number in events["device"].tolist()],
    }  # fmt: skip
    # Contract fields that the simulated world lacks are absent from all its records.
    wire |= {name: [None] * len(events) for name in COLUMNS if name not in wire}
    for name, missing in zip(OPTIONAL, _left_out(population, events), strict=True):
        column = wire[name]
        for row in np.flatnonzero(missing).tolist():
            column[row] = None
    return {name: wire[name] for name in COLUMNS}


def _left_out(population: Population, events: Events) -> Mask:
    """Draw which optional fields each record lacks, by its event id."""
    ids = events["id"].astype(np.int64)

    def uniforms(block: int) -> Floats:
        return population.draws.uniforms(Purpose.MISSING, ids[:, 0], ids[:, 1], ids[:, 2], block)

    chosen, which, *_ = uniforms(0)
    blocks = range(1, 1 + -(-len(OPTIONAL) // 4))
    each = np.concatenate([uniforms(block) for block in blocks])[: len(OPTIONAL)]
    return left_out(chosen, which, each)


def rows(wire: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield records row by row, without their absent fields."""
    names = tuple(wire)
    for values in zip(*wire.values(), strict=True):
        yield {name: value for name, value in zip(names, values, strict=True) if value is not None}


def campaign_texts(events: Events) -> list[str]:
    """Return the true kind of fraud of each event, empty for legitimate ones."""
    return [CAMPAIGNS[i] for i in events["campaign"].tolist()]


def truth_lines(events: Events) -> bytes:
    """Encode the fraudulent events as JSON lines for the truth file."""
    frauds = events[events["campaign"] != Campaign.LEGITIMATE]
    return b"".join(
        orjson.dumps(
            {
                "event_id": event_id,
                "entity_id": entity_text(customer),
                "event_time": event_time,
                "campaign": CAMPAIGNS[campaign],
                "campaign_id": f"{campaign_id:016x}" if campaign_id else "",
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for event_id, customer, event_time, campaign, campaign_id in zip(
            event_id_texts(frauds),
            frauds["customer"].tolist(),
            time_texts(np.asarray(frauds["time_ms"])),
            frauds["campaign"].tolist(),
            frauds["campaign_id"].tolist(),
            strict=True,
        )
    )
