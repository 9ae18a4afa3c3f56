"""Classifies the network of an IP address by built-in tables.

Python's `ipaddress` changes its answers between patch releases, and a feature must have the same
value wherever it is computed. The tables follow IANA's IPv4 and IPv6 Special-Purpose Address
Registries (RFC 6890 and its updates up to RFC 9637 and RFC 9665): a listed block counts as public
only if it is marked "globally reachable". Multicast blocks are those of RFC 5771 and RFC 4291;
site-local addresses those of RFC 3879.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from fraud.contracts.addresses import unmapped

PUBLIC: Final = 0
PRIVATE: Final = 1
"""Not globally reachable: private networks, and blocks for protocols, benchmarks, documentation."""
CARRIER_NAT: Final = 2
RESERVED: Final = 3
"""Not a remote network: loopback, link-local, multicast, unspecified, reserved for the future."""

# A block inside another one comes before it: the first that holds an address counts.
_V4: Final = (
    ("0.0.0.0/32", RESERVED),
    ("0.0.0.0/8", PRIVATE),
    ("10.0.0.0/8", PRIVATE),
    ("100.64.0.0/10", CARRIER_NAT),
    ("127.0.0.0/8", RESERVED),
    ("169.254.0.0/16", RESERVED),
    ("172.16.0.0/12", PRIVATE),
    ("192.0.0.9/32", PUBLIC),
    ("192.0.0.10/32", PUBLIC),
    ("192.0.0.0/24", PRIVATE),
    ("192.0.2.0/24", PRIVATE),
    ("192.168.0.0/16", PRIVATE),
    ("198.18.0.0/15", PRIVATE),
    ("198.51.100.0/24", PRIVATE),
    ("203.0.113.0/24", PRIVATE),
    ("224.0.0.0/4", RESERVED),
    ("240.0.0.0/4", RESERVED),
    ("0.0.0.0/0", PUBLIC),
)
_V6: Final = (
    ("64:ff9b::/96", PUBLIC),
    ("64:ff9b:1::/48", PRIVATE),
    ("2001:1::1/128", PUBLIC),
    ("2001:1::2/128", PUBLIC),
    ("2001:1::3/128", PUBLIC),
    ("2001:3::/32", PUBLIC),
    ("2001:4:112::/48", PUBLIC),
    ("2001:20::/28", PUBLIC),
    ("2001:30::/28", PUBLIC),
    ("2001::/23", PRIVATE),
    ("2001:db8::/32", PRIVATE),
    ("2002::/16", PRIVATE),
    ("3fff::/20", PRIVATE),
    ("2000::/3", PUBLIC),
    ("fc00::/7", PRIVATE),
    ("fec0::/10", PRIVATE),
    ("::/0", RESERVED),
)
_NETWORKS: Final = {
    version: [(ipaddress.ip_network(block), kind) for block, kind in blocks]
    for version, blocks in ((4, _V4), (6, _V6))
}


def network_class(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """Return the class of the network that an address belongs to.

    An IPv4-mapped IPv6 address (`::ffff:8.8.8.8`) has the class of its IPv4 address.

    Example:
        >>> [network_class(ipaddress.ip_address(text)) for text in ("8.8.8.8", "10.0.0.1", "100.64.0.1", "::1")]
        [0, 1, 2, 3]
    """
    address = unmapped(address)
    return next(kind for network, kind in _NETWORKS[address.version] if address in network)
