"""What was sent to the stream counts before it comes back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud.contracts.transaction import from_mapping
from fraud.features.catalogue import KEYS
from fraud.features.packing import Packed, pack
from scoring_api.expected import EXPECTED_S, Expected
from scoring_api.history import Processed, RecentHistory
from tests.support.builders import START_MS, Memory, a_record


def packed(number: int, **changes: Any) -> Packed:
    return pack([from_mapping(a_record(event_id=f"e-{number}", **changes))])


def came(history: RecentHistory, number: int, **changes: Any) -> None:
    transaction = from_mapping(a_record(event_id=f"e-{number}", **changes))
    history.remember([Processed(transaction, 0, number, START_MS + number)])


def test_the_next_sees_what_is_on_its_way_as_the_stream_will() -> None:
    """In the order sent, for every key, and also while part of it has come back."""
    history, memory = RecentHistory(100), Memory()
    for number in range(50):
        asked = packed(number, ip_address=f"10.0.0.{number % 3}")
        rings, known = history.rings_with(asked)
        of_stream, duplicates = memory.remember(asked)
        assert (rings, known) == (of_stream, duplicates)
        history.expected.add(asked)
        if number > 4:
            late = number - 5
            came(history, late, ip_address=f"10.0.0.{late % 3}")
    rings, _ = history.rings_with(packed(99))
    assert len(history.expected) == 5
    assert len(rings["entity"][0]) == 32 * KEYS[0].dtype.itemsize


def test_an_event_sent_again_is_a_duplicate_and_counts_once() -> None:
    history = RecentHistory(100)
    for _ in range(2):
        history.expected.add(packed(1))
    rings, known = history.rings_with(packed(1))
    assert known == [True]
    assert len(np.frombuffer(rings["entity"][0], KEYS[0].dtype)) == 1


def test_what_could_not_be_sent_or_does_not_come_is_given_up() -> None:
    now_s = [0.0]
    history = RecentHistory(100)
    history.expected = Expected(lambda: now_s[0])
    history.expected.add(packed(1))
    history.expected.add(packed(2))
    history.expected.give_up(packed(1))
    size = KEYS[0].dtype.itemsize
    assert len(history.rings_with(packed(3))[0]["entity"][0]) == 2 * size
    now_s[0] = EXPECTED_S
    assert len(history.rings_with(packed(3))[0]["entity"][0]) == size
    assert len(history.expected) == 0


def test_what_came_long_ago_is_not_put_at_the_end_again() -> None:
    """A merchant's ring may have turned over before the time is up."""
    history = RecentHistory(100)
    history.expected.add(packed(0))
    for number in range(40):
        came(history, number, entity_id=f"c-{number}")
    came(history, 0)
    newest = history.rings_with(packed(41, entity_id="other"))[0]["merchant"][0]
    size = KEYS[-1].dtype.itemsize
    events = [newest[at : at + 8] for at in range(0, len(newest), size)]
    assert len(set(events)) == len(events) == 32
    assert len(history.expected) == 0
