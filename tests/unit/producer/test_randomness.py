"""Counter-based randomness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.randomness import Draws, Purpose, normal, philox

# Known answers of philox4x32-10, from the Random123 distribution (kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, answer) -> None:
    words = philox(tuple(np.array([word], np.uint64) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == answer


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), st.integers())
def test_a_draw_does_not_hang_on_its_company(customers: list[int], seed: int) -> None:
    """One customer's draws are the same alone, in any order, and among others."""
    draws = Draws(seed)
    together = draws.words(Purpose.COUNT, np.array(customers), 7)
    for i, customer in enumerate(customers):
        alone = draws.words(Purpose.COUNT, customer, 7)
        assert together[:, i].tolist() == alone[:, 0].tolist()


def test_blocks_of_work_leave_no_seam() -> None:
    draws = Draws(1)
    many = draws.words(Purpose.COUNT, np.arange(40_000))
    assert many[:, 16_384].tolist() == draws.words(Purpose.COUNT, 16_384)[:, 0].tolist()
    assert len(np.unique(many.T, axis=0)) == 40_000


def test_seeds_and_purposes_are_worlds_apart() -> None:
    one = Draws(1).uniforms(Purpose.COUNT, np.arange(1_000))
    for other in (
        Draws(2).uniforms(Purpose.COUNT, np.arange(1_000)),
        Draws(1).uniforms(Purpose.DAY, np.arange(1_000)),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.06


def test_draws_have_the_promised_distribution() -> None:
    u = Draws(3).uniforms(Purpose.COUNT, np.arange(50_000))
    assert u.min() > 0
    assert u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.005)
    z = normal(u[0], u[1])
    assert z.mean() == pytest.approx(0, abs=0.02)
    assert z.std() == pytest.approx(1, abs=0.02)
