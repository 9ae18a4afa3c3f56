"""One suite for the source in memory and the one on Kafka; then what only a real broker can do.

- Each record is handed out, in the order of its partition.
- What is done is not handed out again after a restart; what is not done is.
- A batch that was put back comes again, before all others, and only after `resume`.
- On Kafka: members share the partitions, a member that waits keeps its own, a partition that is lost
  while a batch waits is read by the other member, and a broker that is killed is waited for.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import REGISTRY
from rich.console import Console

from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.kafka import kafka as kafka_service
from fraud.contracts.errors import Backpressure
from fraud.contracts.topics import Topic
from fraud.kafka.group_consumer import BatchSource, KafkaSource, Message, consume
from fraud.kafka.testing import MemoryTopic
from fraud.runtime.background import Background
from fraud.runtime.settings import KafkaSettings

NAMES = (f"suite-{number}" for number in itertools.count())


class World(Protocol):
    """A topic of two partitions."""

    def produce(self, value: bytes | None, partition: int = 0) -> None:
        """Append a record, readable when this returns."""

    def source(self, *, max_records: int = 1000) -> AbstractContextManager[BatchSource]:
        """Join the group `suite`."""

    def committed(self) -> dict[int, int]:
        """Next offsets of the group by partition."""


class MemoryWorld:
    """In memory."""

    def __init__(self) -> None:
        self._topic = MemoryTopic(partitions=2)

    def produce(self, value: bytes | None, partition: int = 0) -> None:
        self._topic.produce(value, partition=partition)

    def source(self, *, max_records: int = 1000) -> AbstractContextManager[BatchSource]:
        return nullcontext(self._topic.source("suite", max_records=max_records))

    def committed(self) -> dict[int, int]:
        return self._topic.committed("suite")


class KafkaWorld:
    """On a real broker, a topic and a group of its own."""

    def __init__(self, servers: str) -> None:
        self.topic = next(NAMES)
        self.group = f"group-of-{self.topic}"
        self.settings = KafkaSettings(
            kafka_bootstrap_servers=servers, topic_processed_transactions=self.topic
        )
        self._admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        self._admin.create_topics([NewTopic(self.topic, 2, 1)])[self.topic].result(30)
        self.producer = Producer(
            {"bootstrap.servers": servers, "enable.idempotence": True, "log_level": 0}
        )

    def produce(self, value: bytes | None, partition: int = 0) -> None:
        self.producer.produce(self.topic, value, partition=partition)
        assert self.producer.flush(30) == 0

    def source(self, *, max_records: int = 1000) -> KafkaSource:
        return KafkaSource(
            self.settings, Topic.PROCESSED, self.group, service="suite", max_records=max_records
        )

    def committed(self) -> dict[int, int]:
        partitions = [TopicPartition(self.topic, partition) for partition in range(2)]
        answer = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self.group, partitions)]
        )
        found = answer[self.group].result(30).topic_partitions
        # A member commits 0 where nothing was done before.
        return {place.partition: place.offset for place in found if place.offset > 0}


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.service)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    return KafkaWorld(request.getfixturevalue("kafka"))


def until(done: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Call a function that makes progress until it says that it is done."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"


def read(source: BatchSource, count: int) -> list[Message]:
    """Poll until so many records came."""
    messages: list[Message] = []

    def enough() -> bool:
        messages.extend(source.poll(0.2))
        return len(messages) >= count

    until(enough, f"reading {count} records")
    return messages


def test_each_partition_keeps_its_order(world: World) -> None:
    """Records come once, with their coordinates; a null value is None."""
    for number in range(5):
        world.produce(b"%d" % number, number % 2)
    world.produce(None, 1)
    with world.source() as source:
        messages = read(source, 6)
        assert source.poll(0.1) == []
    by_partition = {
        partition: [(m.offset, m.value) for m in messages if m.partition == partition]
        for partition in range(2)
    }
    assert by_partition == {
        0: [(0, b"0"), (1, b"2"), (2, b"4")],
        1: [(0, b"1"), (1, b"3"), (2, None)],
    }


def test_a_batch_is_no_larger_than_asked(world: World) -> None:
    """Batches bound the memory and the time of a write."""
    for number in range(5):
        world.produce(b"%d" % number)
    with world.source(max_records=2) as source:
        sizes: list[int] = []

        def all_came() -> bool:
            if batch := source.poll(0.2):
                sizes.append(len(batch))
            return sum(sizes) == 5

        until(all_came, "reading")
    assert max(sizes) == 2


def test_what_is_done_does_not_come_again(world: World) -> None:
    """After a restart reading goes on behind it."""
    for partition in (0, 1):
        world.produce(b"a", partition)
    with world.source() as source:
        source.done(read(source, 2))
    assert world.committed() == {0: 1, 1: 1}
    world.produce(b"b")
    with world.source() as source:
        assert [message.value for message in read(source, 1)] == [b"b"]


def test_what_is_not_done_comes_again(world: World) -> None:
    """Handing out commits nothing."""
    world.produce(b"a")
    with world.source() as source:
        read(source, 1)
    assert world.committed() == {}
    with world.source() as source:
        assert [message.value for message in read(source, 1)] == [b"a"]


def test_a_batch_put_back_comes_first_again(world: World) -> None:
    """Nothing is handed out until `resume`; then in the old order, nothing twice."""
    for number in range(3):
        world.produce(b"%d" % number)
    with world.source(max_records=2) as source:
        batch = read(source, 2)
        source.put_back(batch)
        for _ in range(5):
            assert source.poll(0.1) == []
        source.resume()
        again = read(source, 3)
    assert [message.value for message in again] == [b"0", b"1", b"2"]


def test_a_batch_put_back_is_not_done(world: World) -> None:
    """Closing while it waits leaves it to the next start."""
    world.produce(b"a")
    with world.source() as source:
        source.put_back(read(source, 1))
    assert world.committed() == {}


# What only a real broker can do.


@pytest.mark.service
def test_members_share_the_partitions(kafka: str) -> None:
    """A second member takes over one; together they miss nothing."""
    world = KafkaWorld(kafka)
    with world.source() as one:
        # Alone at first: a member that joins and is not polled would hold the other up.
        until(lambda: one.poll(0.1) == [] and one.waits_for() is None, "joining")
        with world.source() as other:
            until(
                lambda: (one.poll(0.1), other.poll(0.1), other.waits_for() is None)[2],
                "sharing",
            )
            for partition in (0, 1):
                for number in range(10):
                    world.produce(b"%d" % number, partition)
            seen: list[set[int]] = [set(), set()]
            count = 0

            def all_came() -> bool:
                nonlocal count
                for partitions, source in zip(seen, (one, other), strict=True):
                    batch = source.poll(0.1)
                    partitions.update(message.partition for message in batch)
                    source.done(batch)
                    count += len(batch)
                return count >= 20

            until(all_came, "reading")
    assert seen in ([{0}, {1}], [{1}, {0}])
    assert world.committed() == {0: 10, 1: 10}


@pytest.mark.service
def test_a_batch_put_back_moves_with_its_partition(kafka: str) -> None:
    """A partition lost while its batch waits is read by the other member, and not here."""
    world = KafkaWorld(kafka)
    for partition in (0, 1):
        world.produce(b"a", partition)
    with world.source() as one:
        one.put_back(read(one, 2))
        with world.source() as other:
            taken: list[Message] = []

            def taken_over() -> bool:
                assert one.poll(0.1) == []
                taken.extend(other.poll(0.1))
                return bool(taken)

            until(taken_over, "the other member's part")
            one.resume()
            kept = read(one, 1)
            assert {taken[0].partition, kept[0].partition} == {0, 1}
            one.done(kept)
            other.done(taken)
    assert world.committed() == {0: 1, 1: 1}


@pytest.mark.service
def test_offsets_of_a_lost_partition_are_passed_over(kafka: str) -> None:
    """Done after a rebalance is not an error: the new owner reads the record again."""
    world = KafkaWorld(kafka)
    for partition in (0, 1):
        world.produce(b"a", partition)
    with world.source() as one:
        batch = read(one, 2)
        with world.source() as other:
            taken: list[Message] = []

            def taken_over() -> bool:
                one.poll(0.1)
                taken.extend(other.poll(0.1))
                return bool(taken)

            until(taken_over, "the other member's part")
            one.done(batch)
    assert set(world.committed()) == {1 - taken[0].partition}


@pytest.mark.service
def test_lag_is_what_is_left_to_read(kafka: str) -> None:
    """The metric counts records behind the last one done, and falls to none."""
    world = KafkaWorld(kafka)
    for number in range(7):
        world.produce(b"%d" % number)

    def lag() -> float | None:
        return REGISTRY.get_sample_value("fraudstream_consumer_lag", {"service": "suite"})

    with world.source(max_records=2) as source:
        batch = read(source, 2)
        source.done(batch)
        source.put_back([])
        until(lambda: source.poll(0.1) == [] and lag() == 5, "a lag of 5")
        source.resume()
        left = 5

        def all_done() -> bool:
            nonlocal left
            batch = source.poll(0.1)
            source.done(batch)
            left -= len(batch)
            return left == 0 and lag() == 0

        until(all_done, "no lag")


@pytest.mark.service
def test_batches_of_large_records_are_bounded_in_bytes(kafka: str) -> None:
    """A thousand large records must not be in memory at once."""
    world = KafkaWorld(kafka)
    for _ in range(60):
        world.produce(bytes(900_000))
    sizes: list[int] = []
    with world.source() as source:

        def all_came() -> bool:
            if batch := source.poll(0.2):
                sizes.append(len(batch))
            return sum(sizes) == 60

        until(all_came, "reading")
    assert max(sizes) <= 19 + 20


@pytest.mark.service
def test_a_topic_that_is_made_later_is_found(kafka: str) -> None:
    """A service may start before its topic, and says what it waits for."""
    name = next(NAMES)
    settings = KafkaSettings(kafka_bootstrap_servers=kafka, topic_processed_transactions=name)
    with KafkaSource(settings, Topic.PROCESSED, f"group-of-{name}", service="suite") as source:
        until(
            lambda: source.poll(0.2) == [] and "UNKNOWN_TOPIC" in (source.waits_for() or ""),
            "missing the topic",
        )
        admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        producer = Producer({"bootstrap.servers": kafka, "log_level": 0})
        producer.produce(name, b"a")
        assert producer.flush(30) == 0
        assert [message.value for message in read(source, 1)] == [b"a"]
        assert source.waits_for() is None


def vanished(why: str) -> float:
    found = REGISTRY.get_sample_value(
        "fraudstream_input_vanished_total", {"service": "suite", "reason": why}
    )
    return found or 0.0


def read_all(source: BatchSource, *wanted: bytes) -> list[bytes | None]:
    """Read and finish batches until all wanted records came."""
    values: list[bytes | None] = []

    def all_came() -> bool:
        if batch := source.poll(0.2):
            values.extend(message.value for message in batch)
            source.done(batch)
        return set(wanted) <= set(values)

    until(all_came, f"reading {wanted!r}")
    return values


@pytest.mark.service
def test_records_that_expired_are_told_and_the_rest_is_read(kafka: str) -> None:
    """Here they expire while nobody reads."""
    world = KafkaWorld(kafka)
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})

    def expire(offset: int) -> None:
        place = TopicPartition(world.topic, 0, offset)
        admin.delete_records([place])[place].result(30)

    for number in range(10):
        world.produce(b"%d" % number)
    with world.source(max_records=5) as source:
        assert read_all(source, b"4") == [b"0", b"1", b"2", b"3", b"4"]
    expire(8)
    before = vanished("expired")
    with world.source() as source:
        assert read_all(source, b"9") == [b"8", b"9"]
        assert vanished("expired") - before == 3


@pytest.mark.service
def test_a_topic_made_anew_is_told_and_read_from_its_start(kafka: str) -> None:
    """Its offsets mean other records, also those beyond which it has grown."""
    world = KafkaWorld(kafka)
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    for number in range(3):
        world.produce(b"old-%d" % number)
    before = vanished("replaced")
    with world.source() as source:
        read_all(source, b"old-2")
        admin.delete_topics([world.topic])[world.topic].result(30)

        def made_anew() -> bool:
            made = admin.create_topics([NewTopic(world.topic, 2, 1)])[world.topic]
            try:
                made.result(30)
            except KafkaException:  # the broker still deletes the old one
                return False
            return True

        until(made_anew, "making the topic anew")
        for number in range(6):
            world.produce(b"new-%d" % number)
        # The consumer may go on behind them before the new id of the topic is seen.
        read_all(source, *(b"new-%d" % number for number in range(6)))
    assert vanished("replaced") - before == 1


@pytest.mark.service
@pytest.mark.slow
def test_a_killed_broker_is_waited_for(tmp_path: Path) -> None:
    """Kill -9 of the broker in mid-flow: with nobody's help all records come, each at least once."""
    port, controller_port = free_ports(2, "127.0.0.1")
    service = kafka_service(
        artifacts.ensure("kafka", Console(stderr=True)),
        tmp_path / "kafka",
        host="127.0.0.1",
        port=port,
        controller_port=controller_port,
        advertised_host="127.0.0.1",
        env=os.environ,
    )
    seen: set[bytes | None] = set()
    stop, turns = threading.Event(), itertools.count(1)
    world: KafkaWorld

    def handle(batch: Sequence[bytes | None]) -> None:
        seen.update(batch)
        if next(turns) % 3 == 0:
            raise Backpressure(0.2)

    def work() -> None:
        with world.source(max_records=10) as source:
            consume(source, lambda message: message.value, handle, stop, service="killed")

    with ExitStack() as stack:
        with running(service, tmp_path / "logs") as broker:
            world = KafkaWorld(f"127.0.0.1:{port}")
            stack.enter_context(Background("reader", work, stop))
            for number in range(100):
                world.producer.produce(world.topic, b"%d" % number, partition=number % 2)
            world.producer.poll(0)
            until(lambda: stop.wait(0.05) or len(seen) > 20, "reading before the kill")
            broker.kill()
        for number in range(100, 200):
            world.producer.produce(world.topic, b"%d" % number, partition=number % 2)
        with running(service, tmp_path / "logs"):
            assert world.producer.flush(60) == 0
            until(lambda: stop.wait(0.05) or len(seen) == 200, "reading after the restart")
            until(
                lambda: stop.wait(0.2) or sum(world.committed().values()) == 200,
                "committing after the restart",
            )
            assert not stop.is_set()
            stack.close()
    assert seen == {b"%d" % number for number in range(200)}
