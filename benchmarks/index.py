"""The indexer: produced to searchable at a rate, and the recovery from an outage of OpenSearch.

Decisions are made beforehand in the form of real ones, with every feature; the load is open-loop. A
document's latency is the moment at which a search first finds it minus the time its record was due:
searches run every 50 ms, so that they leave the processor to the indexer. Latencies have that
resolution and are never too low.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.own_stack import run_module
from benchmarks.report import percentiles
from benchmarks.workload import records, take
from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.kafka import kafka
from devstack.servers.opensearch import opensearch, unprivileged_user
from devstack.service import Service
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import with_decision
from fraud.features.catalogue import FEATURES

_HOST: Final = "127.0.0.1"
_ALIAS: Final = "processed_transactions"
_WARM_UP_S: Final = 10
_PATIENCE_S: Final = 600
_PAGE: Final = 5000
_SEARCH_EVERY_S: Final = 0.05


def decided(history: Path, count: int) -> list[tuple[bytes, bytes, bytes]]:
    """Generate decisions of simulated transactions: key, record, and `fd` without its source."""
    rng = random.Random(7)  # noqa: S311 - a workload
    made = []
    for key, value in take(records(history, run="bench"), count):
        outcome = rng.choices(["approve", "review", "block"], [0.97, 0.02, 0.01])[0]
        fd = {
            "outcome": outcome,
            "outcomes": [outcome],
            "score": rng.randrange(1000),
            "probability": rng.random(),
            "reasons": []
            if outcome == "approve"
            else [{"code": f"C{n}", "text": "Several payments within an hour.", "contribution": 1.0} for n in range(5)],
            "rules": [{"id": "R001_high_score", "version": 1, "outcome": outcome}],
            "lists": [],
            "model": {"name": "fraud", "version": "fc26b93dab1d"},
            "policy_version": "bc36217660dddafd",
            "features": {feature.name: rng.random() * 100 for feature in FEATURES},
            "history": {"entity": 12, "ip": 3, "merchant": 30},
            "duplicate": False,
            "scored_at": "2026-03-01T00:00:00.000Z",
            "frauddetector_time": 3.1,
            "proc_time": 20.0,
            "ttdf": 23.1,
        }  # fmt: skip
        made.append((key, value, orjson.dumps(fd)[:-1]))
    return made


class Load:
    """Decisions sent on a fixed schedule in a thread, as a context manager.

    Args:
        bootstrap_servers: Address of the broker.
        made: Records to send repeatedly, each time with another input offset.
        rate: Records a second.
    """

    def __init__(
        self, bootstrap_servers: str, made: list[tuple[bytes, bytes, bytes]], rate: float
    ) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5})
        self._made = cycle(made)
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.due_s: list[float] = []
        """When each record was due, by its input offset; time.time()."""

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        start_s = time.time()
        while not self._stop.is_set():
            offset = len(self.due_s)
            due_s = start_s + offset / self._rate
            if (ahead_s := due_s - time.time()) > 0:
                self._producer.poll(0)
                time.sleep(min(ahead_s, 0.01))
                continue
            key, record, fd = next(self._made)
            source = {
                "topic": "bench",
                "partition": 0,
                "offset": offset,
                "timestamp_ms": int(due_s * 1000),
            }
            fd += b',"source":' + orjson.dumps(source) + b"}"
            self._producer.produce(Topic.PROCESSED.value, with_decision(record, fd), key)
            self._producer.poll(0)
            self.due_s.append(due_s)
        if self._producer.flush(60):
            raise RuntimeError("Kafka did not take all records")


class Index:
    """The index of decisions, as searches see it.

    Args:
        url: Address of OpenSearch.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def offsets(self, first: int) -> list[int]:
        """Return at most a page of found input offsets, from one offset on."""
        body = {
            "size": _PAGE,
            "_source": False,
            "query": {"range": {"fd.source.offset": {"gte": first}}},
            "sort": [{"fd.source.offset": "asc"}],
        }
        answer = self._client.post(f"/{_ALIAS}/_search", json=body)
        if answer.status_code != 200:
            return []
        return [hit["sort"][0] for hit in answer.json()["hits"]["hits"]]

    def count(self) -> int:
        """Return the number of found documents; -1 while OpenSearch does not answer."""
        try:
            answer = self._client.get(f"/{_ALIAS}/_count")
        except httpx.TransportError:
            return -1
        return int(answer.json()["count"]) if answer.status_code == 200 else -1

    def all_offsets(self) -> list[int]:
        """Return the input offset of every document."""
        found: list[int] = []
        while page := self.offsets(found[-1] + 1 if found else 0):
            found += page
        return found


@contextmanager
def own_index(console: Console) -> Iterator[tuple[str, Service, Path, dict[str, str]]]:
    """Start a broker with topics; yield its address, the declared OpenSearch, a folder, settings."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudstream-bench-")))
        folder.chmod(0o755)
        ports = free_ports(4, _HOST)
        stack.enter_context(
            running(
                kafka(
                    artifacts.ensure("kafka", console),
                    folder / "kafka",
                    host=_HOST,
                    port=ports[0],
                    controller_port=ports[1],
                    advertised_host=_HOST,
                    env=os.environ,
                ),
                folder / "logs",
            )
        )
        node = opensearch(
            artifacts.ensure("opensearch", console)[0],
            folder / "opensearch",
            host=_HOST,
            port=ports[2],
            env=os.environ,
            run_as=unprivileged_user("nobody"),
        )
        env = {
            **os.environ,
            "STATE_DIR": str(folder),
            "KAFKA_BOOTSTRAP_SERVERS": f"{_HOST}:{ports[0]}",
            "OPENSEARCH_URL": node.address,
            "INDEXER_OPS_PORT": str(ports[3]),
            "LOG_FORMAT": "json",
        }
        run_module("fraud.kafka.topics", env=env)
        yield env["KAFKA_BOOTSTRAP_SERVERS"], node, folder, env


@contextmanager
def _indexer(env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "indexer"], env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _watch(index: Index, load: Load, seconds: float) -> list[float]:
    """Return the latency of each record that is due within some seconds from now, milliseconds.

    Searches go on until the last of them is found, so late ones count.
    """
    start_s = time.time()
    start = first = len(load.due_s)
    deadline_s = start_s + seconds + _PATIENCE_S
    seen: dict[int, float] = {}
    while time.time() < deadline_s:
        found = index.offsets(first)
        now_s = time.time()
        for offset in found:
            seen.setdefault(offset, now_s)
        while first in seen:
            first += 1
        due_s = load.due_s[start:]
        wanted = sum(1 for one in due_s if one < start_s + seconds)
        if wanted < len(due_s) and first >= start + wanted:
            return [(seen[start + at] - due_s[at]) * 1000 for at in range(wanted)]
        time.sleep(_SEARCH_EVERY_S)
    raise TimeoutError(f"records were not found within {_PATIENCE_S} s")


def measure(
    history: Path, *, rate: float, seconds: float, outage_s: float, console: Console
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure latency at a rate, then an outage of OpenSearch under the same rate."""
    made = decided(history, 20_000)
    with own_index(console) as (servers, node, folder, env), ExitStack() as stack:
        with running(node, folder / "logs"):
            stack.enter_context(_indexer(env, folder / "logs" / "indexer.log"))
            index = Index(node.address)
            load = stack.enter_context(Load(servers, made, rate))
            with console.status("warming up"):
                _wait(lambda: index.count() > max(rate * _WARM_UP_S, len(load.due_s) - 3 * rate))
            with console.status(f"produced to searchable at {rate:g}/s for {seconds:g} s"):
                latencies = _watch(index, load, seconds)
            before = index.count()
        latency = {
            "scenario": f"produced to searchable at {rate:g}/s",
            "documents": len(latencies),
            **percentiles(latencies),
        }
        down_at_s = time.time()
        with console.status(f"OpenSearch down for {outage_s:g} s"):
            time.sleep(outage_s)
        with running(node, folder / "logs"):
            back_s = time.time()
            with console.status("catching up"):
                _wait(lambda: index.count() > before)
                first_s, first = time.time(), index.count()
                _wait(lambda: index.count() >= len(load.due_s) - 3 * rate)
            caught_up_s, caught_up = time.time(), index.count()
            stack.close()
            with console.status("looking for what is lost"):
                sent = len(load.due_s)
                # The indexer was stopped in the middle: another one finishes, as after any restart.
                with _indexer(env, folder / "logs" / "indexer.log"):
                    _wait(lambda: index.count() >= sent)
                found = index.all_offsets()
        outage = {
            "scenario": f"OpenSearch down for {back_s - down_at_s:.0f} s at {rate:g}/s",
            "documents": sent,
            "caught_up_after_s": caught_up_s - back_s,
            "per_s": (caught_up - first) / (caught_up_s - first_s),
            "times_live_rate": (caught_up - first) / (caught_up_s - first_s) / rate,
            "lost": len(set(range(sent)) - set(found)),
            "twice": len(found) - len(set(found)),
        }
        return latency, outage


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the index did not get there within {_PATIENCE_S} s")
        time.sleep(0.1)
