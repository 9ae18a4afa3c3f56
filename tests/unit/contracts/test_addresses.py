"""An address has one form, however it is written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.addresses import LONGEST, address_of, network_of


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_itself_in_any_clothes(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    dressed = [
        f"::ffff:{address}",
        f"::FFFF:{address}%eth0",
        f"0:0:0:0:0:ffff:{number >> 16:x}:{number & 0xFFFF:x}",
        f" {address} ",
    ]
    for text in dressed:
        assert address_of(text) == address_of(str(address)) == (4, number, str(address))
        assert network_of(text).text == str(address)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_of_dressed_addresses_is_the_network(
    address: ipaddress.IPv4Address, length: int
) -> None:
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    found = network_of(f"::ffff:{address}/{96 + length}")
    assert found == network_of(str(network))
    assert (found.first, found.last) == (int(network[0]), int(network[-1]))


@given(st.ip_addresses(v=6), st.from_regex(r"[\w.-]+", fullmatch=True))
def test_a_zone_is_no_part_of_an_address(address: ipaddress.IPv6Address, zone: str) -> None:
    """However long it is."""
    assert address_of(f"{address}%{zone}") == address_of(str(address))
    assert address_of(f"{address}%{zone}{'x' * 1000}") == address_of(str(address))
    assert network_of(f"{address}%{zone}/64") == network_of(f"{address}/64")


@pytest.mark.parametrize(
    "text", ["", "::1%", "10.0.0.1%eth0", "1" * 65, ":" * 1_000_000, "10.0.0.0/8"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert address_of(text) is None


def test_no_address_is_longer_than_what_is_read() -> None:
    longest = "ABCD:ABCD:ABCD:ABCD:ABCD:ABCD:192.168.158.190"
    assert len(longest) <= LONGEST
    assert address_of(longest) is not None
