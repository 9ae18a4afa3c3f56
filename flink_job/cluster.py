"""Client of the JobManager's REST interface."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from flink_job.checkpoints import Checkpoint

_TIMEOUT_S: Final = 5.0
_PYTHON: Final = "SDK harness"
"""What Beam's errors of Python functions contain."""

_ERROR_LENGTH: Final = 300
_ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED"})


class ClusterUnreachableError(Exception):
    """The JobManager does not answer; transient while it starts."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the JobManager sees it.

    Attributes:
        id: Flink's id, new with each submission.
        state: Flink's state, such as RUNNING or RESTARTING.
        running: Whether all of its tasks run.
    """

    id: str
    state: str
    running: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of a job, after which Flink restarted it.

    Attributes:
        at_ms: Time of the failure, UTC epoch milliseconds.
        error: The exception at its root, in one line.
        in_python: Whether it came from a Python function.
    """

    at_ms: int
    error: str
    in_python: bool


def root_cause(stacktrace: str) -> str:
    r"""Return the exception at the root of a Java stack trace, in one line.

    Example:
        >>> root_cause("a.B: x\n\tat c.D\nCaused by: java.lang.OutOfMemoryError: Java heap space\n\tat e")
        'java.lang.OutOfMemoryError: Java heap space'
    """
    root = stacktrace.rpartition("Caused by: ")[2]
    lines = [line for line in root.splitlines() if line.strip() and not line.startswith("\t")]
    # A Python function's traceback ends with its error.
    return (lines[-1] if "Traceback" in root else lines[0]).strip()[:_ERROR_LENGTH]


class Cluster:
    """A Flink cluster, by its REST interface.

    Args:
        url: Address of the JobManager's REST interface, http or https.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError(f"FLINK_URL: expected http:// or https://, got {url!r}")
        self._url = url.rstrip("/")

    def _get(self, path: str) -> Any:
        try:
            with urlopen(self._url + path, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked above
                return json.load(answer)
        except (URLError, OSError, ValueError) as error:
            raise ClusterUnreachableError(f"{self._url}: {error}") from error

    def active_job(self, name: str) -> Job | None:
        """Find the job of a name that has not ended, the newest if there are several.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        jobs = [
            job
            for job in self._get("/jobs/overview")["jobs"]
            if job["name"] == name and job["state"] not in _ENDED
        ]
        if not jobs:
            return None
        job = max(jobs, key=lambda job: job["start-time"])
        tasks = job["tasks"]
        running = job["state"] == "RUNNING" and tasks["running"] == tasks["total"] > 0
        return Job(job["jid"], job["state"], running)

    def failures(self, job_id: str) -> list[Failure]:
        """Return the failures of a job since its last complete checkpoint, newest first.

        Flink remembers the last 16.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        latest = self._get(f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        since_ms = latest["trigger_timestamp"] if latest else 0
        return [
            Failure(
                failure["timestamp"],
                root_cause(failure["stacktrace"] or failure["exceptionName"]),
                _PYTHON in (failure["stacktrace"] or ""),
            )
            for failure in self._get(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
            if failure["timestamp"] > since_ms
        ]

    def state_by_step(self, name: str) -> dict[str, int]:
        """Return the bytes of the last checkpoint of a job by the name of each step.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
            LookupError: The job does not exist or has no checkpoint.
        """
        job = self.active_job(name)
        latest = job and self._get(f"/jobs/{job.id}/checkpoints")["latest"]["completed"]
        if not job or not latest:
            raise LookupError(f"job {name} has no checkpoint")
        steps = {step["id"]: step["name"] for step in self._get(f"/jobs/{job.id}")["vertices"]}
        tasks = self._get(f"/jobs/{job.id}/checkpoints/details/{latest['id']}")["tasks"]
        return {steps[step]: int(task["state_size"]) for step, task in tasks.items()}

    def completed_checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return the complete checkpoints that a job remembers.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        return [
            Checkpoint(done["id"], job_id, done["external_path"], done["latest_ack_timestamp"])
            for done in self._get(f"/jobs/{job_id}/checkpoints")["history"]
            if done["status"] == "COMPLETED" and done.get("external_path")
        ]

    def cancel(self, job_id: str) -> None:
        """Cancel a job; it ends some time later.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        request = Request(f"{self._url}/jobs/{job_id}", method="PATCH")  # noqa: S310 - checked above
        try:
            with urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - checked above
                pass
        except OSError as error:
            raise ClusterUnreachableError(f"{self._url}: {error}") from error

    def free_slots(self) -> int:
        """Count the unused task slots.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
        """
        return int(self._get("/overview")["slots-available"])

    def completed_checkpoint(
        self, name: str, *, after_ms: float, timeout_s: float = 120.0
    ) -> dict[str, Any]:
        """Wait for a checkpoint of a job triggered after a time, and return Flink's description of it.

        Raises:
            ClusterUnreachableError: The JobManager does not answer.
            TimeoutError: No such checkpoint completed in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            job = self.active_job(name)
            latest = job and self._get(f"/jobs/{job.id}/checkpoints")["latest"]["completed"]
            if latest and latest["trigger_timestamp"] > after_ms:
                return dict(latest)
            time.sleep(0.5)
        raise TimeoutError(f"job {name} had no checkpoint within {timeout_s:.0f} s")
