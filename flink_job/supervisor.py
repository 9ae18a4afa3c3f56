"""Keeps the job running, because a restarted JobManager without ZooKeeper or Kubernetes forgets it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Final

import structlog
from confluent_kafka import KafkaException

from flink_job.checkpoints import Checkpoint, note, remove_outdated
from flink_job.cluster import Cluster, ClusterUnreachableError, Failure, Job
from flink_job.input_watch import InputWatch
from flink_job.rebuild import NOTES, decided_again, draw_line_if_needed, known_checkpoints
from flink_job.settings import JobSettings
from flink_job.unreadable import Found, forget, found, gaps, passed, read_one_at_a_time
from flink_job.unreadable_search import find
from fraud.contracts.times import utc_text
from fraud.runtime.files import lock_file
from fraud.runtime.metrics import (
    JOB_RUNNING,
    JOB_SUBMISSIONS,
    OLDER_CHECKPOINT,
    UNREADABLE_RECORD,
)

_SUBMIT_TIMEOUT_S: Final = 180
_TRIES_PER_CHECKPOINT: Final = 3
_OUT_OF_MEMORY: Final = "OutOfMemoryError"

log = structlog.get_logger()

Submit = Callable[[str | None], bool]


def submit_in_process(checkpoint: str | None) -> bool:
    """Submit the job in a process of its own, so that its JVM ends with it.

    Returns:
        Whether Flink accepted the job.
    """
    command = [sys.executable, "-P", "-m", "flink_job.job", *([checkpoint] if checkpoint else [])]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_SUBMIT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        log.error("flink_job.submission_failed", detail=f"no answer in {_SUBMIT_TIMEOUT_S} s")
        return False
    if result.returncode:
        causes = [
            line
            for line in (result.stdout + result.stderr).splitlines()
            if line.startswith(("Caused by", "pyflink.util", "setting ", "RuntimeError"))
        ]
        log.error(
            "flink_job.submission_failed", detail=" | ".join(causes[-3:]) or result.stderr[-500:]
        )
    return result.returncode == 0


class Supervisor:
    """Checks the job periodically and submits it when it does not run.

    Args:
        settings: Name, folder of checkpoints, seconds between checks.
        cluster: Cluster of the job.
        waits_for: Returns the missing precondition of the job in one line, or None.
        submit: Called with the checkpoint to restore, None for a start without state.
        draw_line: Prepares a start without state when the job has run before.
        decided_again: Returns the offsets whose decisions an older checkpoint publishes again.
        watch: Tells input that is gone; None makes one.
        find: Returns, and notes, the record at which the job stops, if it is one.
    """

    def __init__(
        self,
        settings: JobSettings,
        cluster: Cluster,
        waits_for: Callable[[], str | None],
        submit: Submit = submit_in_process,
        draw_line: Callable[[JobSettings], bool] = draw_line_if_needed,
        decided_again: Callable[[JobSettings, int], Mapping[int, tuple[int, int]]] = decided_again,
        watch: InputWatch | None = None,
        find: Callable[[JobSettings], Found | None] = find,
    ) -> None:
        self._input = watch or InputWatch(settings)
        self._name = settings.flink_job_name
        self._slots = settings.flink_parallelism
        self._settings = settings
        self._folder = settings.layout_dir
        self._draw_line = draw_line
        self._decided_again = decided_again
        self._retry_s = settings.flink_retry_s
        self._cluster = cluster
        self._waits_for = waits_for
        self._submit = submit
        self._find = find
        self._failures = 0
        self._searched = ("", 0)
        for restored in ("false", "true"):
            JOB_SUBMISSIONS.labels(restored)
        self._state: str | None = "starting"

    def ready(self) -> str | None:
        """Return None while the job runs, else the missing precondition."""
        return self._state

    def run(self, stop: Event) -> None:
        """Check the job until `stop` is set; the job itself goes on in the cluster.

        Two supervisors would submit the job twice, so one waits while another holds the lock.
        """
        with lock_file(self._settings.job_dir / "supervisor.lock") as lock:
            while not stop.is_set():
                self._tell(self.look() if lock.acquire() else "another supervisor of this job")
                stop.wait(self._retry_s)

    def _tell(self, state: str | None) -> None:
        if state != self._state:
            log.info("flink_job.state_changed", state=state or "running")
            self._state = state
        JOB_RUNNING.set(state is None)

    def look(self) -> str | None:
        """Check once and submit if needed; return None while the job runs, else the missing precondition."""
        try:
            job = self._cluster.active_job(self._name)
            if job is not None:
                return self._look_at(job)
            free = self._cluster.free_slots()
        except ClusterUnreachableError as unreachable:
            return f"no JobManager: {unreachable}"
        except KafkaException as error:
            return f"whether the job reads on: {error}"
        if waiting := self._waits_for():
            return waiting
        if free < self._slots:
            return f"task slots: {free} free, {self._slots} needed"
        try:
            self._input.before_start()
            if self._draw_line(self._settings):
                log.warning("flink_job.history_rebuilding", layout=self._folder.name)
        except (KafkaException, OSError) as error:
            return f"where the earlier job's output ended: {error}"
        checkpoint = self._checkpoint(known_checkpoints(self._settings))
        log.info("flink_job.submitting", checkpoint=checkpoint)
        if self._submit(checkpoint):
            JOB_SUBMISSIONS.labels(restored=str(checkpoint is not None).lower()).inc()
            read_one_at_a_time(self._settings, False)
            stop = found(self._settings)
            if stop is not None and stop.gap in gaps(self._settings, stop.topic_id):
                forget(self._settings)
            return "job was submitted"
        self._failures += 1
        return "submission failed, trying again"

    def _look_at(self, job: Job) -> str | None:
        """Return None for a job that runs, else its exception, or the record at which it stops.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        failures = self._cluster.failures(job.id)
        self._search_if_needed(job, failures)
        stop = found(self._settings)
        if stop is not None and job.running and not failures and passed(self._settings, stop):
            forget(self._settings)
            stop = None
        UNREADABLE_RECORD.set(stop is not None)
        if stop is not None:
            place = f"partition {stop.gap.partition}, offset {stop.gap.first}"
            if stop.gap in gaps(self._settings, stop.topic_id):
                log.warning("flink_job.stepping_over", place=place)
                self._cluster.cancel(job.id)
                forget(self._settings)
                return f"stepping over {place}"
            return f"unreadable record at {place}; see fraudstream dlq step-over --help"
        cause = f": {failures[0].error}" if failures else ""
        if not job.running:
            return f"job {job.id} is {job.state.lower()}{cause}"
        if len(failures) > 1:
            return f"{len(failures)} restarts since the last checkpoint{cause}"
        self._failures = 0
        if self._input.look():
            self._cluster.cancel(job.id)
            return "its topic was made anew: the job starts again"
        self._keep_checkpoints(job.id)
        return None

    def _search_if_needed(self, job: Job, failures: Sequence[Failure]) -> None:
        """Search for an unreadable record once the job failed twice without a checkpoint between.

        It then read the same offsets twice. The search is repeated when twice as many failures have
        come, since what failed before may have been something else.
        """
        outside = [failure for failure in failures if not failure.in_python]
        searched_job, searched = self._searched
        if len(outside) < max(2, 2 * searched if searched_job == job.id else 0):
            return
        self._searched = job.id, len(outside)
        log.warning("flink_job.failed_twice", job=job.id, error=outside[0].error)
        try:
            stop = self._find(self._settings)
        except (KafkaException, OSError, RuntimeError) as error:
            log.error("flink_job.search_failed", detail=str(error))
            return
        if stop is not None:
            log.error(
                "flink_job.record_unreadable",
                partition=stop.gap.partition,
                offset=stop.gap.first,
                next_offset=stop.gap.next,
                error=stop.error,
            )
        elif any(_OUT_OF_MEMORY in failure.error for failure in outside):
            # Each record fits, but not all of a poll, and of those that wait, together.
            log.warning("flink_job.reading_one_at_a_time", job=job.id)
            read_one_at_a_time(self._settings, True)
            self._cluster.cancel(job.id)

    def _keep_checkpoints(self, job_id: str) -> None:
        if not self._settings.lists_checkpoints:
            note(self._folder / NOTES, self._cluster.completed_checkpoints(job_id))
            return
        for path in remove_outdated(self._folder, job_id):
            log.info("flink_job.checkpoints_removed", job=path.name)

    def _checkpoint(self, checkpoints: Sequence[Checkpoint]) -> str | None:
        """Choose the newest checkpoint, or an older one after several failures in a row.

        While checkpoints exist, one is always chosen: a start without would lose all history.
        """
        if not checkpoints:
            return None
        age = self._failures // _TRIES_PER_CHECKPOINT % len(checkpoints)
        chosen = checkpoints[age]
        OLDER_CHECKPOINT.set(age)
        if age:
            try:
                again = self._decided_again(self._settings, chosen.completed_ms)
            except KafkaException as error:
                places = f"not known: {error}"
            else:
                places = ", ".join(
                    f"partition {partition} from offset {first} to {end - 1}"
                    for partition, (first, end) in sorted(again.items())
                )
            log.error(
                "flink_job.older_checkpoint_chosen",
                checkpoint=chosen.number,
                newest=checkpoints[0].number,
                completed_at=utc_text(chosen.completed_ms),
                decided_again=places or "nothing",
            )
        return chosen.uri
