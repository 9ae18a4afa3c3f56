"""Reads both output topics while the run goes on, and counts what came of each input offset."""

from __future__ import annotations

import threading
import uuid
from collections import Counter, defaultdict
from typing import Any, Final

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

PROCESSED: Final = "processed_transactions"
DEAD: Final = "transactions.dlq"
INPUT: Final = "transactions"
_CALL_S: Final = 30.0

Place = tuple[int, int]
"""Partition and offset of an input record."""


def consumer(bootstrap_servers: str) -> Consumer:
    """Return a reader of committed records that belongs to no group."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"faults-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 4_194_304,
            "log_level": 0,
        }
    )


def ends(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """Return where each partition of a topic ends now.

    Raises:
        KafkaException: The broker does not answer.
    """
    reader = consumer(bootstrap_servers)
    try:
        partitions = reader.list_topics(topic, timeout=_CALL_S).topics[topic].partitions
        return {
            number: reader.get_watermark_offsets(TopicPartition(topic, number), timeout=_CALL_S)[1]
            for number in partitions
        }
    finally:
        reader.close()


class Outputs:
    """Counts the outputs of each input offset, by topic, from now on.

    Args:
        bootstrap_servers: Of Kafka.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self.begins = ends(bootstrap_servers, INPUT)
        """First input offset that counts, by partition."""
        self._consumer = consumer(bootstrap_servers)
        self._consumer.assign(
            [
                TopicPartition(topic, partition, offset)
                for topic in (PROCESSED, DEAD)
                for partition, offset in ends(bootstrap_servers, topic).items()
            ]
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="outputs")
        self.counts: dict[str, Counter[Place]] = {PROCESSED: Counter(), DEAD: Counter()}
        self.during = "before the first fault"
        """What repetitions are blamed on: the faults of the present step."""
        self.repeated: Counter[str] = Counter()
        self.blocked: set[str] = set()
        """Events that were decided to be blocked, at least once: each is one alert."""
        self._reached: dict[int, int] = defaultdict(int)

    def __enter__(self) -> Outputs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def reached(self) -> dict[int, int]:
        """Return the offset after the last input record that came out, by partition."""
        return dict(self._reached)

    def passed(self, marks: dict[int, int]) -> bool:
        """Check whether any record from some offsets on has come out."""
        reached = self.reached()
        return any(end > marks.get(partition, 0) for partition, end in reached.items())

    def accounted(self) -> int:
        """Return how many input offsets came out at least once."""
        processed, dead = (self.counts[topic] for topic in (PROCESSED, DEAD))
        return len(processed) + len(dead) - len(processed.keys() & dead.keys())

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                messages = self._consumer.consume(1000, timeout=0.2)
            except KafkaException:
                continue
            for message in messages:
                if message.error() is None:
                    self._take(message)

    def _take(self, message: Any) -> None:
        topic = message.topic()
        if topic == PROCESSED:
            record = orjson.loads(message.value())
            decision = record["fd"]
            source = decision["source"]
            place = source["partition"], source["offset"]
            if decision["outcome"] == "block" and not decision["duplicate"]:
                self.blocked.add(record["event_id"])
        else:
            headers = dict(message.headers() or ())
            if headers.get("source_topic") != INPUT.encode():
                return
            place = int(headers["source_partition"]), int(headers["source_offset"])
        if place[1] < self.begins.get(place[0], 0):
            return
        counts = self.counts[topic]
        counts[place] += 1
        if counts[place] > 1:
            self.repeated[self.during] += 1
        self._reached[place[0]] = max(self._reached[place[0]], place[1] + 1)
