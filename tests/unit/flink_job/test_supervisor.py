"""The supervisor: when it submits, from which checkpoint, and when it waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import REGISTRY

from flink_job import supervisor as module
from flink_job.checkpoints import Checkpoint, noted, remove_outdated, retained
from flink_job.checkpoints import note as note_checkpoints
from flink_job.cluster import Cluster, ClusterUnreachableError, Failure, Job, root_cause
from flink_job.input_watch import InputWatch
from flink_job.settings import JobSettings
from flink_job.supervisor import Supervisor
from flink_job.unreadable import Found, Gap, SteppedOver, found, note, one_at_a_time
from fraud.runtime.files import lock_file
from fraud.runtime.metrics import JOB_SUBMISSIONS


class FakeCluster(Cluster):
    """A cluster of which a test says what it holds."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.job: Job | None = None
        self.slots = 4
        self.reachable = True
        self.failed: list[Failure] = []
        self.cancelled: list[str] = []

    def active_job(self, name: str) -> Job | None:
        """See `Cluster`."""
        if not self.reachable:
            raise ClusterUnreachableError("connection refused")
        return self.job

    def free_slots(self) -> int:
        """See `Cluster`."""
        return self.slots

    def failures(self, job_id: str) -> list[Failure]:
        """See `Cluster`."""
        return self.failed

    def cancel(self, job_id: str) -> None:
        """See `Cluster`."""
        assert self.job is not None
        assert self.job.id == job_id
        self.cancelled.append(job_id)
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
    searches: Callable[[JobSettings], Found | None] | None = None,
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
        find=searches or (lambda _settings: None),
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


OUT_OF_MEMORY = "java.lang.OutOfMemoryError: Java heap space"
STOP = Found(topic_id="t", gap=Gap(partition=2, first=17, next=18), error=OUT_OF_MEMORY)


class Searches:
    """Finds what a test says, and counts how often it was asked."""

    def __init__(self, stop: Found | None) -> None:
        self.stop = stop
        self.count = 0

    def __call__(self, settings: JobSettings) -> Found | None:
        """See `find`."""
        self.count += 1
        if self.stop:
            note(settings, self.stop)
        return self.stop


def test_the_exception_of_a_job_that_restarts_is_named(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Also between two restarts: it runs for a moment each time."""
    supervisor = a_supervisor(folder, cluster, submissions)
    cluster.failed = [Failure(1, "ValueError: x", in_python=True)]
    cluster.job = Job("j", "RESTARTING", running=False)
    assert supervisor.look() == "job j is restarting: ValueError: x"
    cluster.job = Job("j", "RUNNING", running=True)
    assert supervisor.look() is None
    cluster.failed *= 2
    assert supervisor.look() == "2 restarts since the last checkpoint: ValueError: x"


def test_the_root_of_a_failure_is_named() -> None:
    """Java's innermost cause; of a Python function the last line of its traceback."""
    python = (
        "java.lang.RuntimeException: x\n\tat a.B\n"
        "Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: "
        'Traceback (most recent call last):\n  File "a.py", line 3\n    pack(x)\n'
        "flink_job.isolation.EveryRecordFails: a valid record fails, too\n\n\tat org.apache.beam.C\n"
    )
    assert root_cause(python) == "flink_job.isolation.EveryRecordFails: a valid record fails, too"
    assert root_cause(f"a.B: x\n\tat c\nCaused by: {OUT_OF_MEMORY}\n\tat d") == OUT_OF_MEMORY
    assert root_cause("a.b.C") == "a.b.C"


def test_an_unreadable_record_is_searched_for_once_the_job_failed_twice(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Again at twice as many failures; not for those of our own functions, and not at once."""
    searches = Searches(None)
    supervisor = a_supervisor(folder, cluster, submissions, searches=searches)
    cluster.job = Job("j", "RESTARTING", running=False)
    counts = []
    for number in range(1, 9):
        cluster.failed = [Failure(n, "a.Crash", in_python=False) for n in range(number)]
        supervisor.look()
        counts.append(searches.count)
    assert counts == [0, 1, 1, 2, 2, 2, 2, 3]
    cluster.job = Job("k", "RESTARTING", running=False)
    cluster.failed = [Failure(n, "x", in_python=True) for n in range(9)]
    supervisor.look()
    assert searches.count == 3


def test_records_that_fit_alone_but_not_together_are_read_one_at_a_time(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Until the submission after the next one."""
    supervisor = a_supervisor(folder, cluster, submissions, searches=Searches(None))
    settings = JobSettings(flink_checkpoint_dir=str(folder.parent.parent))
    cluster.job = Job("j", "RESTARTING", running=False)
    cluster.failed = [Failure(n, OUT_OF_MEMORY, in_python=False) for n in range(2)]
    supervisor.look()
    assert cluster.cancelled == ["j"]
    assert one_at_a_time(settings)
    cluster.job = None
    assert supervisor.look() == "job was submitted"
    assert not one_at_a_time(settings)


def test_an_unreadable_record_is_named_until_the_job_is_past_it(
    folder: Path,
    cluster: FakeCluster,
    submissions: Submissions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By partition and offset, while the job runs for a moment as well."""
    monkeypatch.setattr(module, "passed", lambda *_: is_past)
    is_past = False
    supervisor = a_supervisor(folder, cluster, submissions, searches=Searches(STOP))
    cluster.job = Job("j", "RESTARTING", running=False)
    cluster.failed = [Failure(n, OUT_OF_MEMORY, in_python=False) for n in range(2)]
    named = "unreadable record at partition 2, offset 17; see fraudstream dlq step-over --help"
    assert supervisor.look() == named
    assert REGISTRY.get_sample_value("fraudstream_job_unreadable_record") == 1
    cluster.job, cluster.failed = Job("j", "RUNNING", running=True), []
    assert supervisor.look() == named
    is_past = True
    assert supervisor.look() is None
    assert REGISTRY.get_sample_value("fraudstream_job_unreadable_record") == 0


def test_the_job_is_submitted_again_once_a_record_was_stepped_over(
    folder: Path, cluster: FakeCluster, submissions: Submissions
) -> None:
    """Its source is told at submission alone."""
    supervisor = a_supervisor(folder, cluster, submissions)
    settings = JobSettings(flink_checkpoint_dir=str(folder.parent.parent))
    note(settings, STOP)
    stepped = SteppedOver(topic_id="t", gaps=[STOP.gap])
    (settings.job_dir / "stepped-over.json").write_text(stepped.model_dump_json())
    cluster.job = Job("j", "RESTARTING", running=False)
    assert supervisor.look() == "stepping over partition 2, offset 17"
    assert cluster.cancelled == ["j"]
    cluster.job = None
    assert supervisor.look() == "job was submitted"
    assert found(settings) is None


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
    note_checkpoints(file, made[1:3])
    note_checkpoints(file, [made[0], *made[2:]])
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
