"""Alerts: from produce to mail accepted, through a flood, and over an outage of the mail server.

Broker, mail server and notifier are real. A latency is the time the mail server accepted the mail
minus the time the transaction was due to be produced (`stream`), or was produced (the others).
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.report import percentiles
from benchmarks.stream import Stream
from benchmarks.workload import take
from devstack.ports import free_ports
from devstack.probes import http_ready
from devstack.process import running
from devstack.servers.mail import mail
from devstack.service import Service

_HOST: Final = "127.0.0.1"
_PAGE: Final = 1000
_PATIENCE_S: Final = 120
_LOOK_S: Final = 2
_EVENT: Final = re.compile(r"^ *Event: +(\S+)\r?$", re.MULTILINE)
_BLOCKED: Final = 0.02
"""Share of blocks where we make the decisions ourselves: ten a second at 500/s."""


@dataclass(frozen=True, slots=True)
class Told:
    """One mail on the server."""

    message_id: str
    accepted_ms: float
    events: tuple[str, ...]


class Mail:
    """A mail server of our own that can be stopped and started; its mails stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.smtp_port, ui_port = free_ports(2, _HOST)
        self.service = mail(
            folder, host=_HOST, smtp_port=self.smtp_port, ui_port=ui_port, env=os.environ
        )

    @contextmanager
    def up(self) -> Iterator[None]:
        """Run the mail server."""
        with running(self.service, self._folder / "logs"):
            yield

    def count(self) -> int:
        """Count the received mails."""
        return int(self._get("/api/v1/messages?limit=1")["total"])

    def mails(self) -> list[Told]:
        """Return all mails; no mail may arrive meanwhile."""
        found = []
        for start in range(0, self.count(), _PAGE):
            for one in self._get(f"/api/v1/messages?start={start}&limit={_PAGE}")["messages"]:
                text = self._get(f"/api/v1/message/{one['ID']}")["Text"]
                accepted_ms = datetime.fromisoformat(one["Created"]).timestamp() * 1000
                found.append(Told(one["MessageID"], accepted_ms, tuple(_EVENT.findall(text))))
        return found

    def _get(self, path: str) -> Any:
        return httpx.get(f"{self.service.address}{path}", timeout=60).raise_for_status().json()


@contextmanager
def _notifier(
    bootstrap_servers: str, mail: Mail, folder: Path, settings: Mapping[str, str]
) -> Iterator[str]:
    """Run a notifier with a ledger of its own; yield the address of its metrics."""
    port = free_ports(1, _HOST)[0]
    address = f"http://{_HOST}:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "NOTIFIER_GROUP": folder.name,
        "NOTIFIER_OPS_PORT": str(port),
        "SMTP_HOST": _HOST,
        "SMTP_PORT": str(mail.smtp_port),
        "STATE_DIR": str(folder),
        "LOG_FORMAT": "json",
        **settings,
    }
    service = Service(
        name="notifier",
        command=(sys.executable, "-m", "notifier"),
        ready=http_ready(f"{address}/health/ready"),
        env=env,
        address=address,
    )
    with running(service, folder / "logs"):
        yield address


def _untold(address: str) -> float:
    text = httpx.get(f"{address}/metrics", timeout=30).text
    found = re.findall(r"^fraudstream_alerts_untold\{.*\} (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)


def _until_told(address: str, alerts: int, mail: Mail) -> None:
    """Wait until all alerts are sent, as long as mails keep arriving."""
    last, since = -1, time.monotonic()
    while True:
        text = httpx.get(f"{address}/metrics", timeout=30).text
        consumed = re.search(
            r"^fraudstream_records_consumed_total\{.*\} (\S+)$", text, re.MULTILINE
        )
        if consumed and float(consumed[1]) >= alerts and _untold(address) == 0:
            # The gauge is as old as its last look.
            time.sleep(_LOOK_S)
            if _untold(address) == 0:
                return
        count = mail.count()
        if count != last:
            last, since = count, time.monotonic()
        if time.monotonic() - since > _PATIENCE_S:
            raise RuntimeError("no mail came for a while, and not everything was told")
        time.sleep(0.5)


def _account(expected: Sequence[str], mails: Sequence[Told]) -> dict[str, Any]:
    """Return how often each expected event was sent, each mail counted once by its Message-ID."""
    by_id = {one.message_id: one.events for one in mails}
    told = Counter(event for events in by_id.values() for event in events)
    return {
        "alerts": len(expected),
        "messages": len(by_id),
        "repeated": len(mails) - len(by_id),
        "lost": sum(told[event] == 0 for event in expected),
        "told_twice": sum(told[event] > 1 for event in expected),
    }


def stream_figures(
    bootstrap_servers: str,
    source: Iterator[tuple[bytes, bytes]],
    *,
    rate: float,
    seconds: float,
    folder: Path,
) -> dict[str, Any]:
    """Measure the whole path at a rate: produce, Flink, notifier, mail accepted; digests as by default.

    Args:
        bootstrap_servers: Address of a broker with a running job.
        source: Records that the job has not seen.
        rate: Transactions a second.
        seconds: Length of the measurement.
        folder: Folder for the state of mail server and notifier.
    """
    stream = Stream(bootstrap_servers)
    stream.at_rate(take(source, int(rate * 10)), rate)
    server = Mail(folder)
    # All first alerts are measured: no limit. What the warm-up brought is read before.
    settings = {"NOTIFIER_LIMIT_PER_HOUR": "0", "NOTIFIER_DIGEST_S": "300"}
    with server.up(), _notifier(bootstrap_servers, server, folder / "told", settings) as address:
        _settle(server)
        warm_up, held_before = server.count(), _untold(address)
        arrivals = stream.at_rate(take(source, int(rate * seconds)), rate)
        _settle(server)
        due_ms = {arrival.event_id: arrival.due_ms for arrival in arrivals}
        mails = [one for one in server.mails() if len(one.events) == 1 and one.events[0] in due_ms]
        latencies_ms = [one.accepted_ms - due_ms[one.events[0]] for one in mails]
        blocks = sum(a.outcome == "block" and not a.duplicate for a in arrivals)
        time.sleep(_LOOK_S)
        held = _untold(address) - held_before
    return {
        "scenario": f"stream, {rate:g}/s for {seconds:g} s",
        "alerts": blocks,
        "messages": len(mails),
        "repeated": len(mails) - len({one.message_id for one in mails}),
        "lost": max(0, blocks - len(mails) - int(held)),
        "told_twice": "-",
        **percentiles(latencies_ms or [float("nan")]),
        "note": f"{held:g} gathered for digests; warm-up {warm_up}",
    }


def _settle(server: Mail) -> None:
    """Wait until no mail has come for three seconds."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        count = server.count()
        if count != last:
            last, since = count, time.monotonic()
        time.sleep(0.3)


def _decision(run: str, number: int, *, entity: str, blocked: bool) -> bytes:
    outcome = "block" if blocked else "approve"
    fd = {
        "outcome": outcome, "outcomes": [outcome], "score": 970 if blocked else 100,
        "probability": 0.9, "reasons": [{"code": "SAMPLE", "text": "A sample.", "contribution": 1.0}] if blocked else [],
        "rules": [], "model": {"name": "bench", "version": "0"}, "policy_version": "bench",
        "features": {}, "history": {}, "duplicate": False, "scored_at": "2026-03-01T00:00:00.000Z",
        "frauddetector_time": 1.0, "proc_time": 1.0, "ttdf": 1.0,
        "source": {"topic": "transactions", "partition": 0, "offset": number, "timestamp_ms": 0},
    }  # fmt: skip
    record = {
        "event_id": f"{run}-{number}", "entity_id": entity, "event_time": "2026-03-01T00:00:00Z",
        "transaction_amt": 24.9, "transaction_currency": "EUR", "fd": fd,
    }  # fmt: skip
    return orjson.dumps(record)


class _Topic:
    """A topic of decisions that we make ourselves."""

    def __init__(self, servers: str, name: str) -> None:
        self.name = name
        admin = AdminClient({"bootstrap.servers": servers})
        admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 1})

    def send(self, values: Iterable[tuple[str, bytes]], rate: float) -> None:
        """Send on a fixed schedule."""
        start = time.time()
        for number, (entity, value) in enumerate(values):
            ahead = start + number / rate - time.time()
            if ahead > 0.001:
                time.sleep(ahead)
            self._producer.produce(self.name, value, entity)
            self._producer.poll(0)
        self._producer.flush()


def flood_figures(servers: str, folder: Path, *, alerts: int, seconds: float) -> dict[str, Any]:
    """Send many alerts within a period, to a recipient with default limits.

    Digests and summaries are gathered for a tenth of the time that they are by default.
    """
    topic = _Topic(servers, "flood")
    # As in real floods: many of a few, and a few of many.
    entities = [f"entity-{n % 50 if n % 2 else n % 800}" for n in range(alerts)]
    values = [
        (entity, _decision("flood", n, entity=entity, blocked=True))
        for n, entity in enumerate(entities)
    ]
    server = Mail(folder)
    settings = {
        "TOPIC_PROCESSED_TRANSACTIONS": topic.name,
        "NOTIFIER_DIGEST_S": "30",
        "NOTIFIER_SUMMARY_S": "30",
        "NOTIFIER_LIMIT_PER_HOUR": "300",
    }
    with server.up(), _notifier(servers, server, folder / "told", settings) as address:
        topic.send(values, alerts / seconds)
        _until_told(address, alerts, server)
        mails = server.mails()
    sizes = Counter(min(len(one.events), 2) for one in mails)
    return {
        "scenario": f"flood, {alerts:,} alerts in {seconds:g} s",
        **_account([f"flood-{n}" for n in range(alerts)], mails),
        **dict.fromkeys(percentiles([0]), "-"),
        "note": f"{sizes[1]} single, {sizes[2]} digests and summaries, largest {max(len(one.events) for one in mails)}",
    }


def outage_figures(servers: str, folder: Path, *, rate: float, outage_s: float) -> dict[str, Any]:
    """Stop the mail server under load, then count the mails; one mail per alert.

    Its latencies are from the server's return to the acceptance of each mail that came after.
    """
    topic = _Topic(servers, "outage")
    every = int(1 / _BLOCKED)

    def values(first: int, count: int) -> Iterator[tuple[str, bytes]]:
        for n in range(first, first + count):
            entity = f"entity-{n}"
            yield entity, _decision("outage", n, entity=entity, blocked=n % every == 0)

    before, during = int(rate * 10), int(rate * outage_s)
    server = Mail(folder)
    settings = {"TOPIC_PROCESSED_TRANSACTIONS": topic.name, "NOTIFIER_DIGEST_S": "0"}
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(server.up())
        address = stack.enter_context(_notifier(servers, server, folder / "told", settings))
        topic.send(values(0, before), rate)
        _until_told(address, before, server)
        first.close()
        topic.send(values(before, during), rate)
        waited = _untold(address)
        with server.up():
            back_ms = time.time() * 1000
            topic.send(values(before + during, before), rate)
            _until_told(address, during + before + before, server)
            mails = server.mails()
    total = before + during + before
    late = [one.accepted_ms - back_ms for one in mails if one.accepted_ms >= back_ms]
    return {
        "scenario": f"mail server down for {outage_s:g} s at {rate:g}/s",
        **_account([f"outage-{n}" for n in range(0, total, every)], mails),
        **percentiles(late),
        "note": f"{waited:g} waited; latencies since its return",
    }
