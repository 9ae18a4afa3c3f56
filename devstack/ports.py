"""Finds free ports, for tests and for internal ports of the stack."""

from __future__ import annotations

import random
import socket
from collections.abc import Container
from typing import Final

_FIRST: Final = 20_000
_LAST: Final = 32_000  # below the ephemeral ports, which outgoing connections might occupy


def is_free(host: str, port: int) -> bool:
    """Return whether a port can be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(
    count: int, host: str = "127.0.0.1", taken: Container[int] = frozenset()
) -> list[int]:
    """Return distinct ports that are free now and not in `taken`.

    Raises:
        OSError: Too few ports are free.
    """
    chosen: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), _LAST - _FIRST):
        if port not in taken and is_free(host, port):
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise OSError(f"fewer than {count} free ports from {_FIRST} to {_LAST}")
