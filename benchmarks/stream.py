"""The stream, Kafka to Kafka: latency at a rate, a rate held, a backlog drained.

The load is open-loop: records are due on a fixed schedule, whether or not the system keeps up, and
each carries the time it was due (`due_ms`). A latency is the broker's timestamp of the decision
minus that time, so neither a late sender nor a batching reader can hide a delay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import orjson
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from rich.console import Console

from benchmarks.report import percentiles
from benchmarks.workload import take
from fraud.contracts.topics import Topic

_WARM_UP_S: Final = 5
_PATIENCE_S: Final = 60


_DUE: Final = b',"due_ms":'


@dataclass(frozen=True, slots=True)
class Timing:
    """When one record was due and when the broker had its output, UTC epoch milliseconds."""

    due_ms: int
    decided_ms: int


@dataclass(frozen=True, slots=True)
class Arrival(Timing):
    """One decision as the broker has it, times in UTC epoch milliseconds."""

    sent_ms: int
    event_id: str
    outcome: str
    duplicate: bool
    policy_version: str


A = TypeVar("A", bound=Timing)


def read_decision(message: Message) -> Arrival | None:
    """Read a decision of the job, or None for a record that carries no due time."""
    record = orjson.loads(message.value() or b"")
    if "due_ms" not in record:
        return None
    fd = record["fd"]
    return Arrival(
        due_ms=record["due_ms"],
        decided_ms=message.timestamp()[1],
        sent_ms=fd["source"]["timestamp_ms"],
        event_id=record["event_id"],
        outcome=fd["outcome"],
        duplicate=fd["duplicate"],
        policy_version=fd["policy_version"],
    )


def read_timing(message: Message) -> Timing | None:
    """Read the times of any output that keeps its input's fields, without parsing the rest."""
    value = message.value() or b""
    at = value.find(_DUE)
    if at == -1:
        return None
    due = value[at + len(_DUE) : at + len(_DUE) + 13]  # epoch milliseconds have 13 digits
    return Timing(int(due), message.timestamp()[1])


class LoadGenerator(Generic[A]):
    """Sends records to an input topic and reads what comes out of an output topic.

    Args:
        bootstrap_servers: Of the broker.
        source: Physical name of the input topic.
        output: Physical name of the output topic.
        read: Reads an output record; None for one that is not of the load.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        source: str,
        output: str,
        read: Callable[[Message], A | None],
    ) -> None:
        self._servers = bootstrap_servers
        self._source = source
        self._output = output
        self._read = read

    def _ends(self, consumer: Consumer) -> list[TopicPartition]:
        topic = self._output
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = []
        for number in partitions:
            partition = TopicPartition(topic, number)
            partition.offset = consumer.get_watermark_offsets(partition, timeout=10)[1]
            ends.append(partition)
        return ends

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": "benchmark",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )

    def _producer(self, linger_ms: int) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._servers,
                "linger.ms": linger_ms,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 2_097_151,
            }
        )

    def at_rate(self, records: Sequence[tuple[bytes, bytes]], rate: float) -> list[A]:
        """Send records on a fixed schedule; return their outputs."""
        consumer, producer = self._consumer(), self._producer(linger_ms=1)
        consumer.assign(self._ends(consumer))
        start = time.time() + 0.5
        for number, (key, value) in enumerate(records):
            due = start + number / rate
            ahead = due - time.time()
            if ahead > 0.001:
                time.sleep(ahead)
            producer.produce(self._source, value[:-1] + _DUE + b"%d}" % (due * 1000), key)
            producer.poll(0)
        producer.flush()
        return self._arrivals(consumer, len(records))

    def backlog(
        self,
        records: Sequence[tuple[bytes, bytes]],
        sending: AbstractContextManager[object] | None = None,
    ) -> list[A]:
        """Send records as fast as Kafka takes them; return their outputs.

        Args:
            records: Keys and values.
            sending: Entered before the first record is sent and left once Kafka has all of them.
        """
        consumer, producer = self._consumer(), self._producer(linger_ms=20)
        consumer.assign(self._ends(consumer))
        with sending or nullcontext():
            for key, value in records:
                now = b"%d}" % (time.time() * 1000)
                producer.produce(self._source, value[:-1] + _DUE + now, key)
                producer.poll(0)
            producer.flush()
        return self._arrivals(consumer, len(records))

    def _arrivals(self, consumer: Consumer, count: int) -> list[A]:
        arrivals: list[A] = []
        last = time.monotonic()
        while len(arrivals) < count:
            messages = consumer.consume(5000, timeout=0.5)
            for message in messages:
                if message.error():
                    raise RuntimeError(str(message.error()))
                if (arrival := self._read(message)) is not None:
                    arrivals.append(arrival)
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > _PATIENCE_S:
                raise RuntimeError(f"{count - len(arrivals)} of {count} records did not come out")
        consumer.close()
        return arrivals


class Stream(LoadGenerator[Arrival]):
    """A running job, from the outside: its input and output topic.

    Args:
        bootstrap_servers: Of the broker.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(
            bootstrap_servers, Topic.TRANSACTIONS.value, Topic.PROCESSED.value, read_decision
        )


def rate_figures(arrivals: Sequence[Timing], rate: float) -> dict[str, Any]:
    """Describe a run at a rate, without its first seconds; see the module for what a latency is."""
    begun = min(arrival.due_ms for arrival in arrivals) + _WARM_UP_S * 1000
    counted = [arrival for arrival in arrivals if arrival.due_ms >= begun]
    ended = max(arrival.due_ms for arrival in counted)
    quarter_ms = (ended - begun) / 4
    first = [a.decided_ms - a.due_ms for a in counted if a.due_ms < begun + quarter_ms]
    last = [a.decided_ms - a.due_ms for a in counted if a.due_ms >= ended - quarter_ms]
    out_s = (max(a.decided_ms for a in counted) - min(a.decided_ms for a in counted)) / 1000
    return {
        "scenario": f"{rate:g}/s for {(ended - begun) / 1000 + _WARM_UP_S:.0f} s",
        "records": len(arrivals),
        "out_per_s": len(counted) / out_s,
        **percentiles([a.decided_ms - a.due_ms for a in counted]),
        "first_quarter_p50_ms": percentiles(first)["p50_ms"],
        "last_quarter_p50_ms": percentiles(last)["p50_ms"],
    }


def backlog_figures(arrivals: Sequence[Timing]) -> dict[str, Any]:
    """Describe a backlog: its rate between the first and the last decision."""
    taken_s = (max(a.decided_ms for a in arrivals) - min(a.decided_ms for a in arrivals)) / 1000
    return {
        "scenario": "backlog",
        "records": len(arrivals),
        "out_per_s": len(arrivals) / taken_s,
        **dict.fromkeys(percentiles([0]), "-"),
        "first_quarter_p50_ms": "-",
        "last_quarter_p50_ms": "-",
    }


def measure(
    bootstrap_servers: str,
    source: Iterator[tuple[bytes, bytes]],
    *,
    rates: Sequence[tuple[float, float]],
    backlog: int,
    console: Console,
) -> list[dict[str, Any]]:
    """Run all scenarios against a job that runs already.

    Args:
        bootstrap_servers: Of its broker.
        source: Records that it has not seen.
        rates: Rate per second and duration in seconds of each scenario.
        backlog: Records of the backlog.
        console: Where progress goes.
    """
    stream = Stream(bootstrap_servers)
    with ExitStack() as progress:
        status = progress.enter_context(console.status("warming up"))
        stream.at_rate(take(source, 4000), 400)
        figures = []
        for rate, seconds in rates:
            status.update(f"{rate:g} transactions a second for {seconds:g} s")
            figures.append(
                rate_figures(stream.at_rate(take(source, int(rate * seconds)), rate), rate)
            )
        status.update(f"a backlog of {backlog:,} transactions")
        figures.append(backlog_figures(stream.backlog(take(source, backlog))))
    return figures
