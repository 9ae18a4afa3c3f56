"""`python -m flink_job`: submits the job and resubmits it whenever it has ended, until stopped."""

from __future__ import annotations

from flink_job.service import run
from flink_job.settings import JobSettings
from fraud.runtime.lifecycle import run_service

if __name__ == "__main__":
    raise SystemExit(run_service("flink_job", JobSettings, run))
