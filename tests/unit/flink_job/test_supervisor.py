"""The supervisor: when it submits, from which checkpoint, and when it waits."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import REGISTRY

from flink_job.checkpoints import Checkpoint, note, noted, remove_outdated, retained
from flink_job.cluster import Cluster, ClusterUnreachableError, Job
from flink_job.input_watch import InputWatch
from flink_job.settings import JobSettings
from flink_job.supervisor import Supervisor
from fraud.runtime.files import lock_file
from fraud.runtime.metrics import JOB_SUBMISSIONS


class FakeCluster(Cluster):
    """A cluster of which a test says what it holds."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.job: Job | None = None
        self.slots = 4
        self.reachable = True

    def active_job(self, name: str) -> Job | None:
        """See `Cluster`."""
        if not self.reachable:
            raise ClusterUnreachableError("connection refused")
        return self.job

    def free_slots(self) -> int:
        """See `Cluster`."""
        return self.slots

    def cancel(self, job_id: str) -> None:
        """See `Cluster`."""
        assert self.job is not None
        assert self.job.id == job_id
        self.job = None


class QuietInput(InputWatch):
    """Input of which nothing is gone, unless a test says so."""

    def __init__(self, settings: JobSettings) -> None:
        super().__init__(settings)
        self.replaced = False
        self.started = 0

    def look(self) -> bool:
        """See `InputWatch`."""
        return self.replaced

    def before_start(self) -> None:
        """See `InputWatch`."""
        self.started += 1
        self.replaced = False


class Submissions:
    """Records what was asked for; answers what a test says."""

    def __init__(self) -> None:
        self.checkpoints: list[str | None] = []
        self.accepted = True

    def __call__(self, checkpoint: str | None) -> bool:
        """See `Submit`."""
        self.checkpoints.append(checkpoint)
        return self.accepted


class Stops(Event):
    """Is set after so many waits."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def wait(self, timeout: float | None = None) -> bool:
        """See `Event`; never waits."""
        self._left -= 1
        if self._left <= 0:
            self.set()
        return self.is_set()


def a_checkpoint(folder: Path, job: str, number: int, *, at_s: int) -> Path:
    path = folder / job / f"chk-{number}"
    path.mkdir(parents=True)
    metadata = path / "_metadata"
    metadata.write_bytes(b"x")
    os.utime(metadata, (at_s, at_s))
    return path


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def submissions() -> Submissions:
    return Submissions()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return JobSettings(flink_checkpoint_dir=str(tmp_path / "checkpoints")).layout_dir


def a_supervisor(
    folder: Path,
    cluster: Cluster,
    submissions: Submissions,
    waiting: str | None = None,
    watch: InputWatch | None = None,
) -> Supervisor:
    settings = JobSettings(flink_checkpoint_dir=str(folder.parent.parent))
    assert settings.layout_dir == folder
    return Supervisor(
        settings,
        cluster,
        lambda: waiting,
        submissions,
        draw_line=lambda _settings: False,
        decided_again=lambda _settings, _since_ms: {0: (3, 9)},
        watch=watch or QuietInput(settings),
    )


def test_a_job_on_a_topic_made_anew_is_cancelled_and_started_again(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Before the start the watch voids what belongs to the old topic."""
    watch = QuietInput(JobSettings(flink_checkpoint_dir=str(folder.parent.parent)))
    supervisor = a_supervisor(folder, cluster, submissions, watch=watch)
    cluster.job = Job("j1", "RUNNING", running=True)
    assert supervisor.look() is None
    watch.replaced = True
    assert supervisor.look() == "its topic was made anew: the job starts again"
    assert cluster.job is None
    assert supervisor.look() == "job was submitted"
    assert (watch.started, submissions.checkpoints) == (1, [None])


def test_submissions_are_counted_from_0_on(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """A first one is an increase only of a series that was there before."""
    JOB_SUBMISSIONS.clear()
    a_supervisor(folder, cluster, submissions)
    for restored in ("false", "true"):
        labels = {"restored": restored}
        assert REGISTRY.get_sample_value("fraudstream_job_submissions_total", labels) == 0


def test_a_first_start_has_no_checkpoint(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """The folder may not even be there."""
    supervisor = a_supervisor(folder, cluster, submissions)
    assert supervisor.look() == "job was submitted"
    assert submissions.checkpoints == [None]


def test_a_lost_job_starts_from_its_newest_complete_checkpoint(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """By number, whichever submission made it, and whatever a copy did to the times of files."""
    a_checkpoint(folder, "a", 9, at_s=200)
    newest = a_checkpoint(folder, "b", 10, at_s=100)
    (folder / "b" / "chk-11").mkdir()
    (folder / "b" / "savepoint-1").mkdir()
    (folder / "b" / "savepoint-1" / "_metadata").touch()
    a_supervisor(folder, cluster, submissions).look()
    assert submissions.checkpoints == [newest.resolve().as_uri()]


def test_an_older_checkpoint_is_tried_when_the_newest_fails_again_and_again(
    folder: Path, cluster: FakeCluster, submissions: Submissions, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an alarm that names what comes out again; never without state, which forgets history."""
    old = a_checkpoint(folder, "a", 1, at_s=100).resolve().as_uri()
    new = a_checkpoint(folder, "a", 2, at_s=200).resolve().as_uri()
    submissions.accepted = False
    supervisor = a_supervisor(folder, cluster, submissions)
    for _ in range(7):
        assert supervisor.look() == "submission failed, trying again"
        older = len(submissions.checkpoints) in (4, 5, 6)
        assert REGISTRY.get_sample_value("fraudstream_job_older_checkpoint") == older
    assert submissions.checkpoints == [new, new, new, old, old, old, new]
    assert "partition 0 from offset 3 to 8" in capsys.readouterr().out


def test_a_running_job_is_left_alone(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Also while it restarts itself."""
    supervisor = a_supervisor(folder, cluster, submissions)
    cluster.job = Job("j", "RUNNING", running=True)
    assert supervisor.look() is None
    cluster.job = Job("j", "RESTARTING", running=False)
    assert supervisor.look() == "job j is restarting"
    assert submissions.checkpoints == []


@pytest.mark.parametrize("cause", ["cluster", "slots", "model"])
def test_it_waits_for_what_must_come_first(
    folder: Path, cluster: FakeCluster, submissions: Submissions, cause: str
) -> None:
    """And says what that is, for /health/ready."""
    cluster.reachable = cause != "cluster"
    cluster.slots = 0 if cause == "slots" else 4
    waiting = "no champion in the registry" if cause == "model" else None
    said = a_supervisor(folder, cluster, submissions, waiting).look()
    expected = {"cluster": "no JobManager", "slots": "task slots: 0 free", "model": "no champion"}
    assert said is not None
    assert said.startswith(expected[cause])
    assert submissions.checkpoints == []


def test_a_second_supervisor_waits_for_the_first(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Two would submit the job twice."""
    stop = Stops(after=2)
    with lock_file(folder.parent / "supervisor.lock") as lock:
        assert lock.acquire()
        second = a_supervisor(folder, cluster, submissions)
        second.run(stop)
        assert second.ready() == "another supervisor of this job"
        assert submissions.checkpoints == []
    second.run(Stops(after=1))
    assert submissions.checkpoints == [None]


def test_the_address_of_an_object_store_survives() -> None:
    """A path would make s3:/bucket of it."""
    settings = JobSettings(flink_checkpoint_dir="s3://bucket/flink/")
    assert settings.layout_uri == f"s3://bucket/flink/fraudstream/{settings.layout_dir.name}"
    assert not settings.lists_checkpoints
    local = JobSettings(flink_checkpoint_dir="file:///var/checkpoints")
    assert local.lists_checkpoints
    assert local.layout_uri == f"file:///var/checkpoints/fraudstream/{settings.layout_dir.name}"


def test_checkpoints_in_an_object_store_are_noted(tmp_path: Path) -> None:
    """Nobody lists them there, so Flink is asked while the job runs: the newest three are kept."""
    file = tmp_path / "made" / "checkpoints.json"
    assert noted(file) == []
    made = [Checkpoint(n, "j", f"s3://bucket/chk-{n}", n * 1000) for n in range(1, 6)]
    note(file, made[1:3])
    note(file, [made[0], *made[2:]])
    assert noted(file) == [made[4], made[3], made[2]]


def test_it_ends_when_it_is_asked_to(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """The job goes on: it belongs to the cluster."""
    stop = Event()
    stop.set()
    a_supervisor(folder, cluster, submissions).run(stop)
    assert submissions.checkpoints == []


def test_earlier_checkpoints_go_when_the_job_has_one_of_its_own(folder: Path) -> None:
    """Not before: until then they are all there is."""
    old = a_checkpoint(folder, "old", 5, at_s=100)
    (folder / "new" / "shared").mkdir(parents=True)
    assert remove_outdated(folder, "new") == []
    new = a_checkpoint(folder, "new", 1, at_s=200)
    assert remove_outdated(folder, "new") == [old.parent]
    assert [checkpoint.uri for checkpoint in retained(folder)] == [new.resolve().as_uri()]


def test_checkpoints_of_another_job_stay(tmp_path: Path) -> None:
    """Two jobs may share a folder: each has one of its own in it."""
    mine, theirs = (
        JobSettings(flink_checkpoint_dir=str(tmp_path), flink_job_name=name).layout_dir
        for name in ("mine", "theirs")
    )
    a_checkpoint(mine, "new", 1, at_s=200)
    other = a_checkpoint(theirs, "old", 1, at_s=100)
    assert remove_outdated(mine, "new") == []
    assert other.exists()


def test_an_address_that_is_none_is_refused() -> None:
    """In words that name the setting."""
    with pytest.raises(ValueError, match="FLINK_URL"):
        Cluster("127.0.0.1:8081")
