"""Input that is gone: it is told before the job goes on, and a topic made anew is read from its start."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from flink_job.input_watch import InputWatch, Offsets
from flink_job.settings import JobSettings


class Input:
    """A topic of which a test says what it has, and the group that reads it."""

    def __init__(self) -> None:
        self.topic_id = "one"
        self.offsets = {0: Offsets(5, 0, 9), 1: Offsets(-1, 0, 0)}
        self.forgotten = 0

    def read(self, _settings: JobSettings) -> tuple[str, dict[int, Offsets]]:
        """See `read_input`."""
        return self.topic_id, self.offsets

    def forget(self, _settings: JobSettings) -> None:
        """See `forget_offsets`."""
        self.forgotten += 1


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    return JobSettings(flink_checkpoint_dir=str(tmp_path))


def a_watch(settings: JobSettings, topic: Input) -> InputWatch:
    times = iter(range(0, 1_000, 60))
    return InputWatch(settings, topic.read, topic.forget, lambda: next(times))


def told(why: str) -> float:
    labels = {"service": "flink_job", "reason": why}
    return REGISTRY.get_sample_value("fraudstream_input_vanished_total", labels) or 0.0


def test_records_that_expired_undecided_are_told_once(settings: JobSettings) -> None:
    """How many they are; and again only when more do."""
    topic = Input()
    watch = a_watch(settings, topic)
    before = told("expired")
    watch.before_start()
    assert told("expired") == before
    topic.offsets = {0: Offsets(5, 7, 9), 1: Offsets(-1, 4, 4)}
    assert not watch.look()
    watch.before_start()
    assert told("expired") - before == 2
    topic.offsets[0] = Offsets(5, 8, 9)
    assert not watch.look()
    assert told("expired") - before == 3
    assert topic.forgotten == 0


def test_a_topic_made_anew_voids_checkpoints_and_offsets(settings: JobSettings) -> None:
    """They are of other records: with them the job would skip as many of the new topic."""
    topic = Input()
    a_watch(settings, topic).before_start()
    checkpoint = settings.layout_dir / "job" / "chk-1"
    checkpoint.mkdir(parents=True)
    topic.topic_id = "two"
    before = told("replaced")

    watch = a_watch(settings, topic)
    assert watch.look()
    assert told("replaced") - before == 2
    assert checkpoint.exists()
    watch.before_start()
    assert told("replaced") - before == 2
    assert topic.forgotten == 1
    assert not settings.layout_dir.exists()
    assert [path.name for path in settings.job_dir.glob("replaced-one/layout-*/job/*")] == ["chk-1"]
    assert not watch.look()
    watch.before_start()
    assert topic.forgotten == 1
