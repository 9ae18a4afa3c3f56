"""The IP addresses and networks of a rule, as a searchable set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from fraud.contracts.addresses import Network, address_of, network_of


class Networks:
    """Set of IPv4 and IPv6 addresses and networks (CIDR).

    Args:
        entries: Addresses and networks; bits after the prefix of a network are ignored.

    Raises:
        ValueError: An entry is neither an address nor a network.

    Example:
        >>> networks = Networks(["10.0.0.0/8", "2001:db8::1"])
        >>> "10.1.2.3" in networks, "2001:DB8:0::1" in networks, "11.0.0.0" in networks
        (True, True, False)
        >>> "::ffff:10.1.2.3" in networks
        True
    """

    def __init__(self, entries: Iterable[str]) -> None:
        networks: dict[int, list[Network]] = {4: [], 6: []}
        for entry in entries:
            network = network_of(entry)
            networks[network.version].append(network)
        # Two networks are nested or disjoint. Without the nested ones, only the last network that
        # begins at or before an address can contain it.
        self._first: dict[int, list[int]] = {}
        self._last: dict[int, list[int]] = {}
        for version, of_version in networks.items():
            outer: list[Network] = []
            for network in sorted(of_version, key=lambda network: (network.first, -network.last)):
                if not outer or network.last > outer[-1].last:
                    outer.append(network)
            self._first[version] = [network.first for network in outer]
            self._last[version] = [network.last for network in outer]

    def __contains__(self, text: str) -> bool:
        """Return whether a text is an address in the set; False for any other text."""
        address = address_of(text)
        if address is None:
            return False
        at = bisect_right(self._first[address.version], address.number) - 1
        return at >= 0 and address.number <= self._last[address.version][at]
