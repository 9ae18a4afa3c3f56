"""Time of a dry run over a million past transactions, from a real broker to the report."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import orjson
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.own_stack import own_broker, run_module
from benchmarks.policy import editor_of
from benchmarks.rules import RULES
from benchmarks.workload import history_file, records
from fraud.contracts.decision import Outcome
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import Rule, RuleSet
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import decode, with_decision
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.policy import Policy
from fraud.decision.rule_files import write_rule_file
from fraud.decision.rule_sets import shipped
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories
from fraud.features.packing import pack
from fraud.runtime.settings import KafkaSettings
from model.registry import Registry

_TEMPLATES: Final = 5_000
_BATCH: Final = 20
_ENTRIES: Final = 100_000
_LABELLED: Final = 0.5


def decided(registry: Path, values: Sequence[bytes]) -> Iterator[bytes]:
    """Decide transactions one after the other as the stream does: `processed_transactions`' values."""
    scorer = Registry(registry).champion()
    now = [int(time.time() * 1000)]
    engine = Engine(scorer, Policy(shipped(), scorer.ref), lambda: now[0])
    histories = {key.name: Histories(key) for key in KEYS}
    rows = iter(enumerate(values))
    while batch := list(islice(rows, _BATCH)):
        now[0] += 7
        transactions = [decode(value) for _, value in batch]
        packed = pack(transactions)
        rings: dict[str, list[bytes]] = {key.name: [] for key in KEYS}
        for key in KEYS:
            for at, value in enumerate(packed.keys[key.name]):
                if value is not None:
                    record = packed.records[key.name][at].tobytes()
                    histories[key.name].remember(value, record)
                ring = b"" if value is None else histories[key.name].ring(value)
                rings[key.name].append(ring)
        sources = [
            {"topic": "transactions", "partition": 0, "offset": at, "timestamp_ms": now[0]}
            for at, _ in batch
        ]
        fields = FieldsOfTransactions(transactions)
        decisions = engine.decide(
            TransactionBatch(packed, fields, rings, [False] * len(batch), sources)
        )
        for (_, value), one in zip(batch, decisions, strict=True):
            yield with_decision(value, one.json)


def fill(settings: KafkaSettings, values: Sequence[bytes], count: int) -> int:
    """Write decisions repeatedly, with other ids and offsets, and labels of half of them.

    Returns:
        Bytes written.
    """
    producer = Producer(
        {
            **settings.librdkafka(),
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "partitioner": "murmur2_random",
        }
    )
    parts = []
    for at, value in enumerate(values):
        event_id = orjson.dumps(orjson.loads(value)["event_id"])[1:-1]
        head, rest = value.split(event_id, 1)
        middle, tail = rest.rsplit(b'"offset":%d' % at, 1)
        parts.append((orjson.loads(value)["entity_id"], head, event_id, middle, tail))
    rng = random.Random(7)  # noqa: S311 - a load, no secret
    processed, labels = settings.topic(Topic.PROCESSED), settings.topic(Topic.LABELS)
    size = 0

    def send(topic: str, value: bytes, key: str) -> None:
        while True:
            try:
                producer.produce(topic, value, key)
                return
            except BufferError:
                producer.poll(0.1)

    for number in range(count):
        entity, head, event_id, middle, tail = parts[number % len(parts)]
        own = b"%b-%d" % (event_id, number)
        value = b'%b%b%b"offset":%d%b' % (head, own, middle, number, tail)
        size += len(value)
        send(processed, value, entity)
        if rng.random() < _LABELLED:
            what = b"fraud" if rng.random() < 0.02 else b"legitimate"
            label = b'{"event_id":"%b","label":"%b","label_time":"2026-03-01T00:00:00Z","source":"bench"}'
            send(labels, label % (own, what), own.decode())
        if number % 1000 == 0:
            producer.poll(0)
    while producer.flush(1):
        pass
    return size


def make_list(settings: KafkaSettings) -> None:
    """Create the list that one of the rules uses."""
    with editor_of(settings) as (editor, _):
        editor.make_list("blocked_emails", ListType.EMAIL, ListUse.REFERENCE)
        entries = [ListEntry(value=f"user{at}@example.com") for at in range(_ENTRIES)]
        editor.change_list("blocked_emails", add=entries)


def _rule_file() -> str:
    outcomes = cycle((Outcome.REVIEW, Outcome.BLOCK))
    return write_rule_file(
        RuleSet(
            rules=tuple(
                Rule(id=f"R{at:03}", when=when, outcome=next(outcomes))
                for at, (_, when) in enumerate(RULES)
            )
        )
    )


def dry_run_figures(data: Path, count: int, console: Console) -> list[dict[str, Any]]:
    """Fill a broker of our own and run `fraudstream rules test` on it, as a process of its own."""
    with own_broker(console) as broker:
        env = {
            **os.environ,
            "STATE_DIR": str(broker.folder),
            "MODEL_REGISTRY": str(broker.folder / "models"),
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        }
        run_module("fraud.kafka.topics", env=env)
        workload = history_file(data, days=45, customers=2000, seed=11)
        run_module("model", "train", "--data", str(workload), "--search", "0", env=env)
        settings = KafkaSettings(
            kafka_bootstrap_servers=broker.bootstrap_servers, state_dir=broker.folder
        )
        with console.status(f"{count:,} decisions into the broker"):
            source = [value for _, value in islice(records(workload, run="bench"), _TEMPLATES)]
            size = fill(settings, list(decided(broker.folder / "models", source)), count)
            make_list(settings)
        rules = broker.folder / "rules.toml"
        rules.write_text(_rule_file(), "utf-8")
        with console.status("the dry run"):
            report, passed_s, cpu_s, peak_mb = _timed(
                ["-m", "fraudstream", "rules", "test", str(rules), "--json"], env
            )
        if report["period"]["judged"] != count:
            raise RuntimeError(f"expected {count} transactions to be judged: {report['period']}")
        return [
            {
                "scenario": f"{len(report['rules'])} rules, a list of {_ENTRIES:,}",
                "transactions": count,
                "record_bytes": size / count,
                "labelled": report["total"]["fraud"] + report["total"]["legitimate"],
                "reading_and_judging_s": report["took_s"],
                "command_s": passed_s,
                "cpu_s": cpu_s,
                "per_s": count / passed_s,
                "peak_mb": peak_mb,
            }
        ]


def _timed(
    arguments: Sequence[str], env: Mapping[str, str]
) -> tuple[dict[str, Any], float, float, float]:
    """Run Python and return its JSON, elapsed seconds, CPU seconds and peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told, problems = process.communicate()
    passed_s = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(problems.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return orjson.loads(told), passed_s, cpu_s, after.ru_maxrss / 1024
