"""The features are what their meanings say: naive definition = vectorised function = replay, bit for bit.

Histories have what goes wrong in practice: ties, late arrivals, repeats (also changed ones),
times on and beside the edges of windows, missing fields, currencies without a rate, and more
transactions than are remembered.
"""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.transaction import from_mapping
from fraud.features.catalogue import KEYS
from fraud.features.packing import pack
from fraud.features.replay import replay, rings_of
from fraud.features.vector import FEATURE_NAMES, feature_matrix, vectors
from tests.support.builders import Memory
from tests.support.edges import assert_same_bits, make, naive_matrix
from tests.support.naive import NaiveStream


def test_every_feature_has_a_naive_definition() -> None:
    transaction = from_mapping(make(random.Random(1), 0))
    assert sorted(NaiveStream().vector(transaction)) == sorted(FEATURE_NAMES)


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.integers(1, 40))
def test_the_fast_features_are_the_naive_ones(
    draw: random.Random, count: int, batch_rows: int
) -> None:
    transactions = [from_mapping(make(draw, at)) for at in range(count)]
    fast = np.concatenate(list(replay(pack(transactions), batch_rows)))
    assert_same_bits(fast, naive_matrix(transactions), transactions)


def test_a_long_history_is_the_naive_one_in_batches_of_any_size() -> None:
    """More transactions per entity than are remembered, all in one order."""
    draw = random.Random(20260301)
    transactions = [from_mapping(make(draw, at)) for at in range(2000)]
    naive = naive_matrix(transactions)
    packed = pack(transactions)
    for batch_rows in (1, 64, 1000, 2000):
        fast = np.concatenate(list(replay(packed, batch_rows)))
        assert_same_bits(fast, naive, transactions)
    known = naive[:, FEATURE_NAMES.index("entity_known_count")]
    assert known.max() == 31
    # Each feature takes several values here, and so was really compared.
    varied = [len(np.unique(column[~np.isnan(column)])) for column in naive.T]
    assert min(varied) >= 2, FEATURE_NAMES[int(np.argmin(varied))]


def test_where_a_batch_was_packed_does_not_matter() -> None:
    """The stream packs in one process and computes in another, in batches of other sizes."""
    draw = random.Random(5)
    transactions = [from_mapping(make(draw, at)) for at in range(500)]
    alone = [pack([one]) for one in transactions]
    together = pack(transactions)
    for key in KEYS:
        assert b"".join(one.records[key.name].tobytes() for one in alone) == (
            together.records[key.name].tobytes()
        )
    assert b"".join(one.own.tobytes() for one in alone) == together.own.tobytes()


def test_remembering_one_by_one_gives_the_vectors_of_the_replay() -> None:
    """The stream adds to rings of bytes, training finds all of them at once."""
    draw = random.Random(6)
    transactions = [from_mapping(make(draw, at)) for at in range(600)]
    packed = pack(transactions)
    memory = Memory()
    rings, duplicates = memory.remember(packed)
    assert any(duplicates)
    assert rings_of(packed)[1].tolist() == duplicates
    naive = NaiveStream()
    for transaction in transactions:
        naive.vector(transaction)
    assert naive.duplicates == duplicates
    seen = vectors(packed, rings)
    assert [row and not known for row, known in zip(seen.reused, duplicates, strict=True)] == [
        row and not known for row, known in zip(naive.reused, duplicates, strict=True)
    ]
    assert 0 < sum(seen.reused) < len(seen.reused)
    replayed = np.concatenate(list(replay(packed, 100)))
    assert_same_bits(feature_matrix(packed, rings), replayed, transactions)
