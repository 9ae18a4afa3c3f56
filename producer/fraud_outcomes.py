"""Outcomes of the decisions on the stream's own fraud, as its thieves see them."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from typing import Any, Final

import orjson
import structlog
from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from fraud.contracts.decision import Outcome
from fraud.kafka import clients
from producer.events import CAMPAIGNS, Campaign, Events
from producer.records import event_id_texts

_log = structlog.get_logger()
_POLL_S: Final = 0.5
_CALL_S: Final = 5.0
_REMEMBERED: Final = 100_000
"""Fraudulent transactions that may wait for their decision; the oldest are dropped first."""


class FraudOutcomes:
    """Counts how much of the stream's fraud was blocked; one thread sends, another follows decisions.

    Only a block counts, as thieves see it: a declined payment. A later review does not count.

    Args:
        connection: Settings for confluent-kafka.
        topic: Physical name of `processed_transactions`.
    """

    def __init__(self, connection: dict[str, Any], topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._looking = threading.Event()
        self._lock = threading.Lock()
        self._expected: OrderedDict[str, str] = OrderedDict()
        self._blocked: Counter[str] = Counter()
        self._decided: Counter[str] = Counter()

    def look(self, wanted: bool) -> None:
        """Start or stop following decisions."""
        if wanted:
            self._looking.set()
        elif self._looking.is_set():
            self._looking.clear()
            self.take()

    def expect(self, events: Events) -> None:
        """Remember the fraud among events that are being sent."""
        if not self._looking.is_set():
            return
        campaign = events["campaign"]
        thieves = events[(campaign > 0) & (campaign != Campaign.FRIENDLY_FRAUD)]
        with self._lock:
            for event_id, kind in zip(
                event_id_texts(thieves), thieves["campaign"].tolist(), strict=True
            ):
                self._expected[event_id] = CAMPAIGNS[kind]
            while len(self._expected) > _REMEMBERED:
                self._expected.popitem(last=False)

    def decided(self, value: bytes | None) -> None:
        """Count the decision in a record of `processed_transactions`."""
        try:
            record = orjson.loads(value or b"null")
            event_id, outcome = record["event_id"], record["fd"]["outcome"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return
        with self._lock:
            # A repeated transaction is decided again; thieves saw the first decision.
            kind = self._expected.pop(str(event_id), None)
            if kind is not None:
                self._decided[kind] += 1
                self._blocked[kind] += outcome == Outcome.BLOCK.value

    def take(self) -> dict[str, tuple[int, int]]:
        """Return and reset the counts of blocked and of all decisions, by kind of fraud."""
        with self._lock:
            seen = {kind: (self._blocked[kind], n) for kind, n in sorted(self._decided.items())}
            self._blocked.clear()
            self._decided.clear()
        return seen

    def follow(self, stop: threading.Event) -> None:
        """Follow the topic while decisions are wanted, until `stop` is set; wait for an absent broker."""
        while not stop.is_set():
            if not self._looking.wait(_POLL_S):
                continue
            consumer = clients.reader(self._connection, "fraudstream-verdicts", {"log_level": 0})
            try:
                found = consumer.list_topics(self._topic, timeout=_CALL_S).topics[self._topic]
                consumer.assign(
                    [TopicPartition(self._topic, number, OFFSET_END) for number in found.partitions]
                )
                while self._looking.is_set() and not stop.is_set():
                    for message in consumer.consume(500, _POLL_S):
                        if message.error() is None:
                            self.decided(message.value())
            except KafkaException as problem:
                _log.warning("producer.verdicts_lost", reason=problem.args[0].name())
                stop.wait(_POLL_S)
            finally:
                consumer.close()
