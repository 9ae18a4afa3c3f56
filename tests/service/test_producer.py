"""The producer and replay on a real broker, watched by an independent client.

- The example file is replayed: each row arrives once, under its key, with its label beside it.
- The producer streams, is stopped and is started again: no event id comes twice.
- The broker is killed under the producer: what was acknowledged is there, and the stream goes on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console

from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.kafka import kafka as kafka_service
from fraud.contracts.transaction import decode
from tests.support.command_line import environment, make_topics, read_all

pytestmark = pytest.mark.service

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = str(Path(sys.executable).with_name("fraudstream"))


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@contextmanager
def producing(env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "producer"], env=env, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)


def acknowledged(port: str) -> int:
    """Read from the metrics how many transactions Kafka has acknowledged."""
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except httpx.TransportError:
        return 0
    counts = re.findall(r"^fraudstream_transactions_produced_total\{.*\} ([0-9.e+]+)", text, re.M)
    return int(sum(float(count) for count in counts))


def test_the_example_arrives_whole(kafka: str, tmp_path: Path) -> None:
    env = environment(kafka, tmp_path, "replay")
    make_topics(env)
    done = subprocess.run(
        [COMMAND, "replay", "transactions_2k.csv", "--mapping", "transactions_2k.toml"],
        cwd=EXAMPLES, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"acknowledged +1,611\n", done.stdout)
    records = read_all(kafka, "replay-transactions")
    assert len(records) == 1_611
    by_id = {decode(record.value).event_id: record for record in records}
    assert len(by_id) == 1_611
    times: dict[int, list[int]] = {}
    partition_of: dict[bytes, int] = {}
    for record in records:
        transaction = decode(record.value)
        assert record.key == transaction.entity_id.encode()
        assert partition_of.setdefault(record.key, record.partition) == record.partition
        times.setdefault(record.partition, []).append(transaction.event_time_ms)
    assert all(sorted(ms) == ms for ms in times.values())
    labels = [orjson.loads(record.value) for record in read_all(kafka, "replay-labels")]
    assert len(labels) == 810
    assert sum(label["label"] == "fraud" for label in labels) == 95
    assert {label["event_id"] for label in labels} < set(by_id)


def test_a_key_meets_the_partition_that_java_would_choose(kafka: str, tmp_path: Path) -> None:
    """Ours and anybody else's records of one entity share a partition, and so their order."""
    from kafka.partitioner import murmur2

    env = environment(kafka, tmp_path, "murmur")
    make_topics(env)
    subprocess.run(
        [COMMAND, "replay", "transactions_2k.csv", "-m", "transactions_2k.toml", "--limit", "200"],
        cwd=EXAMPLES, env=env, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    records = read_all(kafka, "murmur-transactions")
    assert len({record.partition for record in records}) > 1
    for record in records:
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4


def test_a_replay_without_kafka_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1, "127.0.0.1")
    done = subprocess.run(
        [COMMAND, "replay", "transactions_2k.csv", "-m", "transactions_2k.toml"],
        cwd=EXAMPLES, env=environment(f"127.0.0.1:{port}", tmp_path, "none"), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}" in done.stderr


def test_a_restarted_producer_repeats_no_id(kafka: str, tmp_path: Path) -> None:
    """Stopped in good order, everything it counted is on Kafka; killed, nothing comes twice."""
    (port,) = free_ports(1, "127.0.0.1")
    env = environment(
        kafka, tmp_path, "live", PRODUCER_RATE="20", PRODUCER_CUSTOMERS="500",
        PRODUCER_PREVALENCE="0.02", PRODUCER_OPS_PORT=str(port),
    )  # fmt: skip
    make_topics(env)
    log = tmp_path / "producer.log"
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        with producing(env, log) as process:
            wait_for(lambda: acknowledged(str(port)) > 100, 90, "100 transactions")
            process.send_signal(number)
            assert process.wait(30) == (0 if number == signal.SIGTERM else -signal.SIGKILL), (
                log.read_text()
            )
    records = read_all(kafka, "live-transactions")
    ids = [decode(record.value).event_id for record in records]
    counted = sum(
        orjson.loads(line)["acknowledged"]
        for line in log.read_text().splitlines()
        if "producer.stopped" in line
    )
    assert len(ids) == len(set(ids)) > max(300, counted)
    truth = [
        orjson.loads(line)["event_id"]
        for path in (tmp_path / "truth").iterdir()
        for line in path.read_bytes().splitlines()
    ]
    assert set(truth) & set(ids)
    # Personal data stay out of the log.
    assert not re.search(r"@|cust-\d|\b\d{3}-\d{2}-\d{4}\b", log.read_text())


def test_a_killed_broker_costs_no_transaction(tmp_path: Path) -> None:
    """The broker dies under load and comes back: the producer heals, and what it counts is there."""
    port, controller_port, ops_port = free_ports(3, "127.0.0.1")
    env = environment(
        f"127.0.0.1:{port}", tmp_path, "killed", PRODUCER_RATE="30", PRODUCER_CUSTOMERS="500",
        PRODUCER_PREVALENCE="0.001",
        PRODUCER_OPS_PORT=str(ops_port),
    )  # fmt: skip
    broker = kafka_service(
        artifacts.ensure("kafka", Console(stderr=True)), tmp_path / "kafka", host="127.0.0.1",
        port=port, controller_port=controller_port, advertised_host="127.0.0.1", env=os.environ,
    )  # fmt: skip
    log = tmp_path / "producer.log"
    with running(broker, tmp_path / "logs") as first:
        make_topics(env)
        with producing(env, log) as process:
            wait_for(lambda: acknowledged(str(ops_port)) > 200, 90, "200 transactions")
            first.kill()
            first.wait(30)
            ready = f"http://127.0.0.1:{ops_port}/health/ready"
            wait_for(lambda: httpx.get(ready).status_code == 503, 60, "not ready")
            before = acknowledged(str(ops_port))
            with running(broker, tmp_path / "logs"):
                wait_for(lambda: acknowledged(str(ops_port)) > before + 300, 90, "healed")
                process.terminate()
                assert process.wait(60) == 0, log.read_text()
                stopped = next(
                    orjson.loads(line) for line in log.read_text().splitlines() if "producer.stopped" in line
                )  # fmt: skip
                assert stopped["lost"] == 0
                ids = [
                    decode(r.value).event_id
                    for r in read_all(f"127.0.0.1:{port}", "killed-transactions")
                ]
    labels = stopped["acknowledged"] - len(ids)
    # Labels count too: with half a minute of life there are next to none.
    assert 0 <= labels < 50
    assert len(ids) == len(set(ids)) > 500


def test_a_campaign_is_injected_by_command_and_can_be_told_again(
    kafka: str, tmp_path: Path
) -> None:
    """Started and stopped by commands; what the producer logged says from when to when."""
    (port,) = free_ports(1, "127.0.0.1")
    env = environment(
        kafka, tmp_path, "injected", PRODUCER_RATE="20", PRODUCER_CUSTOMERS="3000",
        PRODUCER_PREVALENCE="low", PRODUCER_MALFORMED_RATE="0.05", PRODUCER_OPS_PORT=str(port),
    )  # fmt: skip
    make_topics(env)
    injected = tmp_path / "injections.jsonl"

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    def frauds() -> float:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        found = re.search(r'produced_total\{truth="fraud"\} ([0-9.e+]+)', text)
        return float(found[1]) if found else 0.0

    log = tmp_path / "producer.log"
    with producing(env, log) as process:
        wait_for(lambda: acknowledged(str(port)) > 20, 90, "20 transactions")
        before = frauds()
        started = command(
            "campaign",
            "start",
            "card_testing",
            "--intensity",
            "50",
            "--minutes",
            "2",
            "--name",
            "t1",
        )
        assert started.returncode == 0, started.stderr
        again = command("campaign", "start", "card_testing", "--name", "t1")
        assert again.returncode == 2
        assert "name: t1 was used before" in again.stderr
        wait_for(lambda: frauds() > before + 20, 90, "injected fraud")
        assert command("campaign", "stop", "t1").returncode == 0
        wait_for(lambda: injected.read_bytes().count(b"\n") == 2, 30, "the stop in the log")
        assert "t1" in command("campaign", "list").stdout
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    last = orjson.loads(injected.read_bytes().splitlines()[-1])
    assert last["kind"] == "card_testing"
    assert last["start"] <= last["effective"] < last["stopped"]
    wrong = command("campaign", "start", "nonsense")
    assert wrong.returncode == 2
    assert "kind: expected one of card_testing" in wrong.stderr


def observed_in(log: Path) -> list[dict]:
    """Return what thieves saw, by a log of injections."""
    lines = log.read_bytes().splitlines() if log.exists() else []
    return [one for one in map(orjson.loads, lines) if one["what"] == "observed"]


def test_thieves_of_the_stream_see_what_is_blocked(kafka: str, tmp_path: Path) -> None:
    """A bank blocks everything; the producer notes it, and from when its thieves act upon it."""
    (port,) = free_ports(1, "127.0.0.1")
    env = environment(
        kafka, tmp_path, "adapting", PRODUCER_RATE="20", PRODUCER_CUSTOMERS="2000",
        PRODUCER_PREVALENCE="high", PRODUCER_OPS_PORT=str(port),
    )  # fmt: skip
    make_topics(env)
    injected = tmp_path / "injections.jsonl"
    command = [COMMAND, "drift", "start", "adapting", "--minutes", "5"]
    subprocess.run(command, env=env, check=True, timeout=60, capture_output=True)
    bank_in = KafkaConsumer(
        "adapting-transactions", bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    bank_out = KafkaProducer(bootstrap_servers=kafka)

    def observed() -> list[dict]:
        for records in bank_in.poll(200).values():
            for record in records:
                decision = {**orjson.loads(record.value), "fd": {"outcome": "block"}}
                bank_out.send("adapting-processed", orjson.dumps(decision), record.key)
        return observed_in(injected)

    with producing(env, tmp_path / "producer.log"):
        wait_for(lambda: bool(observed()), 120, "an observation in the log")
    bank_in.close()
    bank_out.close()
    seen = observed_in(injected)[0]["seen"]
    assert seen
    assert all(0 < blocked == decided for blocked, decided in seen.values())
