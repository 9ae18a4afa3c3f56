"""Which of the transactions at a broker an earlier job left, and which of them count."""

from __future__ import annotations

from flink_job.transactions import Transaction, plan


def test_only_open_transactions_of_the_job_are_settled() -> None:
    """The name of another job may begin like ours."""
    found = [
        Transaction("job-0-3", "CompleteCommit"),
        Transaction("job-0-4", "Ongoing"),
        Transaction("job-2-0-4", "Ongoing"),
        Transaction("job-b-0-4", "Ongoing"),
        Transaction("job-0-5", "CompleteAbort"),
    ]
    assert plan(found, "job", completed=4) == {"job-0-4": True}


def test_without_a_checkpoint_one_committed_part_completes_the_others() -> None:
    """The job was killed between the commits of its two writers."""
    found = [
        Transaction("job-0-4", "CompleteCommit"),
        Transaction("job-1-4", "Ongoing"),
        Transaction("job-0-5", "Ongoing"),
        Transaction("job-1-5", "Ongoing"),
    ]
    assert plan(found, "job", completed=None) == {
        "job-1-4": True,
        "job-0-5": False,
        "job-1-5": False,
    }
