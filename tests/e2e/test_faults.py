"""kill -9 of each process that may lose something, one after another, under load.

Nobody helps: every id sent comes out, no document is there twice, nobody is alerted twice.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import psutil
import pytest
from confluent_kafka import Producer

from tests.support.people import THIEF, a_customer, a_payment
from tests.support.stack import Stack, wait_for

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]

RATE = 100
PAUSE_S = 0.05


class Load:
    """Sends transactions at a steady rate until it is told to stop; remembers what was acknowledged."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "delivery.timeout.ms": 300_000,
            }
        )
        self._stop = threading.Event()
        self._run = uuid.uuid4().hex
        self.sent: list[str] = []
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(300) == 0

    def _work(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_S):
            for _ in range(int(RATE * PAUSE_S)):
                number += 1
                event_id = f"{self._run}-{number}"
                # Customers pay once; a thief with a few cards pays again and again, so that there
                # are alerts to repeat.
                now = datetime.now(UTC)
                if number % 50:
                    record = a_payment(a_customer(), now, 20 + number % 30)
                else:
                    card = a_customer() | {"entity_id": f"{self._run}-{number % 3}"}
                    record = a_payment(card, now, 900, product_category="shopping_net", **THIEF)
                record["event_id"] = event_id
                self._producer.produce(
                    "transactions",
                    orjson.dumps(record),
                    record["entity_id"],
                    on_delivery=lambda error, _, event_id=event_id: (
                        self.failed if error else self.sent
                    ).append(event_id),
                )
            self._producer.poll(0)


def job_id(stack: Stack) -> str | None:
    from flink_job.cluster import Cluster, ClusterUnreachableError

    try:
        job = Cluster(f"http://127.0.0.1:{stack.env['FLINK_PORT']}").active_job("fraudstream")
    except ClusterUnreachableError:
        return None
    return job.id if job is not None and job.running else None


VICTIMS: dict[str, Callable[[Stack], psutil.Process]] = {
    "taskmanager": lambda stack: stack.process("taskmanager"),
    "reading worker": lambda stack: stack.python_worker(decides=False),
    "deciding worker": lambda stack: stack.python_worker(decides=True),
    "jobmanager": lambda stack: stack.process("jobmanager"),
    "broker": lambda stack: stack.process("kafka"),
    "indexer": lambda stack: stack.process("indexer"),
    "notifier": lambda stack: stack.process("notifier"),
}


def test_nothing_is_lost_or_doubled_whatever_is_killed(stack: Stack) -> None:
    """Each victim in turn, each time until the stack has healed by itself."""
    since = stack.end_of("processed_transactions")
    with Load(stack.kafka) as load:
        for name, victim in VICTIMS.items():
            reached = len(load.sent)
            wait_for("some load", lambda reached=reached: len(load.sent) > reached + 2 * RATE)
            process = victim(stack)
            stack.kill(process)
            wait_for(f"the end of the {name}", lambda process=process: not process.is_running())
            wait_for("the job", lambda: job_id(stack), within_s=180)
            probe = load.sent[-1:]
            wait_for(
                f"decisions after the {name} was killed",
                lambda since=since, probe=probe: _came_out(stack, since, probe),
                within_s=180,
            )
    assert load.failed == []
    outputs = stack.decided(since, load.sent, within_s=180)
    sources = {
        (record["fd"]["source"]["partition"], record["fd"]["source"]["offset"])
        for records in outputs.values()
        for record in records
    }
    assert len(sources) == len(load.sent), "the producer is idempotent: one offset per event"
    documents = wait_for(
        "the index",
        lambda: len(d := stack.indexed(load.sent)) >= len(load.sent) and d,
        within_s=180,
    )
    assert len(documents) == len(load.sent)
    # A record that is decided again after a crash may find its IP address's other transactions in
    # another order, and come out otherwise: who was blocked once is alerted, and once.
    blocked = {
        event_id
        for event_id, records in outputs.items()
        if any(one["fd"]["outcome"] == "block" and not one["fd"]["duplicate"] for one in records)
    }

    assert blocked, "without alerts nobody could be alerted twice"

    wait_for("the alerts", lambda: len(set(stack.alerted(blocked))) == len(blocked), within_s=180)
    assert stack.alerted(load.sent) == sorted(blocked)


def _came_out(stack: Stack, since: object, event_ids: list[str]) -> bool:
    try:
        stack.decided(since, event_ids, within_s=5)  # type: ignore[arg-type]
    except Exception:
        return False
    return True
