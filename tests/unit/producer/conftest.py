"""One world for all tests of the producer: making it takes half a second."""

from __future__ import annotations

import pytest

from producer.simulation import World


@pytest.fixture(scope="session")
def world() -> World:
    """A world without a cache."""
    return World.load(7)
