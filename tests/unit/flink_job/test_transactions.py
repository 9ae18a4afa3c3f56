"""Which of the transactions at a broker an earlier job left, and which of them count."""

from __future__ import annotations

from flink_job.transactions import BrokerTransaction, plan


def test_only_open_transactions_of_the_job_are_settled() -> None:
    """The name of another job may begin like ours."""
    found = [
        BrokerTransaction("job-0-3", "CompleteCommit"),
        BrokerTransaction("job-0-4", "Ongoing"),
        BrokerTransaction("job-2-0-4", "Ongoing"),
        BrokerTransaction("job-b-0-4", "Ongoing"),
        BrokerTransaction("job-0-5", "CompleteAbort"),
    ]
    assert plan(found, "job", completed=4) == {"job-0-4": True}


def test_without_a_checkpoint_one_committed_part_completes_the_others() -> None:
    """The job was killed between the commits of its two writers."""
    found = [
        BrokerTransaction("job-0-4", "CompleteCommit"),
        BrokerTransaction("job-1-4", "Ongoing"),
        BrokerTransaction("job-0-5", "Ongoing"),
        BrokerTransaction("job-1-5", "Ongoing"),
    ]
    assert plan(found, "job", completed=None) == {
        "job-1-4": True,
        "job-0-5": False,
        "job-1-5": False,
    }
