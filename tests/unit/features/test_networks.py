"""Addresses and countries: the same answer on every version of Python."""

from __future__ import annotations

import ipaddress
import math

import pytest

from fraud.contracts.transaction import decode
from fraud.features import networks
from fraud.features.transaction_features import Batch, ip_address, phone_country_matches
from tests.support.builders import a_value
from tests.support.naive import class_of

# What Python's own answer was for these hung on its patch level.
NAMED = {
    "8.8.8.8": networks.PUBLIC,
    "192.0.0.8": networks.PRIVATE,
    "192.0.0.9": networks.PUBLIC,
    "192.88.99.1": networks.PUBLIC,
    "203.0.113.7": networks.PRIVATE,
    "172.31.255.255": networks.PRIVATE,
    "100.127.255.255": networks.CARRIER_NAT,
    "100.128.0.0": networks.PUBLIC,
    "224.0.0.1": networks.RESERVED,
    "255.255.255.255": networks.RESERVED,
    "0.0.0.0": networks.RESERVED,  # noqa: S104 - an address to look at
    "::ffff:8.8.8.8": networks.PUBLIC,
    "::ffff:10.0.0.1": networks.PRIVATE,
    "::1": networks.RESERVED,
    "64:ff9b::808:808": networks.PUBLIC,
    "64:ff9b:1::1": networks.PRIVATE,
    "2001:4860:4860::8888": networks.PUBLIC,
    "2001::1": networks.PRIVATE,
    "2001:20::1": networks.PUBLIC,
    "2002::1": networks.PRIVATE,
    "fd00::1": networks.PRIVATE,
    "fec0::1": networks.PRIVATE,
    "fe80::1%eth0": networks.RESERVED,
    "ff02::1": networks.RESERVED,
    "4000::1": networks.RESERVED,
}


@pytest.mark.parametrize("text", NAMED)
def test_an_address_is_of_the_class_that_the_registry_says(text: str) -> None:
    """What is of any class but the first is not public."""
    kind = NAMED[text]
    assert ip_address(text) == (float(kind != 0), float(kind), float(":" in text))


def test_the_table_agrees_with_the_naive_definition_at_every_edge() -> None:
    """The first and last address of each block, and their neighbours outside."""
    compared = 0
    for blocks in networks._NETWORKS.values():
        for block, _ in blocks:
            most = 2**block.max_prefixlen - 1
            for edge in (int(block.network_address), int(block.broadcast_address)):
                for number in {max(edge - 1, 0), edge, min(edge + 1, most)}:
                    address = type(block.network_address)(number)
                    assert networks.network_class(address) == class_of(address.packed), address
                    compared += 1
    assert compared > 150
    assert networks.network_class(ipaddress.ip_address("9.9.9.9")) == 0


@pytest.mark.parametrize(
    ("phone", "country", "matches"),
    [("+1-202-555-0143", "us", 1.0), ("+44 7", "GB", 1.0), ("+44 7", "US", 0.0), ("+44 7", "UK", math.nan), ("+1 202", "USA", math.nan), ("+1 202", "001", math.nan), ("202", "US", math.nan)],
)  # fmt: skip
def test_a_country_that_is_none_matches_nothing(phone: str, country: str, matches: float) -> None:
    """Whether it does is then not known, which is not the same as no."""
    (found,) = phone_country_matches(Batch([decode(a_value(phone=phone, billing_country=country))]))
    assert found == pytest.approx(matches, nan_ok=True)
