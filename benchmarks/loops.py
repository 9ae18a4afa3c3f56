"""Bare loops from topic to topic, the baselines of the job: `python -m benchmarks.loops plain|echo`.

`plain` decides with the job's own functions in one process, without Flink. `echo` decides nothing
and shows the cost of Kafka alone. Both read batches, write, and commit once a second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from confluent_kafka import Consumer, Message, Producer

from fraud.contracts import dead_letter
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import Transaction, decode, with_decision
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import TransactionBatch
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories
from fraud.features.packing import Packed, pack
from fraud.policy.follower import follow_policy
from fraud.runtime.lifecycle import load_settings, stop_event
from fraud.runtime.settings import KafkaSettings, ModelSettings
from model.live import EngineInUse
from model.registry import Registry

READY: Final = "ready"
"""Line on standard output once the loop reads."""

_BATCH_RECORDS: Final = 1000
_COMMIT_S: Final = 1.0
_POLL_S: Final = 0.2
_FORTY_BYTES: Final = b',"echo":"' + b"x" * 30 + b'"}'
"""Takes the place of the closing brace and makes the record 40 bytes longer with it."""

Output = tuple[str, bytes | None, bytes | None, dict[str, str | bytes | None] | None]
"""Topic, key, value and headers of one record to be written."""

Work = Callable[[Sequence[Message]], Iterator[Output]]


class LoopSettings(KafkaSettings, ModelSettings):
    """Topics and model of the loops."""


class Plain:
    """Decides a batch as the job does: decode, pack, remember, decide.

    Args:
        settings: Names of the topics.
        engine: Follows the control topic as in the job.
    """

    def __init__(self, settings: LoopSettings, engine: EngineInUse) -> None:
        self._output = settings.topic(Topic.PROCESSED)
        self._dead_letters = settings.topic(Topic.DEAD_LETTERS)
        self._engine = engine
        self._histories = {key.name: Histories(key) for key in KEYS}

    def __call__(self, messages: Sequence[Message]) -> Iterator[Output]:
        """Decide one batch; invalid records become dead letters with their reason."""
        valid: list[Message] = []
        transactions: list[Transaction] = []
        for message in messages:
            try:
                transactions.append(decode(message.value()))
                valid.append(message)
            except InvalidMessage as verdict:
                headers: dict[str, str | bytes | None] = {
                    dead_letter.ERROR_CODE: str(verdict.reason),
                    dead_letter.ERROR_MESSAGE: verdict.detail,
                }
                yield self._dead_letters, message.key(), message.value(), headers
        packed = pack(transactions)
        rings, duplicates = self._remember(packed)
        sources = [
            {
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp_ms": message.timestamp()[1],
            }
            for message in valid
        ]
        fields = FieldsOfTransactions(transactions)
        every = self._engine.current.decide(
            TransactionBatch(packed, fields, rings, duplicates, sources)
        )
        for message, transaction, decided in zip(valid, transactions, every, strict=True):
            value = with_decision(message.value() or b"", decided.json)
            yield self._output, transaction.entity_id.encode(), value, None

    def _remember(self, packed: Packed) -> tuple[dict[str, list[bytes]], list[bool]]:
        """Remember each transaction, in order; return the rings right after each, and duplicates."""
        rings: dict[str, list[bytes]] = {}
        duplicates = [False] * len(packed)
        for key in KEYS:
            histories, size = self._histories[key.name], key.dtype.itemsize
            rows = packed.records[key.name].tobytes()
            after = rings[key.name] = []
            for at, value in enumerate(packed.keys[key.name]):
                if value is None:
                    after.append(b"")
                    continue
                if not duplicates[at]:
                    known = histories.remember(value, rows[at * size : (at + 1) * size])
                    if key is KEYS[0]:
                        duplicates[at] = known
                after.append(histories.ring(value))
        return rings, duplicates


def echo(settings: LoopSettings) -> Work:
    """Return a function that copies each record with 40 bytes added."""
    output = settings.topic(Topic.PROCESSED)

    def work(messages: Sequence[Message]) -> Iterator[Output]:
        for message in messages:
            yield output, message.key(), (message.value() or b"")[:-1] + _FORTY_BYTES, None

    return work


def run(settings: LoopSettings, work: Work, stop: threading.Event) -> None:
    """Read batches, process them and write the results, at least once, until `stop` is set.

    A batch holds the records that have arrived; it does not wait for more.

    Raises:
        RuntimeError: Kafka reports an error.
    """
    consumer = Consumer(
        {
            **settings.librdkafka(),
            "group.id": settings.topic(Topic.PROCESSED),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    producer = Producer(
        {
            **settings.librdkafka(),
            "linger.ms": 1,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
        }
    )
    assigned = threading.Event()
    consumer.subscribe([settings.topic(Topic.TRANSACTIONS)], on_assign=lambda *_: assigned.set())
    is_ready, committed_s = False, time.monotonic()
    while not stop.is_set():
        first = consumer.poll(_POLL_S)
        if assigned.is_set() and not is_ready:
            is_ready = True
            print(READY, flush=True)
        if first is not None:
            messages = [first, *consumer.consume(_BATCH_RECORDS - 1, 0)]
            for message in messages:
                if error := message.error():
                    raise RuntimeError(str(error))
            for topic, key, value, headers in work(messages):
                producer.produce(topic, value, key, headers=headers)
            producer.poll(0)
        if is_ready and time.monotonic() - committed_s > _COMMIT_S:
            producer.flush()
            _commit(consumer)
            committed_s = time.monotonic()
    producer.flush()
    _commit(consumer)
    consumer.close()


def _commit(consumer: Consumer) -> None:
    """Commit the offsets read so far; all results have been written."""
    positions = [one for one in consumer.position(consumer.assignment()) if one.offset >= 0]
    if positions:
        consumer.commit(offsets=positions, asynchronous=False)


def main() -> None:
    """Run the loop that is named, with the settings of the environment."""
    settings = load_settings(LoopSettings)
    stop = stop_event()
    with ExitStack() as stack:
        if sys.argv[1] == "plain":
            engine = EngineInUse(Registry(settings.model_registry), service="benchmark")
            follower = stack.enter_context(
                follow_policy(settings, service="benchmark", stop=stop, listeners=[engine])
            )
            follower.wait_ready(60)
            run(settings, Plain(settings, engine), stop)
        else:
            run(settings, echo(settings), stop)


if __name__ == "__main__":
    main()
