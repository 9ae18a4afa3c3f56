"""Addresses are found in networks as the standard library finds them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.rules.networks import Networks

# Few bits vary, so that networks meet, hold each other, and begin where others end.
addresses_4 = st.integers(0, 255).map(lambda number: ipaddress.IPv4Address(number << 24 | number))
addresses_6 = st.integers(0, 255).map(lambda number: ipaddress.IPv6Address(number << 120 | number))
networks = st.one_of(
    st.builds(lambda one, bits: f"{one}/{bits}", addresses_4, st.integers(0, 32)),
    st.builds(lambda one, bits: f"{one}/{bits}", addresses_6, st.integers(0, 128)),
    st.one_of(addresses_4, addresses_6).map(str),
)


@given(st.lists(networks, max_size=8), st.one_of(addresses_4, addresses_6))
def test_an_address_is_found_as_a_scan_finds_it(
    entries: list[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    scan = any(address in ipaddress.ip_network(entry, strict=False) for entry in entries)
    assert (str(address) in Networks(entries)) is scan


@pytest.mark.parametrize("text", ["", "here", "10.0.0", "10.0.0.1/8", "fe80::1%", "0x0a000001"])
def test_what_is_no_address_is_in_no_network(text: str) -> None:
    assert text not in Networks(["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("::ffff:10.0.0.0/104", "10.1.2.3"),
        ("10.1.2.3", "::ffff:a01:203"),
        ("fe80::/10", "fe80::1%eth0"),
    ],
)
def test_an_address_in_other_clothes_is_found(entry: str, text: str) -> None:
    assert text in Networks([entry])


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="here"):
        Networks(["10.0.0.0/8", "here"])
