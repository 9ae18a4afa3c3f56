"""The API on a real broker.

The story of the first test:
- a customer without history is scored;
- their transaction comes down the stream, and the next score knows it;
- the API is stopped, killed, and started again: it still knows it, and what came meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from rich.console import Console

from devstack import artifacts
from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.kafka import kafka as kafka_service
from fraud.contracts.topics import Topic as TopicName
from fraud.decision.scale import ScoreScale
from fraud.features.catalogue import KEYS
from fraud.kafka.topic_follower import TopicFeed
from fraud.runtime.metrics import CONSUMER_LAG
from fraud.security.api_keys import first_key
from model import registry as registry_module
from model.registry import Registry
from scoring_api.follower import Follower
from scoring_api.history import RecentHistory
from scoring_api.snapshot import SnapshotFile
from tests.support.api_processes import Topic, api, settings_of, until
from tests.support.boosters import a_trained_registry, train_booster
from tests.support.builders import a_record
from tests.support.fakes import processed

pytestmark = pytest.mark.service


@pytest.fixture
def topic(kafka: str) -> Topic:
    return Topic(kafka)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_trained_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def env(topic: Topic, registry: Path, tmp_path: Path) -> dict[str, str]:
    return settings_of(topic, registry, tmp_path)


def test_it_knows_what_the_stream_decided_across_restarts(
    topic: Topic, env: dict[str, str], tmp_path: Path
) -> None:
    """See the story above."""
    with api(env) as first:
        assert first.score(entity_id="c-1")["history"]["entity"] == 0
        topic.write(processed(1), processed(2), processed(3, entity="c-2"))
        until(lambda: first.rows() == 2)
        assert first.score(event_id="e-1", entity_id="c-1")["duplicate"] is True
        code, output = first.end(signal.SIGTERM)
        assert code == 0, output
        assert "c-1" not in output
    topic.write(processed(4))
    with api(env) as second:
        assert second.rows() == 3
        # The job restarted: what is known comes again.
        topic.write(processed(1), processed(2), processed(4), processed(5))
        until(lambda: second.rows() == 4)
        snapshot = tmp_path / "scoring_api" / "history.snapshot"
        before = snapshot.stat().st_mtime_ns
        topic.write(processed(6))
        until(lambda: snapshot.stat().st_mtime_ns > before)
        second.end(signal.SIGKILL)
    with api(env) as third:
        assert third.rows() == 5
        assert third.rows("c-2") == 1


def test_rules_are_tried_on_what_was_decided_and_switched_over_rest(
    topic: Topic, env: dict[str, str]
) -> None:
    """And lists with them: the next score is decided by both."""
    topic.write(*(processed(number, entity=f"c-{number % 3}") for number in range(30)))
    rule = {"id": "R1", "when": "$ip_address in @seen", "outcome": "review", "reason": "Seen."}
    with api(env | {"TOPIC_LABELS": topic.control}) as asked:
        made = {"name": "seen", "type": "ip", "use": "reference"}
        asked.http.post("/v1/lists", json=made).raise_for_status()
        entries = {"add": [{"value": "203.0.113.0/24"}]}
        asked.http.post("/v1/lists/seen/entries", json=entries).raise_for_status()
        run = asked.http.post(
            "/v1/rules/test", json={"rules": {"rules": [rule]}}
        ).raise_for_status()

        def tried() -> dict[str, Any] | None:
            now = asked.http.get(f"/v1/rules/test/{run.json()['id']}").raise_for_status().json()
            return None if now["state"] == "running" else now  # type: ignore[no-any-return]

        found = until(tried, 60)
        assert found["state"] == "done", found["detail"]
        assert found["report"]["total"]["transactions"] == 30
        assert found["report"]["by_draft"]["review"]["transactions"] == 30
        drafted = asked.http.post("/v1/rules", json={"rules": [rule]}).raise_for_status().json()
        version = drafted["about"]["version"]
        assert asked.score(entity_id="c-1")["versions"]["rules"] != version
        asked.http.post(f"/v1/rules/{version}/activate", json={}).raise_for_status()
        until(lambda: asked.score(entity_id="c-1")["versions"]["rules"] == version, 10)
        decision = asked.score(entity_id="c-1")
        assert (decision["outcome"], decision["reasons"][0]["text"]) == ("review", "Seen.")
        elsewhere = asked.score(entity_id="c-1", ip_address="198.51.100.1")
        assert elsewhere["outcome"] == "approve"


def test_a_key_made_and_revoked_at_the_command_line_is_so_at_once(env: dict[str, str]) -> None:
    """On a running API, which made its own first key; none of their secrets is logged."""

    def keys(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fraudstream", "keys", *arguments],
            env={**os.environ, **env},
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout.decode().strip()

    with api(env) as asked:
        secret = keys("create", "checkout", "--role", "score").splitlines()[-1]
        bearer = {"Authorization": f"Bearer {secret}"}
        scored = asked.http.post("/v1/score", json=a_record(), headers=bearer)
        assert scored.status_code == 200
        assert asked.http.get("/v1/keys", headers=bearer).status_code == 403
        (key,) = (
            one
            for one in asked.http.get("/v1/keys").raise_for_status().json()["items"]
            if one["name"] == "checkout"
        )
        keys("revoke", key["id"])
        again = asked.http.post("/v1/score", json=a_record(), headers=bearer)
        assert again.status_code == 401
        done = [one["action"] for one in asked.http.get("/v1/audit").json()["items"]]
        assert done == ["key.revoked", "key.created"]
        _, output = asked.end(signal.SIGTERM)
        assert secret not in output
        assert (first_key(asked.state_dir) or "?") not in output
    with api({**env, "API_KEYS": "off"}) as trusting:
        assert httpx.post(f"{trusting.http.base_url}/v1/score", json=a_record()).status_code == 200
        assert trusting.http.get("/v1/keys").status_code == 404


def test_it_refuses_to_start_with_one_line_that_says_why(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And exit code 2: it would be no use to try again."""

    def refusal(**changes: str) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "scoring_api"],
            env={**os.environ, **env, "API_PORT": "0", **changes},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 2, process.stdout
        error = process.stderr.decode()
        assert error.count("\n") == 1
        return error

    assert "no champion" in refusal(MODEL_REGISTRY=str(tmp_path / "empty"))
    assert "API_HISTORY_KEYS" in refusal(API_HISTORY_KEYS="none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(API_PORT=str(port))
    other = tmp_path / "other"
    other.mkdir()
    promoted = Registry(other)
    with monkeypatch.context() as earlier:
        earlier.setattr(registry_module, "FEATURES_HASH", "0123456789abcdef")
        model = promoted.add(
            "fraud", train_booster(), ScoreScale([0.0, 1.0], [0.0, 1000.0]), metrics={}, training={}
        )
        promoted.promote("fraud", model.version)
    assert "does not match the features" in refusal(MODEL_REGISTRY=str(other))


class Following:
    """A follower in a thread, on a topic."""

    def __init__(self, topic: Topic, folder: Path) -> None:
        self._topic = topic
        self._folder = folder
        self._stop = Event()
        self.history = RecentHistory(1000)

    def __enter__(self) -> Following:
        self._feed = TopicFeed(
            self._topic.settings(),
            TopicName.PROCESSED,
            service="scoring_api",
            lag=CONSUMER_LAG.labels("scoring_api"),
        )
        self.follower = Follower(
            self._feed,
            self.history,
            SnapshotFile(self._folder / "history.snapshot"),
            snapshot_s=3600,
        )
        self._thread = Thread(target=self.follower.run, args=[self._stop])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._feed.__exit__()

    def is_ready(self) -> bool:
        """Return whether it caught up."""
        assert self._thread.is_alive()
        return self.follower.waits_for() is None

    def rows(self) -> dict[str, int]:
        """Count the rows of each entity's ring."""
        content = self.history.content()
        return {
            value: len(ring) // KEYS[0].dtype.itemsize for value, ring in content.rings["entity"]
        }


def test_it_waits_for_the_topic(kafka: str, tmp_path: Path) -> None:
    """Not there yet, then there: nobody has to restart anything."""
    topic = Topic(kafka)
    topic.delete()
    with Following(topic, tmp_path) as following:
        until(lambda: "UNKNOWN_TOPIC" in (following.follower.waits_for() or ""))
        topic.create()
        topic.write(processed(1))
        until(following.is_ready)
        until(lambda: following.rows() == {"c-1": 1})


def test_a_topic_made_anew_is_read_anew(topic: Topic, tmp_path: Path) -> None:
    """While it follows, and between two runs."""
    topic.write(*(processed(n) for n in range(5)))
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        assert following.rows() == {"c-1": 5}
        topic.delete()
        topic.create()
        topic.write(*(processed(n, entity="c-2") for n in range(9)))
        until(lambda: following.rows() == {"c-2": 9})
    topic.delete()
    topic.create()
    topic.write(*(processed(n, entity="c-3") for n in range(20)))
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        assert following.rows() == {"c-3": 20}


def test_what_the_topic_forgot_is_not_waited_for(topic: Topic, tmp_path: Path) -> None:
    """Retention passed us while we were down: we go on with what we have and what is left."""
    topic.write(*(processed(n) for n in range(5)), partition=0)
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
    topic.write(*(processed(n) for n in range(5, 9)), partition=0)
    upto = TopicPartition(topic.name, 0, 7)
    topic.admin.delete_records([upto])[upto].result(30)
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        assert following.rows() == {"c-1": 7}


def test_new_partitions_are_found(topic: Topic, tmp_path: Path) -> None:
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        topic.admin.create_partitions([NewPartitions(topic.name, 3)])[topic.name].result(30)
        topic.write(processed(1), partition=2)
        until(lambda: following.rows() == {"c-1": 1})


def test_only_what_is_committed_counts(topic: Topic, tmp_path: Path) -> None:
    """With exactly-once delivery; the marks of transactions are no reason to wait for ever."""
    producer = Producer({"bootstrap.servers": topic.bootstrap, "transactional.id": topic.name})
    producer.init_transactions(30)
    for number, entity, ends in (
        (1, "c-1", producer.commit_transaction),
        (2, "c-2", producer.abort_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic.name, processed(number, entity=entity), partition=0)
        producer.flush(30)
        ends(30)
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        assert following.rows() == {"c-1": 1}
    with Following(topic, tmp_path) as following:
        until(following.is_ready)
        assert following.rows() == {"c-1": 1}


def test_a_broker_that_was_killed_is_followed_on(tmp_path: Path) -> None:
    """It comes back with its data, and the history goes on with nobody's help."""
    port, controller_port = free_ports(2)
    service = kafka_service(
        artifacts.ensure("kafka", Console(stderr=True)),
        tmp_path / "kafka",
        host="127.0.0.1",
        port=port,
        controller_port=controller_port,
        advertised_host="127.0.0.1",
        env=os.environ,
    )
    with ExitStack() as stack:
        with running(service, tmp_path / "logs") as broker:
            topic = Topic(f"127.0.0.1:{port}")
            topic.write(processed(1))
            following = stack.enter_context(Following(topic, tmp_path))
            until(following.is_ready)
            broker.kill()
            broker.wait()
        with running(service, tmp_path / "logs"):
            topic.write(processed(2))
            until(lambda: following.rows() == {"c-1": 2})
            assert following.is_ready()
            stack.close()
