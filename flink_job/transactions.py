"""Settles Kafka transactions that an earlier job left open: `python -m flink_job.transactions [checkpoint]`.

A restored job settles those of its checkpoint itself. One that starts without state does not know
them: until they time out, readers of committed records would wait, and what a complete checkpoint
had handed over would be lost. Flink names a transaction `PREFIX-SUBTASK-CHECKPOINT`, and commits it
when that checkpoint is complete.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from flink_job.settings import JobSettings
from fraud.runtime.lifecycle import load_settings

_OPEN: Final = "Ongoing"
_COMMITTED: Final = frozenset({"PrepareCommit", "CompleteCommit"})
_SHADED: Final = "org.apache.flink.kafka.shaded.org.apache.kafka"
_TIMEOUT_S: Final = 180
_DONE: Final = ("committed ", "aborted ")


class BrokerTransaction(NamedTuple):
    """A transaction at the broker.

    Attributes:
        name: Its transactional id.
        state: Kafka's name of its state.
    """

    name: str
    state: str


def plan(
    transactions: Iterable[BrokerTransaction], prefix: str, completed: int | None
) -> dict[str, bool]:
    """Return the open transactions of a job, by name, with whether each is committed or aborted.

    Those of a complete checkpoint are committed. A checkpoint is also known to be complete when a
    transaction of its number was committed.

    Args:
        transactions: Of any job, in any state.
        prefix: The job's.
        completed: Number of the job's last complete checkpoint; None if it is not known.

    Example:
        >>> plan([BrokerTransaction("job-0-7", "Ongoing"), BrokerTransaction("job-0-8", "Ongoing")], "job", 7)
        {'job-0-7': True, 'job-0-8': False}
    """
    name = re.compile(re.escape(prefix) + r"-\d+-(\d+)", re.ASCII)
    ours = [
        (transaction, int(found[1]))
        for transaction in transactions
        if (found := name.fullmatch(transaction.name))
    ]
    complete = {number for transaction, number in ours if transaction.state in _COMMITTED}
    return {
        transaction.name: number in complete or (completed is not None and number <= completed)
        for transaction, number in ours
        if transaction.state == _OPEN
    }


def settle_in_process(completed: int | None) -> list[str]:
    """Settle in a process of its own, so that its JVM ends with it.

    Returns:
        What was done, a line for each transaction.

    Raises:
        OSError: It failed; the message has the end of its output.
    """
    arguments = [] if completed is None else [str(completed)]
    command = [sys.executable, "-P", "-m", "flink_job.transactions", *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"open transactions: no answer in {_TIMEOUT_S} s") from None
    if result.returncode:
        raise OSError(f"open transactions: {result.stderr[-500:]}")
    return [line for line in result.stdout.splitlines() if line.startswith(_DONE)]


def settle(settings: JobSettings, completed: int | None) -> dict[str, bool]:
    """Commit or abort every open transaction of the job; see `plan`. The job must not run.

    Returns:
        Names of the transactions, with whether each was committed.
    """
    from pyflink.java_gateway import get_gateway
    from pyflink.util.java_utils import add_jars_to_context_class_loader

    jvm = get_gateway().jvm
    add_jars_to_context_class_loader([settings.flink_kafka_connector_jar.resolve().as_uri()])
    client = settings.java_client()
    admin = _class(jvm, f"{_SHADED}.clients.admin.Admin").create(_properties(jvm, client))
    try:
        listings = list(admin.listTransactions().all().get())
        planned = plan(
            [
                BrokerTransaction(found.transactionalId(), found.state().toString())
                for found in listings
            ],
            settings.flink_job_name,
            completed,
        )
        producers = {found.transactionalId(): found.producerId() for found in listings}
        for name, is_complete in planned.items():
            if is_complete:
                described = admin.describeTransactions([name]).description(name).get()
                _commit(jvm, client, name, producers[name], described.producerEpoch())
            else:
                _abort(jvm, client, name)
    finally:
        admin.close()
    return planned


def _class(jvm: Any, name: str) -> Any:
    found = jvm
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _properties(jvm: Any, values: Mapping[str, str]) -> Any:
    properties = jvm.java.util.Properties()
    for name, value in values.items():
        properties.setProperty(name, value)
    return properties


def _producer(jvm: Any, client: Mapping[str, str], name: str) -> Any:
    serializer = f"{_SHADED}.common.serialization.ByteArraySerializer"
    options = {**client, "key.serializer": serializer, "value.serializer": serializer}
    internal = "org.apache.flink.connector.kafka.sink.internal.FlinkKafkaInternalProducer"
    return _class(jvm, internal)(_properties(jvm, options), name)


def _commit(
    jvm: Any, client: Mapping[str, str], name: str, producer_id: int, producer_epoch: int
) -> None:
    producer = _producer(jvm, client, name)
    try:
        producer.resumeTransaction(producer_id, producer_epoch)
        producer.commitTransaction()
    finally:
        producer.close()


def _abort(jvm: Any, client: Mapping[str, str], name: str) -> None:
    producer = _producer(jvm, client, name)
    try:
        # Kafka aborts what is open under a name when a producer of that name begins.
        producer.initTransactions()
    finally:
        producer.close()


def main() -> None:
    """Settle with the settings of the environment, and print what was done, a line each."""
    completed = int(sys.argv[1]) if len(sys.argv) > 1 else None
    for name, committed in settle(load_settings(JobSettings), completed).items():
        sys.stdout.write(f"{_DONE[not committed]}{name}\n")


if __name__ == "__main__":
    main()
