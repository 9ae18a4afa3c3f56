"""The job on a real cluster and a real broker: exactly-once, and resubmission by the supervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import uuid
import venv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import orjson
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import fraud
from flink_job.checkpoints import retained
from flink_job.cluster import Cluster
from fraud.contracts.dead_letter import MAX_KEY_BYTES, MAX_VALUE_BYTES
from fraud.contracts.transaction import MAX_RECORD_BYTES
from tests.conftest import FlinkCluster
from tests.support.builders import a_registry, a_value

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]

DEADLINE_S = 120


class Job:
    """A supervised job with names of its own, and its topics.

    Args:
        kafka: Bootstrap servers.
        cluster: Where it runs.
        folder: Its state.
        settings: Further settings.
    """

    def __init__(self, kafka: str, cluster: FlinkCluster, folder: Path, **settings: str) -> None:
        self.name = f"job-{uuid.uuid4().hex[:8]}"
        self.kafka = kafka
        self.checkpoints = folder / "checkpoints"
        self.cluster = Cluster(cluster.api_url)
        self.python = sys.executable
        self.env = {
            **os.environ,
            **cluster.env,
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_TRANSACTIONS": f"{self.name}.in",
            "TOPIC_PROCESSED_TRANSACTIONS": f"{self.name}.out",
            "TOPIC_TRANSACTIONS_DLQ": f"{self.name}.dead",
            "TOPIC_LABELS": f"{self.name}.labels",
            "TOPIC_FRAUD_CONTROL": f"{self.name}.control",
            "STATE_DIR": str(folder),
            "MODEL_REGISTRY": str(a_registry(folder / "models")),
            "FLINK_URL": cluster.api_url,
            "FLINK_JOB_NAME": self.name,
            "FLINK_CHECKPOINT_DIR": str(self.checkpoints),
            "FLINK_CHECKPOINT_INTERVAL_S": "1",
            "FLINK_JOB_OPS_PORT": "0",
            "FLINK_RETRY_S": "0.5",
            **settings,
        }

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Create the topics and run the supervisor; the job is cancelled on leaving."""
        subprocess.run([sys.executable, "-m", "fraud.kafka.topics"], env=self.env, check=True)
        # -P: only what is installed for that Python, nothing from the current folder.
        supervisor = subprocess.Popen([self.python, "-P", "-m", "flink_job"], env=self.env)
        try:
            self.wait(
                "the job", lambda: (job := self.cluster.active_job(self.name)) and job.running
            )
            yield
        finally:
            supervisor.terminate()
            supervisor.wait(30)
            self.cancel()

    def cancel(self) -> None:
        """Cancel the job, as somebody may in Flink's web interface."""
        job = self.cluster.active_job(self.name)
        if job is not None:
            url = f"{self.env['FLINK_URL']}/jobs/{job.id}?mode=cancel"
            urlopen(Request(url, method="PATCH"), timeout=10).close()  # noqa: S310 - our own server

    def wait(self, what: str, done: object) -> None:
        """Ask until the answer is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():  # type: ignore[operator]
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
            time.sleep(0.2)

    def send(self, first: int, count: int) -> None:
        """Send events numbered from `first` on."""
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True})
        for number in range(first, first + count):
            value = a_value(event_id=f"e{number}", entity_id=f"c{number % 20}")
            producer.produce(self.env["TOPIC_TRANSACTIONS"], value, f"c{number % 20}")
        assert producer.flush(DEADLINE_S) == 0

    def produce(self, value: bytes) -> None:
        """Send one record without a key."""
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(self.env["TOPIC_TRANSACTIONS"], value)
        assert producer.flush(DEADLINE_S) == 0

    def _partitions(self, topic: str) -> tuple[Consumer, list[TopicPartition]]:
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": self.name})
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return consumer, [TopicPartition(topic, number) for number in numbers]

    def committed(self) -> int:
        """Count the input records that the job's group has committed."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS"])
        found = consumer.committed(partitions, timeout=10)
        consumer.close()
        return sum(max(one.offset, 0) for one in found)

    def dead_letters(self) -> int:
        """Count the dead letters."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS_DLQ"])
        ends = [consumer.get_watermark_offsets(one, timeout=10)[1] for one in partitions]
        consumer.close()
        return sum(ends)

    def letters(self) -> list[Any]:
        """Read all dead letters that are there."""
        consumer, partitions = self._partitions(self.env["TOPIC_TRANSACTIONS_DLQ"])
        for one in partitions:
            one.offset = 0
        consumer.assign(partitions)
        found: list[Any] = []
        count, deadline = self.dead_letters(), time.monotonic() + DEADLINE_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} dead letters were read"
            found += [one for one in consumer.consume(500, 0.5) if one.error() is None]
        consumer.close()
        return found

    def outputs(self, count: int) -> list[dict[str, object]]:
        """Read what is committed until `count` different events are there."""
        topic = self.env["TOPIC_PROCESSED_TRANSACTIONS"]
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[dict[str, object]] = []
        deadline = time.monotonic() + DEADLINE_S
        while len({record["event_id"] for record in found}) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} decisions came out"
            found += [
                orjson.loads(message.value() or b"")
                for message in consumer.consume(500, 0.5)
                if message.error() is None
            ]
        consumer.close()
        return found


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def test_every_codec_is_read_and_a_record_that_is_too_long_unpacked_is_one_dead_letter(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """The broker's limit counts bytes as compressed; no record may stop those that come after it.

    The last batches together are larger than the job's memory once unpacked.
    """
    job = Job(kafka, flink_cluster, tmp_path)
    too_long = a_value(event_id="long", note="x" * 5_000_000)
    too_long_counts = dict.fromkeys(CODECS, 1) | {"none": 0, "zstd": 200}
    with job.supervised():
        for codec in CODECS:
            producer = Producer(
                {
                    "bootstrap.servers": kafka,
                    "compression.type": codec,
                    "message.max.bytes": 20_000_000,
                    "linger.ms": 100,
                }
            )
            for _ in range(too_long_counts[codec]):
                producer.produce(job.env["TOPIC_TRANSACTIONS"], too_long, f"{codec}-long")
                producer.poll(0)
            if codec != "none":
                producer.produce(job.env["TOPIC_TRANSACTIONS"], b"{", codec + "k" * 3_000_000)
                # With the decision it is longer than what may come in.
                rest = MAX_RECORD_BYTES - len(a_value(event_id=f"{codec}-longest", note=""))
                longest = a_value(event_id=f"{codec}-longest", note="x" * rest)
                producer.produce(job.env["TOPIC_TRANSACTIONS"], longest, "c0")
            for number in range(20):
                value = a_value(event_id=f"{codec}-{number}", note="x" * 500)
                producer.produce(job.env["TOPIC_TRANSACTIONS"], value, f"c{number}")
            assert producer.flush(DEADLINE_S) == 0
        outputs = job.outputs(20 * len(CODECS) + len(CODECS) - 1)
        refused = sum(too_long_counts.values()) + len(CODECS) - 1
        job.wait("the dead letters", lambda: job.dead_letters() == refused)
        letters = job.letters()
    assert {str(record["event_id"]).partition("-")[0] for record in outputs} == set(CODECS)
    by_code: dict[bytes, list[Any]] = {}
    for letter in letters:
        by_code.setdefault(dict(letter.headers() or ())["error_code"], []).append(letter)
    assert len(by_code[b"too_large"]) == sum(too_long_counts.values())
    assert len(by_code[b"not_json"]) == len(CODECS) - 1
    for letter in by_code[b"too_large"]:
        headers = dict(letter.headers())
        assert letter.value() == too_long[:MAX_VALUE_BYTES]
        assert headers["original_value_bytes"] == str(len(too_long)).encode()
        assert headers["original_value_sha256"] == sha256(too_long).hexdigest().encode()
    for letter in by_code[b"not_json"]:
        assert letter.value() == b"{"
        assert len(letter.key()) == MAX_KEY_BYTES
        assert int(dict(letter.headers())["original_key_bytes"]) > 3_000_000


def test_the_web_interface_takes_no_jobs_and_cancels_none(flink_cluster: FlinkCluster) -> None:
    """Whoever reaches it may look: jars are run by nobody."""
    with urlopen(f"{flink_cluster.api_url}/config", timeout=10) as answer:  # noqa: S310 - our own
        features = orjson.loads(answer.read())["features"]
    assert (features["web-submit"], features["web-cancel"]) == (False, False)
    upload = Request(f"{flink_cluster.api_url}/jars/upload", data=b"", method="POST")  # noqa: S310
    with pytest.raises(HTTPError) as refused:
        urlopen(upload, timeout=10)  # noqa: S310 - our own server
    refused.value.close()
    assert refused.value.code == 404


def python_workers(cluster: FlinkCluster) -> list[psutil.Process]:
    """Return the workers of all jobs of a cluster."""
    return [
        process
        for process in psutil.process_iter()
        if _is_worker(process) and cluster.env["FLINK_CONF_DIR"] in _environment(process)
    ]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("beam_boot" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _environment(process: psutil.Process) -> str:
    try:
        return " ".join(process.environ().values())
    except psutil.Error:
        return ""


def test_exactly_once_publishes_each_decision_once_through_a_kill(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """Readers with read_committed see no repetition."""
    job = Job(kafka, flink_cluster, tmp_path, FLINK_DELIVERY="exactly-once")
    with job.supervised():
        job.send(0, 500)
        job.outputs(500)
        job.send(500, 500)
        for worker in python_workers(flink_cluster):
            worker.kill()
        job.send(1000, 500)
        counted = Counter(record["event_id"] for record in job.outputs(1500))
    assert len(counted) == 1500
    assert set(counted.values()) == {1}


def test_a_cancelled_job_is_submitted_again_with_its_history(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """From its newest checkpoint: nothing is lost, and customers are not strangers again."""
    job = Job(kafka, flink_cluster, tmp_path)
    with job.supervised():
        job.send(0, 200)
        job.outputs(200)
        first = job.cluster.active_job(job.name)
        assert first is not None
        done = time.time()
        job.wait("a checkpoint of it all", lambda: _newest(job) > done + 0.1)
        job.cancel()
        job.wait(
            "another job",
            lambda: (
                (now := job.cluster.active_job(job.name)) and now.running and now.id != first.id
            ),
        )
        job.send(200, 20)
        outputs = job.outputs(220)
    late = [record["fd"] for record in outputs if int(str(record["event_id"])[1:]) >= 200]
    assert [decision["history"]["entity"] for decision in late] == [10] * 20  # type: ignore[index]


def an_earlier_version(folder: Path, *changes: tuple[str, str]) -> str:
    """Install another version of the project, with other declarations in its catalogue.

    Returns:
        Its Python.
    """
    root = Path(fraud.__file__).parent.parent
    installed = folder / "installed"
    for package in ("fraud", "flink_job", "model"):
        shutil.copytree(root / package, installed / package)
    catalogue = installed / "fraud" / "features" / "catalogue.py"
    text = catalogue.read_text()
    for now, then in changes:
        assert now in text
        text = text.replace(now, then)
    catalogue.write_text(text)
    # The shipped rules ask for features that were not declared yet.
    (installed / "fraud" / "decision" / "default_rules.toml").write_text("rules = []\n")
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Added as it is: its own .pth files, such as that of the project, are not read.
    (packages / "earlier.pth").write_text(f"{installed}\n{sysconfig.get_path('purelib')}\n")
    return str(folder / "venv" / "bin" / "python")


def test_another_layout_rebuilds_the_history_and_publishes_nothing_again(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """An upgrade that remembers more: customers keep their history, a new key gets one."""
    job = Job(kafka, flink_cluster, tmp_path)
    now = dict(job.env)
    job.python = an_earlier_version(
        tmp_path,
        ('*_of_shared(_MERCHANT, "this merchant"),', ""),
        ("for key in (_ENTITY, _IP, _MERCHANT)", "for key in (_ENTITY, _IP)"),
        ('        "email_address",\n', ""),
    )
    models = tmp_path / "earlier"
    script = (
        "import sys; from pathlib import Path; sys.path.append(sys.argv[2]); "
        "from tests.support.builders import a_registry; a_registry(Path(sys.argv[1]))"
    )
    root = Path(fraud.__file__).parent.parent
    subprocess.run([job.python, "-P", "-c", script, str(models), str(root)], check=True)
    job.env["MODEL_REGISTRY"] = str(models)
    with job.supervised():
        job.send(0, 200)
        job.produce(b"{")
        earlier = job.outputs(200)
        job.wait("the committed offsets", lambda: job.committed() == 201)
    job.env, job.python = now, sys.executable
    with job.supervised():
        job.send(200, 20)
        outputs = job.outputs(220)
        done = time.time()
        job.wait("a checkpoint of it all", lambda: _newest(job) > done + 0.1)
        dead = job.dead_letters()
    assert "merchant" not in earlier[0]["fd"]["history"]  # type: ignore[index]
    sources = [(fd["source"]["partition"], fd["source"]["offset"]) for fd in map(_fd, outputs)]
    assert len(sources) == len(set(sources)) == 220
    assert dead == 1
    late = [_fd(record) for record in outputs if int(str(record["event_id"])[1:]) >= 200]
    assert [decision["history"]["entity"] for decision in late] == [10] * 20
    assert {decision["history"]["merchant"] for decision in late} == {31}


def _fd(record: dict[str, object]) -> dict[str, Any]:
    return record["fd"]  # type: ignore[return-value]


def _newest(job: Job) -> float:
    checkpoints = [one for layout in job.checkpoints.glob("layout-*") for one in retained(layout)]
    try:
        return max(((one / "_metadata").stat().st_mtime for one in checkpoints), default=0.0)
    except FileNotFoundError:
        return 0.0
