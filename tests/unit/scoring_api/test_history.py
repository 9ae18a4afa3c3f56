"""The history is that of the stream, whatever is repeated, evicted or kept on disk meanwhile."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import decode
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories
from fraud.features.packing import pack
from fraud.kafka.topic_follower import Position
from scoring_api import snapshot as snapshot_module
from scoring_api.history import RecentHistory, read_processed
from scoring_api.snapshot import Snapshot, SnapshotFile, SnapshotUnusable
from tests.support.builders import START_MS, a_record
from tests.support.fakes import processed

ENTITY = KEYS[0]


def remember(history: RecentHistory, *values: bytes) -> int:
    return history.remember([one for value in values if (one := read_processed(value))])


def ring(history: RecentHistory, entity: str = "c-1") -> bytes:
    return dict(history.content().rings[ENTITY.name]).get(entity, b"")


def rows(history: RecentHistory, entity: str = "c-1") -> int:
    return len(ring(history, entity)) // ENTITY.dtype.itemsize


def of_the_stream(*numbers: int) -> bytes:
    """Return the ring that the stream has after these events."""
    histories = Histories(ENTITY)
    for number in numbers:
        packed = pack([decode(orjson.dumps(a_record(event_id=f"e-{number}", entity_id="c-1")))])
        histories.remember("c-1", packed.records[ENTITY.name][0].tobytes())
    return histories.ring("c-1")


def test_the_ring_is_the_streams() -> None:
    """More events than a ring holds, in batches of any size."""
    history = RecentHistory(10)
    remember(history, *map(processed, range(7)))
    remember(history, *map(processed, range(7, 40)))
    assert ring(history) == of_the_stream(*range(40))


def test_a_restart_of_the_job_repeats_records_without_a_trace() -> None:
    """Also those that the ring has forgotten, which it cannot recognise."""
    history = RecentHistory(10)
    remember(history, *map(processed, range(100)))
    before = ring(history)
    assert remember(history, *map(processed, range(100))) == 0
    assert remember(history, *map(processed, range(10, 101))) == 1
    assert ring(history) == of_the_stream(*range(101)) != before


def test_offsets_of_other_input_partitions_are_their_own() -> None:
    """Records without a key spread one entity over partitions."""
    history = RecentHistory(10)
    remember(history, processed(5), processed(6, partition=1, offset=0))
    assert remember(history, processed(5), processed(6, partition=1, offset=0)) == 0
    assert remember(history, processed(7, partition=1, offset=1), processed(8)) == 2
    assert rows(history) == 4


def test_an_input_topic_made_anew_is_no_repeat() -> None:
    """Its offsets begin at 0 again, but later; repeats of it are known from then on."""
    history = RecentHistory(10)
    remember(history, *map(processed, range(50)))
    anew = [processed(50 + n, offset=n, timestamp_ms=START_MS + 1000 + n) for n in range(40)]
    assert remember(history, *anew) == 40
    assert remember(history, *anew) == 0
    assert ring(history) == of_the_stream(*range(90))


def test_a_clock_set_back_loses_nothing() -> None:
    """A higher offset is new, whatever its time."""
    history = RecentHistory(10)
    remember(history, processed(1), processed(2, timestamp_ms=START_MS - 5000))
    assert remember(history, processed(1), processed(2, timestamp_ms=START_MS - 5000)) == 0
    assert remember(history, processed(3, timestamp_ms=START_MS - 4000)) == 1
    assert rows(history) == 3


def test_a_duplicate_leaves_no_trace() -> None:
    history = RecentHistory(10)
    remember(history, processed(1), processed(2, duplicate=True))
    assert ring(history) == of_the_stream(1)


def test_the_least_recently_seen_entities_are_forgotten() -> None:
    """Rings and marks alike, so that memory is bounded."""
    history = RecentHistory(2)
    remember(history, processed(1, entity="a"), processed(2, entity="b"))
    remember(history, processed(3, entity="a"), processed(4, entity="c"))
    content = history.content()
    assert [value for value, _ in content.rings[ENTITY.name]] == ["a", "c"]
    assert [value for value, _ in content.marks] == ["a", "c"]
    assert history.sizes()[ENTITY.name] == 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.booleans()), max_size=60))
def test_rings_and_marks_always_are_of_the_same_entities(
    events: list[tuple[str, int, bool]],
) -> None:
    """Whatever comes, is repeated or evicted."""
    history = RecentHistory(3)
    for number, (entity, partition, again) in enumerate(events):
        value = processed(number, entity=entity, partition=partition)
        remember(history, value, *([value] if again else []))
    content = history.content()
    assert [v for v, _ in content.rings[ENTITY.name]] == [v for v, _ in content.marks]


@pytest.mark.parametrize("partition", ["0", None, 2**40, 1.5])
def test_a_record_of_a_foreign_writer_is_a_verdict(partition: object) -> None:
    record = orjson.loads(processed(1))
    record["fd"]["source"]["partition"] = partition
    with pytest.raises(InvalidMessage, match=r"fd\.source"):
        read_processed(orjson.dumps(record))


def a_snapshot(history: RecentHistory) -> Snapshot:
    return Snapshot(Position("topic-a", {0: 7, 3: 2**40}), history.content())


def test_a_snapshot_gives_everything_back(tmp_path: Path) -> None:
    """In the same order of use, marks included, for values of any script."""
    history = RecentHistory(5000)
    for number in range(1500):
        remember(history, processed(number, entity=f"\u00e9-{number % 1300}", partition=number % 2))
    file = SnapshotFile(tmp_path / "folder" / "history.snapshot")
    file.write(a_snapshot(history))
    again = file.read()
    assert again == a_snapshot(history)
    restored = RecentHistory(5000)
    restored.restore(again.content)
    assert restored.content() == history.content()
    assert remember(restored, processed(1499, entity="\u00e9-199", partition=1)) == 0
    assert (file.path.stat().st_mode & 0o777) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["history.snapshot"]


def test_a_smaller_capacity_keeps_the_most_recent(tmp_path: Path) -> None:
    history = RecentHistory(100)
    remember(history, *(processed(number, entity=f"c-{number}") for number in range(10)))
    smaller = RecentHistory(3)
    smaller.restore(history.content())
    assert [value for value, _ in smaller.content().marks] == ["c-7", "c-8", "c-9"]
    assert smaller.sizes()[ENTITY.name] == 3


def test_no_snapshot_is_no_error(tmp_path: Path) -> None:
    assert SnapshotFile(tmp_path / "none").read() is None


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    """Cut short, changed in any part, or something else."""
    history = RecentHistory(10)
    remember(history, *map(processed, range(5)))
    file = SnapshotFile(tmp_path / "history.snapshot")
    file.write(a_snapshot(history))
    whole = file.path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], bytes(flipped), b"", b"{}"):
        file.path.write_bytes(damaged)
        with pytest.raises(SnapshotUnusable, match="damaged"):
            file.read()


def test_a_snapshot_of_another_layout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rings mean something else."""
    file = SnapshotFile(tmp_path / "history.snapshot")
    with monkeypatch.context() as earlier:
        earlier.setattr(snapshot_module, "LAYOUT", "0: an earlier one")
        file.write(a_snapshot(RecentHistory(1)))
    with pytest.raises(SnapshotUnusable, match="layout"):
        file.read()
