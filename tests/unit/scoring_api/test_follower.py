"""The follower: from the topic to the history, across restarts."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from fraud.features.catalogue import KEYS
from fraud.kafka.topic_follower import Position
from scoring_api import snapshot as snapshot_module
from scoring_api.follower import Follower
from scoring_api.history import RecentHistory
from scoring_api.snapshot import SnapshotFile
from tests.support.fakes import ListFeed, processed

VALUES: list[bytes | None] = [processed(number, entity=f"c-{number % 7}") for number in range(300)]


@pytest.fixture
def file(tmp_path: Path) -> SnapshotFile:
    return SnapshotFile(tmp_path / "history.snapshot")


def follow(
    feed: ListFeed, file: SnapshotFile, *, snapshot_s: float = 3600
) -> tuple[Follower, RecentHistory]:
    """Run a follower until its feed has nothing more."""
    history = RecentHistory(100)
    feed.stop.clear()
    follower = Follower(feed, history, file, snapshot_s=snapshot_s)
    assert follower.waits_for() is not None
    follower.run(feed.stop)
    return follower, history


def test_it_reads_all_and_is_ready_at_the_end(file: SnapshotFile) -> None:
    follower, history = follow(ListFeed(VALUES, Event()), file)
    assert follower.waits_for() is None
    assert history.sizes()["entity"] == 7


def test_it_is_not_ready_before_the_end(file: SnapshotFile) -> None:
    """A score with half of the history would not be the stream's."""
    feed = ListFeed(VALUES, Event(), at_most=10)
    follower = Follower(feed, RecentHistory(100), file, snapshot_s=3600)
    seen = []
    poll = feed.poll

    def watched(timeout_s: float) -> list[object]:
        seen.append(follower.waits_for())
        return poll(timeout_s)  # type: ignore[return-value]

    feed.poll = watched  # type: ignore[method-assign,assignment]
    follower.run(feed.stop)
    assert seen == ["the end of the list"] * 30
    assert follower.waits_for() is None


def test_a_restart_goes_on_from_the_snapshot(file: SnapshotFile) -> None:
    """It reads nothing twice, and ends up where one that never stopped does."""
    _, whole = follow(ListFeed(VALUES, Event()), SnapshotFile(file.path.with_name("other")))
    follow(ListFeed(VALUES[:200], Event()), file)
    feed = ListFeed(VALUES, Event())
    _, history = follow(feed, file)
    assert feed.started_at == [Position("topic-a", {0: 200})]
    assert history.content() == whole.content()


def test_a_kill_between_snapshots_costs_reading_only(file: SnapshotFile) -> None:
    """The snapshot is older than what was read: the rest comes again and changes nothing twice."""
    _, whole = follow(ListFeed(VALUES, Event()), SnapshotFile(file.path.with_name("other")))
    follow(ListFeed(VALUES[:120], Event()), file)
    early = file.path.read_bytes()
    follow(ListFeed(VALUES[:250], Event()), file)
    file.path.write_bytes(early)
    _, history = follow(ListFeed(VALUES, Event()), file)
    assert history.content() == whole.content()


def test_another_topic_by_the_same_name_is_read_from_its_start(file: SnapshotFile) -> None:
    follow(ListFeed(VALUES, Event()), file)
    feed = ListFeed(VALUES[:5], Event(), topic_id="topic-b")
    follower, history = follow(feed, file)
    assert feed.started_at == [Position("topic-a", {0: 300}), None]
    assert follower.waits_for() is None
    assert history.sizes()["entity"] == 5


def test_a_topic_that_ends_before_what_was_read_is_read_from_its_start(file: SnapshotFile) -> None:
    """A broker that lost its disk, for one."""
    follow(ListFeed(VALUES, Event()), file)
    _, history = follow(ListFeed(VALUES[:3], Event()), file)
    assert history.sizes()["entity"] == 3


def test_another_layout_is_read_from_the_start(
    file: SnapshotFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = follow(ListFeed(VALUES, Event()), file)
    monkeypatch.setattr(snapshot_module, "LAYOUT", "2: a later one")
    feed = ListFeed(VALUES, Event())
    _, history = follow(feed, file)
    assert feed.started_at == [None]
    assert history.content() == whole.content()


def test_a_record_that_cannot_be_read_costs_no_other(file: SnapshotFile) -> None:
    values: list[bytes | None] = [processed(1), None, b"{", b"{}", processed(2)]
    _, history = follow(ListFeed(values, Event()), file)
    assert len(history.content().rings["entity"][0][1]) == 2 * KEYS[0].dtype.itemsize


def test_a_snapshot_is_kept_now_and_then(file: SnapshotFile) -> None:
    """Not only at the end: a process may be killed."""
    feed = ListFeed(VALUES, Event(), at_most=100)
    poll, kept = feed.poll, []

    def watched(timeout_s: float) -> list[object]:
        kept.append(file.path.exists())
        return poll(timeout_s)  # type: ignore[return-value]

    feed.poll = watched  # type: ignore[method-assign,assignment]
    history = RecentHistory(100)
    clock = iter(range(0, 10_000, 100))
    Follower(feed, history, file, snapshot_s=60, monotonic=lambda: float(next(clock))).run(
        feed.stop
    )
    assert kept[0] is False
    assert kept[2] is True


def test_a_full_disk_is_no_reason_to_stop(
    file: SnapshotFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_snapshot: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file, "write", fail)
    follower, history = follow(ListFeed(VALUES, Event()), file)
    assert follower.waits_for() is None
    assert history.sizes()["entity"] == 7
