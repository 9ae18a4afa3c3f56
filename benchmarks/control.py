"""How fast a worker starts on a control topic whose list was replaced every day."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its __all__ names them as text
from rich.console import Console

from fraud.contracts.control import LIST, ControlDocument, list_version
from fraud.contracts.list_log import KEPT_MS
from fraud.contracts.lists import ListChange, ListEntry, ListType, ListUse
from fraud.contracts.times import DAY_MS
from fraud.contracts.topics import Topic
from fraud.decision.lists import Lookup, lookups
from fraud.kafka.range_reader import TopicSpan
from fraud.policy.follower import Listener, follow_policy
from fraud.policy.state import PolicyState
from fraud.runtime.clock import system_clock, to_datetime
from fraud.runtime.settings import KafkaSettings

_ROUNDS: Final = 3


class _Lists(Listener):
    """The lists as a worker has them in force."""

    def __init__(self) -> None:
        self.lookups: dict[str, Lookup] = {}

    def settle(self, policy_state: PolicyState) -> None:
        self.lookups = lookups(policy_state.lists(), self.lookups)


def _replacement(day: int, entries: int, now_ms: int, days: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the documents of one day's replacement of the whole list."""
    change = ListChange(
        type=ListType.ENTITY,
        use=ListUse.BLOCK,
        description="Customers that a vendor names.",
        replace=True,
        add=tuple(
            ListEntry(value=f"cust-{day * 7 + number:07}", source="vendor", reason="chargebacks")
            for number in range(entries)
        ),
    )
    for part in change.cut():
        document = ControlDocument(
            kind=LIST,
            name="vendor",
            version=list_version(f"d{day}", part.part),
            author="benchmark",
            time=to_datetime(now_ms - (days - day) * DAY_MS),
            content=part.model_dump(mode="json", exclude_defaults=True),
        )
        yield document.key, document.value


def _fill(settings: KafkaSettings, days: range, entries: int, now_ms: int) -> tuple[int, int]:
    """Write the replacements of days, and return the number of records and of bytes."""
    topic = settings.topic(Topic.CONTROL)
    made = AdminClient(settings.librdkafka()).create_topics([NewTopic(topic, 1, 1)])
    made[topic].result()
    producer = Producer(settings.librdkafka())
    records = size = 0
    for day in days:
        at_ms = now_ms - (days.stop - day) * DAY_MS
        for key, value in _replacement(day, entries, now_ms, days.stop):
            producer.produce(topic, value, key, timestamp=at_ms)
            records, size = records + 1, size + len(key) + len(value)
        producer.flush()
    return records, size


def _plain_read_s(settings: KafkaSettings) -> float:
    started = time.perf_counter()
    with TopicSpan(settings, Topic.CONTROL, service="benchmark") as span:
        for _ in span.values(lambda _done, _total: None):
            pass
    return time.perf_counter() - started


def _start_s(settings: KafkaSettings, entries: int) -> float:
    started, lists = time.perf_counter(), _Lists()
    stop = threading.Event()
    with follow_policy(settings, service="benchmark", stop=stop, listeners=[lists]) as live:
        state = live.wait_ready(600)
        taken = time.perf_counter() - started
        if len(state.lists()["vendor"]) != entries or set(lists.lookups) != {"vendor"}:
            raise RuntimeError("the list is not in force")
    return taken


def measure(
    bootstrap_servers: str, folder: Path, *, days: int, entries: int, console: Console
) -> list[dict[str, Any]]:
    """Measure a plain read of the topic, and the start of a worker, in turns.

    Args:
        bootstrap_servers: A running broker.
        folder: State folder of the measurement.
        days: Days on each of which the list was replaced.
        entries: Entries of the list.
        console: Output of progress.

    Returns:
        A row for the topic with all that was ever written, and one for it as it is kept.
    """
    rows, now_ms = [], system_clock()
    kept_days = KEPT_MS // DAY_MS + 1
    for what, kept in (("all on the topic", days), ("as it is kept", min(days, kept_days))):
        settings = KafkaSettings(
            kafka_bootstrap_servers=bootstrap_servers,
            topic_fraud_control=f"control_{kept}",
            state_dir=folder,
        )
        with console.status(f"{kept} replacements of {entries:,} entries: {what}"):
            records, size = _fill(settings, range(days - kept, days), entries, now_ms)
            reads, starts = [], []
            for _ in range(_ROUNDS):
                reads.append(_plain_read_s(settings))
                starts.append(_start_s(settings, entries))
        rows.append(
            {
                "scenario": what,
                "replacements": kept,
                "records": records,
                "mb": size / 1e6,
                "plain_read_s": median(reads),
                "start_s": median(starts),
                "start_per_read": median(starts) / median(reads),
            }
        )
    return rows
