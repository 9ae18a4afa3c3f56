"""Parses IP addresses and networks into the normal form that lists, rules and look-ups compare.

An IPv4-mapped IPv6 address (`::ffff:203.0.113.7`) becomes the IPv4 address, and a network of such
addresses the IPv4 network. Zones (`fe80::1%eth0`) have a meaning only on one host and are dropped.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

LONGEST: Final = 64
"""Maximum length of an address in characters, without its zone."""

_CACHED: Final = 262_144
_MAPPED_BITS: Final = 96


class Address(NamedTuple):
    """An address: IP version (4 or 6), numeric value, and canonical text."""

    version: int
    number: int
    text: str


class Network(NamedTuple):
    """A network: IP version (4 or 6), first address as a number, prefix length, canonical text."""

    version: int
    first: int
    length: int
    text: str

    @property
    def bits(self) -> int:
        """Number of bits of an address that follow the prefix."""
        return (32 if self.version == 4 else 128) - self.length

    @property
    def last(self) -> int:
        """Last address of the network, as a number."""
        return self.first | (1 << self.bits) - 1


def address_of(text: str) -> Address | None:
    """Parse an address; return None for any other text.

    Example:
        >>> address_of("::ffff:203.0.113.7").text, address_of("2001:DB8:0::1%eth0").text
        ('203.0.113.7', '2001:db8::1')
    """
    text = _without_zone(text.strip())
    # Checked before the cache, which must not fill with long texts from clients.
    return _address(text) if len(text) <= LONGEST else None


def network_of(text: str) -> Network:
    """Parse a network or a single address; bits after the prefix are cleared.

    Raises:
        ValueError: The text is neither.

    Example:
        >>> network_of("::ffff:203.0.113.7/120").text, network_of("10.1.2.3/8").text
        ('203.0.113.0/24', '10.0.0.0/8')
        >>> network_of("fe80::1%eth0").text
        'fe80::1'
    """
    address, slash, length = text.strip().partition("/")
    network = ipaddress.ip_network(_without_zone(address) + slash + length, strict=False)
    first, bits = int(network.network_address), network.prefixlen
    if isinstance(network, ipaddress.IPv6Network) and bits >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            first, bits = int(mapped), bits - _MAPPED_BITS
            network = ipaddress.IPv4Network((first, bits))
    single = network.num_addresses == 1
    return Network(
        network.version, first, bits, str(network.network_address if single else network)
    )


def unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address, and any other address as it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _without_zone(text: str) -> str:
    if ":" not in text:
        return text
    address, percent, zone = text.partition("%")
    # An empty zone is invalid: the text stays as it is and will not parse as an address.
    return text if percent and not zone else address


@lru_cache(maxsize=_CACHED)
def _address(text: str) -> Address | None:
    try:
        address = unmapped(ipaddress.ip_address(text))
    except ValueError:
        return None
    return Address(address.version, int(address), str(address))
