"""Rules, lists and models switched under load: how soon they decide, and whether all is well.

The stream takes its transactions and REST is asked on fixed schedules, while every few seconds a
rule, an entry of a list or the champion is switched. Afterwards each decision is computed again from
what it names (`fraud.backtest.recheck`), each record is looked for, and each switch is timed: from
its record's timestamp on the control topic to the first decision by the new policy.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from confluent_kafka import Consumer, Producer
from rich.console import Console

from benchmarks import rest
from benchmarks.own_stack import OwnStack, run_module
from benchmarks.policy import editor_of
from benchmarks.report import percentiles
from benchmarks.workload import history_file, take
from fraud.backtest.recheck import Recheck
from fraud.backtest.runner import BacktestRunner
from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import RuleSet
from fraud.contracts.topics import Topic
from fraud.policy.editor import PolicyEditor
from fraud.runtime.settings import KafkaSettings
from model.registry import Registry

_PATIENCE_S: Final = 60
_REST_CONNECTIONS: Final = 8


@dataclass
class _Seen:
    """Decisions, and when the first of each policy was seen, UTC epoch milliseconds."""

    values: list[bytes] = field(default_factory=list)
    first_ms: dict[str, int] = field(default_factory=dict)

    def take(self, value: bytes, policy_version: str, at_ms: int) -> None:
        self.values.append(value)
        if at_ms < self.first_ms.get(policy_version, at_ms + 1):
            self.first_ms[policy_version] = at_ms


def _rules(threshold: int) -> RuleSet:
    return RuleSet.model_validate(
        {
            "rules": [
                {"id": "R1", "when": f"$score >= {threshold}", "outcome": "review"},
                {"id": "R2", "when": "$entity_tx_count_1h >= 3 and $amount_base > 20", "outcome": "block", "reason": "Much."},
                {"id": "R3", "when": "$ip_address in @seen", "outcome": "review", "reason": "Seen."},
            ]
        }
    )  # fmt: skip


def _switches(editor: PolicyEditor, registry: Registry) -> Iterator[Callable[[], object]]:
    """Yield one switch after the other; each makes a policy that there was not before."""
    editor.make_list("seen", ListType.IP, ListUse.REFERENCE)
    editor.make_list("blocked", ListType.ENTITY, ListUse.BLOCK)
    # The one that decides comes second: the first switch is to be one.
    models = cycle(sorted(registry.models(), key=lambda one: one.name != "second"))
    for number in cycle(range(10_000)):
        drafted = editor.draft(_rules(500 + number % 400))
        yield lambda version=drafted.version: editor.activate(version)
        yield lambda at=number: editor.change_list(
            "seen", add=[ListEntry(value=f"{1 + at % 220}.0.0.0/8")]
        )
        yield lambda at=number: editor.change_list(
            "blocked", add=[ListEntry(value=f"cust-{at:07}")]
        )
        manifest = next(models)
        ref = ModelRef(name=manifest.name, version=manifest.version)
        yield lambda to=ref: _promote(editor, to)


def _promote(editor: PolicyEditor, ref: ModelRef) -> None:
    with editor.promoting(None, ref) as tell:
        tell()


class _Stream:
    """Sends on a schedule and reads what comes out."""

    def __init__(self, servers: str, records: Sequence[tuple[bytes, bytes]], rate: float) -> None:
        self._servers, self._records, self._rate = servers, records, rate
        self.seen = _Seen()

    def send(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self._servers, "linger.ms": 1, "compression.type": "lz4"}
        )
        start = time.time()
        for number, (key, value) in enumerate(self._records):
            ahead = start + number / self._rate - time.time()
            if ahead > 0.001:
                time.sleep(ahead)
            producer.produce(Topic.TRANSACTIONS.value, value, key)
            producer.poll(0)
        producer.flush()

    def read(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": "switching",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([Topic.PROCESSED.value])
        last = time.monotonic()
        while len(self.seen.values) < len(self._records):
            for message in consumer.consume(2000, timeout=0.5):
                if message.error():
                    raise RuntimeError(str(message.error()))
                value = bytes(message.value() or b"")
                policy = value[value.rindex(b'"policy_version":"') + 18 :][:16].decode()
                self.seen.take(value, policy, message.timestamp()[1])
                last = time.monotonic()
            if time.monotonic() - last > _PATIENCE_S:
                break
        consumer.close()


class _Rest:
    """Asks on a schedule, by some connections at once, and keeps the answers."""

    def __init__(
        self, url: str, key: str, values: Sequence[bytes], rate: float, seconds: float
    ) -> None:
        self._url, self._key, self._values, self._rate, self._seconds = (
            url,
            key,
            values,
            rate,
            seconds,
        )
        self.seen = _Seen()
        self.failed = 0
        self._lock = threading.Lock()

    def ask(self, part: int, start_s: float) -> None:
        address = urlsplit(self._url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        for number in range(part, int(self._rate * self._seconds), _REST_CONNECTIONS):
            ahead = start_s + number / self._rate - time.time()
            if ahead > 0:
                time.sleep(ahead)
            record = orjson.loads(self._values[number % len(self._values)])
            record |= {"event_id": f"rest-{number}"}
            connection.request("POST", "/v1/score", orjson.dumps(record), headers)
            answer = connection.getresponse()
            body, at_ms = answer.read(), int(time.time() * 1000)
            if answer.status != http.HTTPStatus.OK:
                self.failed += 1
                continue
            fd = orjson.loads(body)["fd"]
            # Where it would have been on the stream, so that it can be told apart.
            fd["source"] = {
                "topic": "rest",
                "partition": 0,
                "offset": number,
                "timestamp_ms": at_ms,
            }
            with self._lock:
                self.seen.take(orjson.dumps(record | {"fd": fd}), fd["policy_version"], at_ms)
        connection.close()


def _delays_ms(seen: _Seen, switched_ms: Sequence[int]) -> list[int]:
    """Return how long each switch took: policies come into force in the order of the switches.

    Raises:
        RuntimeError: There were fewer policies than switches: one was never in force.
    """
    firsts = sorted(seen.first_ms.values())[-len(switched_ms) :]
    if len(firsts) < len(switched_ms):
        raise RuntimeError(f"{len(switched_ms)} switches, {len(firsts)} policies")
    return [first - at for first, at in zip(firsts, switched_ms, strict=True)]


def measure(
    own: OwnStack,
    source: Iterator[tuple[bytes, bytes]],
    *,
    rate: float,
    rest_rate: float,
    seconds: float,
    every_s: float,
    data: Path,
    console: Console,
) -> list[dict[str, Any]]:
    """Switch under load and check everything.

    Args:
        own: A running stack.
        source: Records that it has not seen.
        rate: Transactions a second on the stream.
        rest_rate: Requests a second.
        seconds: How long.
        every_s: Seconds between switches.
        data: Folder of the workloads.
        console: Where progress goes.

    Returns:
        A row for the stream and one for REST.
    """
    settings = KafkaSettings(
        kafka_bootstrap_servers=own.bootstrap_servers, state_dir=Path(own.env["STATE_DIR"])
    )
    registry = Registry(Path(own.env["MODEL_REGISTRY"]))
    with console.status("training a second model"):
        other = history_file(data, days=30, customers=2000, seed=12)
        run_module(
            "model", "train", "--data", str(other), "--name", "second", "--offline", env=own.env
        )
    records = take(source, int(rate * seconds))
    with (
        rest.own_api(own.env) as (address, key),
        editor_of(settings) as (editor, _),
    ):
        stream = _Stream(own.bootstrap_servers, records, rate)
        asked = _Rest(address, key, [value for _, value in records[:5000]], rest_rate, seconds)
        start_s = time.time() + 0.5
        threads = [threading.Thread(target=stream.send), threading.Thread(target=stream.read)]
        threads += [
            threading.Thread(target=asked.ask, args=(part, start_s))
            for part in range(_REST_CONNECTIONS)
        ]
        switches = _switches(editor, registry)
        switched_ms: list[int] = []
        with console.status(
            f"{rate:g}/s and {rest_rate:g} requests/s, a switch every {every_s:g} s"
        ):
            for thread in threads:
                thread.start()
            while time.time() < start_s + seconds - 3 * every_s:
                time.sleep(every_s)
                switch = next(switches)
                switched_ms.append(int(time.time() * 1000))
                switch()
            for thread in threads:
                thread.join()
    documents = list(BacktestRunner(settings).control_documents())
    rows = []
    for what, seen, expected in (
        ("stream", stream.seen, len(records)),
        ("REST", asked.seen, int(rest_rate * seconds) - asked.failed),
    ):
        with console.status(f"computing {len(seen.values):,} decisions of {what} again"):
            again = Recheck(documents, lambda ref: registry.load(ref.name, ref.version))
            for first in range(0, len(seen.values), 10_000):
                again.add(seen.values[first : first + 10_000])
            found = again.result()
        events = {orjson.loads(value)["event_id"] for value in seen.values}
        delays = percentiles(_delays_ms(seen, switched_ms))
        rows.append(
            {
                "scenario": what,
                "decisions": len(seen.values),
                "lost": expected - len(events),
                "repeated": len(seen.values) - len(events),
                "switches": len(switched_ms),
                "policies": len(found.policies),
                "switch_p50_ms": delays["p50_ms"],
                "switch_max_ms": delays["max_ms"],
                "computed_again": found.computed,
                "differing": found.differing,
                "not_computed": sum(found.not_computed.values()),
            }
        )
    return rows
