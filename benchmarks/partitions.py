"""Differences of features of IP addresses and merchants with several partitions.

An entity's records share a partition. Those of an address or merchant come through several, and
several readers read them in different orders: the job's features are compared with a replay in the
order in which the records were sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.stream import Stream
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import decode
from fraud.features.catalogue import FEATURES, KEYS
from fraud.features.packing import pack
from fraud.features.replay import replay
from fraud.features.vector import FEATURE_NAMES
from producer.records import columns, rows
from producer.simulation import Process, SimulationPlan, World

Record = tuple[bytes, bytes]
_PATIENCE_S: Final = 60.0
_SEED: Final = 7
_HOUR: Final = 20_700 * 24 + 14
"""2026-09-04T14:00Z."""


def live_records(rate: float, run: str) -> list[Record]:
    """Generate an hour of a live stream with as many customers and merchants as its rate needs.

    A smaller world, sent faster than real time, would have the same merchant in every other batch.
    """
    process = Process(World.load(_SEED), _SEED, SimulationPlan(customers=None, rate=rate))
    events = process.hours(_HOUR, _HOUR + 1).events
    return [
        (row["entity_id"].encode(), orjson.dumps({**row, "event_id": f"{run}-{row['event_id']}"}))
        for row in rows(columns(process.population, events))
    ]


def partition_figures(
    servers: str, records: Sequence[Record], scenarios: Sequence[tuple[str, int, float | None]]
) -> list[dict[str, Any]]:
    """Send records in scenarios, one after the other; compare what the job computed.

    Args:
        servers: Address of the broker.
        records: In the order of their event times, not seen by the job.
        scenarios: Name, how many records, and the rate a second; None means as fast as Kafka accepts them.
    """
    sent = list(records[: sum(count for _, count, _ in scenarios)])
    stream, at = Stream(servers), 0
    for _, count, rate in scenarios:
        part = sent[at : at + count]
        if rate is None:
            stream.backlog(part)
        else:
            stream.at_rate(part, rate)
        at += count
    expected = np.concatenate(list(replay(pack([decode(value) for _, value in sent]))))
    computed = _features(servers, sent)
    figures, at = [], 0
    for name, count, _ in scenarios:
        these = slice(at, at + count)
        figures.append({"scenario": name, **_compared(computed[these], expected[these])})
        at += count
    return figures


def _features(servers: str, sent: Sequence[Record]) -> NDArray[np.float32]:
    """Read the vectors that the job published, in the order of sending."""
    place = {orjson.loads(value)["event_id"]: row for row, (_, value) in enumerate(sent)}
    found = np.full((len(sent), len(FEATURE_NAMES)), np.inf, np.float32)
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "partitions", "enable.auto.commit": False}
    )
    topic = Topic.PROCESSED.value
    numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
    missing, last = len(sent), time.monotonic()
    while missing:
        messages = consumer.consume(2000, timeout=0.5)
        for message in messages:
            record = orjson.loads(message.value() or b"")
            row = place.pop(record["event_id"], None)
            if row is not None:
                features = record["fd"]["features"]
                found[row] = [
                    np.nan if features[name] is None else features[name] for name in FEATURE_NAMES
                ]
                missing -= 1
        if messages:
            last = time.monotonic()
        elif time.monotonic() - last > _PATIENCE_S:
            raise RuntimeError(f"{missing} of {len(sent)} decisions are not there")
    consumer.close()
    return found


def _compared(computed: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, Any]:
    """Count records with any feature that differs, by key."""
    same = (computed == expected) | (np.isnan(computed) & np.isnan(expected))
    figures: dict[str, Any] = {"records": len(computed)}
    for key in KEYS:
        of_key = [
            at for at, feature in enumerate(FEATURES) if feature.name.startswith(f"{key.name}_")
        ]
        differs = ~same[:, of_key].all(axis=1)
        figures[f"{key.name}_differs"] = int(differs.sum())
        figures[f"{key.name}_share"] = f"{differs.mean():.4%}"
    return figures
