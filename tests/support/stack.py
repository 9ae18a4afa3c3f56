"""The running stack from the outside: its topics, index, mailbox, REST and processes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import orjson
import psutil
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from devstack.state import read
from fraud.security.api_keys import first_key

DEADLINE_S = 120.0


def wait_for(what: str, done: Callable[[], Any], *, within_s: float = DEADLINE_S) -> Any:
    """Ask until the answer is true; give it.

    Raises:
        TimeoutError: It never was.
    """
    deadline = time.monotonic() + within_s
    while not (answer := done()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.25)
    return answer


def get_json(url: str, body: Any = None, *, key: str = "") -> Any:
    """Ask an HTTP server of the stack."""
    data = None if body is None else orjson.dumps(body)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, data, headers)  # noqa: S310 - our own server
    with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
        return json.load(answer)


class Dead(NamedTuple):
    """One dead letter."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


class Position(NamedTuple):
    """Where an output topic ended at some time."""

    partitions: list[TopicPartition]


class Stack:
    """The stack that `stack` started.

    Args:
        state: Its state folder.
        env: Its environment.
    """

    def __init__(self, state: Path, env: Mapping[str, str]) -> None:
        self.state = state
        self.env = env
        self.kafka = f"127.0.0.1:{env['KAFKA_PORT']}"
        self.opensearch = f"http://127.0.0.1:{env['OPENSEARCH_PORT']}"
        self.api = f"http://127.0.0.1:{env['API_PORT']}"
        self.mail_api = f"http://127.0.0.1:{env['MAIL_UI_PORT']}"

    # Kafka

    def send(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Send keys and values to `transactions`; all are acknowledged on return."""
        producer = Producer(
            {
                "bootstrap.servers": self.kafka,
                "enable.idempotence": True,
                "message.max.bytes": 1_048_576,
            }
        )
        for key, value in records:
            while True:
                try:
                    producer.produce("transactions", value, key)
                    break
                except BufferError:
                    producer.poll(0.5)
            producer.poll(0)
        assert producer.flush(DEADLINE_S) == 0

    def end_of(self, topic: str) -> Position:
        """Return where a topic ends now, to read from later."""
        consumer = self._consumer()
        try:
            partitions = []
            for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
                partition = TopicPartition(topic, number)
                partition.offset = consumer.get_watermark_offsets(partition, timeout=30)[1]
                partitions.append(partition)
            return Position(partitions)
        finally:
            consumer.close()

    def decided(
        self, since: Position, event_ids: Sequence[str], *, within_s: float = DEADLINE_S
    ) -> dict[str, list[dict[str, Any]]]:
        """Read `processed_transactions` until each event has come out, and on to its end.

        Returns:
            Per event_id all its output records so far, also repeated ones, in their order.
        """
        wanted: dict[str, list[dict[str, Any]]] = {event_id: [] for event_id in event_ids}
        missing = set(wanted)

        def take(message: Any) -> None:
            record = orjson.loads(message.value())
            found = wanted.get(record["event_id"])
            if found is not None:
                found.append(record)
                missing.discard(record["event_id"])

        self._read(since, take, lambda: not missing, within_s, lambda: f"{len(missing)} decisions")
        return wanted

    def dead(self, since: Position, count: int, *, within_s: float = DEADLINE_S) -> list[Dead]:
        """Read `transactions.dlq` until `count` different input offsets are there; all of them."""
        letters: list[Dead] = []
        sources: set[tuple[str, str]] = set()

        def take(message: Any) -> None:
            headers = {name: value.decode() for name, value in message.headers()}
            letters.append(Dead(message.key(), message.value(), headers))
            sources.add((headers["source_partition"], headers["source_offset"]))

        self._read(
            since,
            take,
            lambda: len(sources) >= count,
            within_s,
            lambda: f"{count - len(sources)} dead letters",
        )
        return letters

    def _read(
        self,
        since: Position,
        take: Callable[[Any], None],
        done: Callable[[], bool],
        within_s: float,
        missing: Callable[[], str],
    ) -> None:
        consumer = self._consumer()
        try:
            consumer.assign(
                [TopicPartition(p.topic, p.partition, p.offset) for p in since.partitions]
            )
            deadline = time.monotonic() + within_s
            # Where each partition was read up to, and where it ended when all that is wanted was there.
            reached = dict.fromkeys((p.partition for p in since.partitions), 0)
            ends: dict[int, int] = {}
            while not ends or any(reached[number] < end for number, end in ends.items()):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {within_s:.0f} s for {missing()}")
                for message in consumer.consume(1000, timeout=0.5):
                    error = message.error()
                    if error is None:
                        reached[message.partition()] = message.offset() + 1
                        take(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        reached[message.partition()] = message.offset()
                if not ends and done():
                    ends = {
                        p.partition: consumer.get_watermark_offsets(p, timeout=30)[1]
                        for p in since.partitions
                    }
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": f"test-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": 4_194_304,
            }
        )

    # OpenSearch

    def indexed(self, event_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the documents of events, through the alias."""
        documents = []
        for at in range(0, len(event_ids), 500):
            query = {
                "size": 5000,
                "query": {"terms": {"event_id": list(event_ids[at : at + 500])}},
            }
            answer = get_json(f"{self.opensearch}/processed_transactions/_search", query)
            documents += [hit["_source"] | {"_id": hit["_id"]} for hit in answer["hits"]["hits"]]
        return documents

    # Mail

    def mails(self) -> list[dict[str, Any]]:
        """Return all messages that the mail catcher holds, as its API lists them."""
        # By id: a message that comes meanwhile moves the pages, newest first.
        found: dict[str, dict[str, Any]] = {}
        start = 0
        while True:
            page = get_json(f"{self.mail_api}/api/v1/messages?start={start}&limit=1000")
            found |= {message["ID"]: message for message in page["messages"]}
            start += len(page["messages"])
            if start >= page["total"] or not page["messages"]:
                return list(found.values())

    def mail(self, message_id: str) -> dict[str, Any]:
        """Return one message."""
        return dict(get_json(f"{self.mail_api}/api/v1/message/{message_id}"))

    def alerted(self, event_ids: Iterable[str]) -> list[str]:
        """Return the event of each alert about one of these, as often as there is one."""
        wanted = set(event_ids)
        events = [mail["Subject"].rsplit(" ", 1)[-1] for mail in self.mails()]
        return sorted(event for event in events if event in wanted)

    # REST

    def score(self, record: Any) -> Any:
        """Score over REST."""
        return get_json(f"{self.api}/v1/score", record, key=first_key(self.state) or "")

    # Processes

    def process(self, name: str) -> psutil.Process:
        """Return the process of a service."""
        record = read(self.state)
        assert record is not None
        identity = record.services[name].identity
        assert identity is not None, f"{name} does not run"
        return psutil.Process(identity.pid)

    def python_worker(self, *, decides: bool) -> psutil.Process:
        """Return the process of one of the job's two Python functions; one alone has a model.

        While the job restarts there may be more of them, or one whose model is not loaded yet.
        """

        def found() -> psutil.Process | None:
            try:
                workers = [
                    process
                    for process in self.process("taskmanager").children(recursive=True)
                    if any("beam_boot" in part for part in process.cmdline())
                ]
                has_model = [
                    any("xgboost" in file.path for file in process.memory_maps())
                    for process in workers
                ]
            except psutil.Error:
                return None
            return workers[has_model.index(decides)] if sorted(has_model) == [False, True] else None

        return wait_for("one Python worker of each kind", found)
