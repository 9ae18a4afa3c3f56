"""The job on a real cluster and a real broker: exactly-once, and resubmission by the supervisor."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from zipfile import ZipFile

import orjson
import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

import fraud
from devstack.ports import free_ports
from flink_job.checkpoints import retained
from fraud.contracts.dead_letter import MAX_KEY_BYTES, MAX_VALUE_BYTES
from fraud.contracts.transaction import MAX_RECORD_BYTES
from fraud.runtime.settings import KafkaSettings
from tests.support.builders import a_value
from tests.support.jobs import DEADLINE_S, Job, python_workers
from tests.support.servers import FlinkCluster

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


GIVEN_HEADERS = [
    ("a", b"1"),
    ("a", b"2"),
    ("binary", b"\xff"),
    ("null", None),
    ("error_code", b"x"),
]
KEPT_HEADERS = {"a": b"2", "binary": b"\xff"}
"""What the connector carries: of a repeated name the last value, and none that is null."""


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
        producer.produce(job.env["TOPIC_TRANSACTIONS"], b"[]", headers=GIVEN_HEADERS)
        passed = a_value(event_id="zstd-headers")
        producer.produce(job.env["TOPIC_TRANSACTIONS"], passed, headers=GIVEN_HEADERS)
        assert producer.flush(DEADLINE_S) == 0
        outputs = job.outputs(20 * len(CODECS) + len(CODECS))
        refused = sum(too_long_counts.values()) + len(CODECS)
        job.wait("the dead letters", lambda: job.dead_letters() == refused)
        letters = job.letters()
    assert {str(record["event_id"]).partition("-")[0] for record in outputs} == set(CODECS)
    by_code: dict[bytes, list[Any]] = {}
    for letter in letters:
        by_code.setdefault(dict(letter.headers() or ())["error_code"], []).append(letter)
    assert set(by_code) == {b"too_large", b"not_an_object"}
    (with_headers,) = by_code[b"not_an_object"]
    headers = dict(with_headers.headers())
    assert {name: headers[name] for name in KEPT_HEADERS} == KEPT_HEADERS
    assert "null" not in headers
    letters = by_code[b"too_large"]
    long_keys = [letter for letter in letters if letter.value() == b"{"]
    long_values = [letter for letter in letters if letter.value() != b"{"]
    assert len(long_values) == sum(too_long_counts.values())
    assert len(long_keys) == len(CODECS) - 1
    for letter in long_values:
        headers = dict(letter.headers())
        assert letter.value() == too_long[:MAX_VALUE_BYTES]
        assert headers["original_value_bytes"] == str(len(too_long)).encode()
        assert headers["original_value_sha256"] == sha256(too_long).hexdigest().encode()
    for letter in long_keys:
        assert len(letter.key()) == MAX_KEY_BYTES
        assert int(dict(letter.headers())["original_key_bytes"]) > 3_000_000


def test_a_record_that_the_client_cannot_hold_is_named_and_stepped_over(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """All before it is decided, it is a dead letter, and what shares its batch is not lost.

    One client writes a record of 400 MB, compressed, between two others of its batch. The job fails
    at it for ever, until somebody steps over it as `make status` asks.
    """
    (port,) = free_ports(1, "127.0.0.1")
    job = Job(kafka, flink_cluster, tmp_path, FLINK_JOB_OPS_PORT=str(port))
    topic = job.env["TOPIC_TRANSACTIONS"]
    with job.supervised():
        job.send(0, 100)
        job.outputs(100)
        writer = Producer({
            "bootstrap.servers": kafka,
            "compression.type": "zstd",
            "message.max.bytes": 1_000_000_000,
            "batch.size": 1_000_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "linger.ms": 5000,
        })  # fmt: skip
        places: dict[str, int] = {}

        def delivered(name: str) -> Any:
            return lambda error, message: places.update({name: error or message.offset()})

        before, behind = (a_value(event_id=name, entity_id="c0") for name in ("before", "behind"))
        unpacked = a_value(event_id="bomb", note="x" * 400_000_000)
        for name, value in (("before", before), ("bomb", unpacked), ("behind", behind)):
            writer.produce(topic, value, "c0", partition=0, on_delivery=delivered(name))
        del unpacked
        assert writer.flush(DEADLINE_S) == 0
        assert places["behind"] == places["bomb"] + 1 == places["before"] + 2
        job.send(100, 100)
        place = f"partition 0, offset {places['bomb']}"
        job.wait("its name", lambda: f"unreadable record at {place}" in _health(port))
        step = [sys.executable, "-P", "-m", "fraudstream", "dlq", "step-over", "0"]
        wrong = subprocess.run([*step, "3"], env=job.env, capture_output=True, text=True)
        assert wrong.returncode == 1
        assert place in wrong.stderr
        subprocess.run([*step, str(places["bomb"])], env=job.env, check=True)
        outputs = job.outputs(201)
        job.wait("its health", lambda: _health(port) == "ready")
        replay = [
            sys.executable,
            "-P",
            "-m",
            "fraudstream",
            "dlq",
            "replay",
            "--code",
            "unreadable",
        ]
        subprocess.run(replay, env=job.env, check=True)
        outputs = job.outputs(202)
        letters = job.letters()
    events = {str(record["event_id"]) for record in outputs}
    assert events == {f"e{number}" for number in range(200)} | {"before", "behind"}
    by_offset = {int(dict(letter.headers())["source_offset"]): letter for letter in letters}
    assert by_offset.keys() == {places["bomb"], places["behind"]}
    assert by_offset[places["bomb"]].value() is None
    assert by_offset[places["behind"]].value() == behind
    for letter in letters:
        headers = dict(letter.headers())
        assert headers["error_code"] == b"unreadable"
        assert (headers["source_topic"], headers["source_partition"]) == (topic.encode(), b"0")


def _health(port: int) -> str:
    """Return why the supervisor is not ready, or `ready`."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10):
            return "ready"
    except HTTPError as error:
        with error:
            return error.read().decode()


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


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_connector_has_the_login_module_that_the_settings_name(
    flink_cluster: FlinkCluster, mechanism: str
) -> None:
    settings = KafkaSettings(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism=mechanism,
        kafka_sasl_username="u",
        kafka_sasl_password=SecretStr("p"),
    )
    module = settings.java_client()["sasl.jaas.config"].partition(" ")[0]
    with ZipFile(flink_cluster.kafka_connector_jar) as jar:
        assert f"{module.replace('.', '/')}.class" in jar.namelist()


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


def test_a_restore_without_checkpoints_rebuilds_the_history(
    kafka: str, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """A backup has no checkpoints: the next decision of a customer is as if nothing had happened.

    Exactly once, also of what was in a transaction when the job ended.
    """
    job = Job(kafka, flink_cluster, tmp_path, FLINK_DELIVERY="exactly-once")
    with job.supervised():
        job.send(0, 210)  # half of the customers have one more
        job.outputs(210)
        job.wait("the committed offsets", lambda: job.committed() == 210)
        job.send(210, 5)
    shutil.rmtree(job.checkpoints)
    with job.supervised():
        job.send(215, 5)
        outputs = job.outputs(220)
        done = time.time()
        job.wait("a checkpoint of it all", lambda: _newest(job) > done + 0.1)
        outputs = job.outputs(220)
    by_event = {str(record["event_id"]): _fd(record) for record in outputs}
    assert len(outputs) == len(by_event) == 220

    def of_entity(event_id: str) -> dict[str, object]:
        features = by_event[event_id]["features"]
        return {name: value for name, value in features.items() if name.startswith("entity_")}

    # Customers differ by name alone.
    assert of_entity("e215") == of_entity("e205")
    assert by_event["e215"]["history"]["entity"] == by_event["e205"]["history"]["entity"] == 10


def _fd(record: dict[str, object]) -> dict[str, Any]:
    return record["fd"]  # type: ignore[return-value]


def _newest(job: Job) -> float:
    layouts = job.checkpoints.glob("*/layout-*")
    times_ms = [found.completed_ms for layout in layouts for found in retained(layout)]
    return max(times_ms, default=0) / 1000
