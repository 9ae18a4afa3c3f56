"""Models, rules and lists are switched while the job and the API decide.

The story:
- both decide by the registry's champion, under a steady load;
- a broken document, and one of a model that is not there, change nothing and are counted;
- a promotion switches both, and so do rules and an entry on a block list;
- each record is decided once, and computed again from what it names it comes out the same;
- workers that are killed come up with the new champion; a rollback switches both again.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fraud.backtest.recheck import Recheck, Rechecked
from fraud.backtest.runner import BacktestRunner
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import RuleSet
from fraud.contracts.versions import shown
from fraud.decision.scale import ScoreScale
from fraud.kafka.control import ControlPublisher
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import SeenPublisher, follow_policy
from fraud.runtime.settings import KafkaSettings
from model.registry import Registry
from tests.support.api_processes import Api, api, until
from tests.support.boosters import train_booster
from tests.support.builders import a_record, a_value
from tests.support.editing import an_editor
from tests.support.jobs import Job, python_workers
from tests.support.servers import FlinkCluster

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]

_PAUSE_S = 0.01
_PER_PAUSE = 3
RULES = RuleSet.model_validate(
    {
        "rules": [
            {"id": "R1", "when": "$score >= 950", "outcome": "block"},
            {"id": "R2", "when": "$amount_base > 90 and $entity_tx_count_1h >= 2", "outcome": "review", "reason": "Much."},
        ]
    }
)  # fmt: skip


class Load:
    """About 300 transactions a second on the stream, and 100 requests a second, in threads."""

    def __init__(self, job: Job, asked: Api) -> None:
        self._job = job
        self._api = asked
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._ask)]
        self.sent = 0
        self.asked: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.failure: BaseException | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep it up inside of the context."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        if self.failure is not None:
            raise self.failure

    def _send(self) -> None:
        producer = Producer({"bootstrap.servers": self._job.kafka, "enable.idempotence": True})
        while not self._stop.wait(_PAUSE_S):
            for _ in range(_PER_PAUSE):
                entity = f"c{self.sent % 20}"
                value = a_value(
                    event_id=f"e{self.sent}", entity_id=entity, transaction_amt=self.sent % 97 + 1.0
                )
                producer.produce(self._job.env["TOPIC_TRANSACTIONS"], value, entity)
                self.sent += 1
        assert producer.flush(60) == 0

    def _ask(self) -> None:
        try:
            while not self._stop.wait(_PAUSE_S):
                number = len(self.answers)
                changes = {"event_id": f"asked-{number}", "entity_id": f"c{number % 20}"}
                answer = self._api.score(**changes)
                self.answers.append(answer)
                source = {"topic": "rest", "partition": 0, "offset": number, "timestamp_ms": 0}
                self.asked.append(a_record(**changes) | {"fd": answer | {"source": source}})
        except BaseException as failure:  # raised again by the test's own thread
            self.failure = failure


def settings_of(job: Job) -> KafkaSettings:
    """Return settings that lead to the job's control topic, with its key."""
    return KafkaSettings(
        kafka_bootstrap_servers=job.kafka,
        topic_fraud_control=job.env["TOPIC_FRAUD_CONTROL"],
        state_dir=Path(job.env["STATE_DIR"]),
    )


def models_of(decisions: Sequence[dict[str, Any]]) -> list[str]:
    return [decision["model"]["version"] for decision in decisions]


def recomputed(job: Job, records: Sequence[Mapping[str, Any]]) -> Rechecked:
    """Compute decisions again from the versions that they name."""
    registry = Registry(Path(job.env["MODEL_REGISTRY"]))
    settings = settings_of(job)
    documents = BacktestRunner(settings).control_documents()
    again = Recheck(documents, lambda ref: registry.load(ref.name, ref.version))
    again.add([orjson.dumps(record) for record in records])
    return again.result()


@contextmanager
def an_open_editor(job: Job) -> Iterator[PolicyEditor]:
    settings = settings_of(job)
    with follow_policy(settings, service="test", stop=threading.Event()) as policy_state:
        policy_state.wait_ready()
        yield an_editor(
            SeenPublisher(ControlPublisher(settings), policy_state), policy_state.current
        )


def switched_ms(job: Job) -> int:
    """Return Kafka's timestamp of the last control document."""
    topic = job.env["TOPIC_FRAUD_CONTROL"]
    consumer = Consumer({"bootstrap.servers": job.kafka, "group.id": "looker"})
    try:
        partition = TopicPartition(topic, 0)
        _, end = consumer.get_watermark_offsets(partition, timeout=10)
        consumer.assign([TopicPartition(topic, 0, end - 1)])
        message = until(lambda: consumer.poll(1.0))
        return int(message.timestamp()[1])
    finally:
        consumer.close()


def model_command(job: Job, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "model", *arguments], env=job.env, check=True)


def stream_decides_by(job: Job, load: Load, version: str) -> bool:
    decisions = [record["fd"] for record in job.outputs(load.sent)]
    return version in models_of(decisions)  # type: ignore[arg-type]


def metric(asked: Api, name: str) -> list[str]:
    lines = asked.http.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith(f"{name}{{")]


def test_a_promotion_switches_stream_and_rest_under_load(
    kafka: str,
    flink_cluster: FlinkCluster,
    tmp_path: Path,
    record_property: pytest.RecordProperty,
) -> None:
    """See the story above."""
    job = Job(kafka, flink_cluster, tmp_path)
    registry = Registry(Path(job.env["MODEL_REGISTRY"]))
    old = shown(registry.champion_ref().version)
    added = registry.add(
        "second", train_booster(), ScoreScale([0, 0.5, 1], [0, 900, 1000]), metrics={}, training={}
    )
    new = shown(added.version)
    with job.supervised(), api(job.env) as asked:
        load = Load(job, asked)
        with load.running():
            until(lambda: load.sent > 300 and len(load.answers) > 50)
            job.outputs(300)
            absent = orjson.dumps(
                {
                    "author": "ada",
                    "time": "2026-03-01T12:00:00Z",
                    "content": {"name": "second", "version": "abc123"},
                }
            )
            producer = Producer({"bootstrap.servers": kafka})
            for key, value in (
                ("model/champion/abc123", absent),
                ("model/champion/0", b"{"),
                ("campaign/card_testing/1", b"of no concern"),
            ):
                producer.produce(job.env["TOPIC_FRAUD_CONTROL"], value, key)
            assert producer.flush(30) == 0
            until(
                lambda: any(
                    line.endswith(" 2.0")
                    for line in metric(asked, "fraudstream_control_refused_total")
                )
            )
            before = load.sent
            until(lambda: load.sent > before + 100)
            assert set(models_of(load.answers)) == {old}
            model_command(job, "promote", f"second@{new}", "--force")
            until(lambda: load.answers[-1]["model"]["version"] == new, 10)
            until(lambda: stream_decides_by(job, load, new), 30)
            with an_open_editor(job) as editor:
                editor.make_list("bad", ListType.ENTITY, ListUse.BLOCK)
                rules = editor.draft(RULES).version
                editor.activate(rules)
                until(lambda: load.answers[-1]["versions"]["rules"] == shown(rules), 10)
                editor.change_list("bad", add=[ListEntry(value="c3")])
            until(lambda: any(answer["lists"] for answer in load.answers[-40:]), 10)
            until(lambda: any(one["fd"]["lists"] for one in job.outputs(load.sent)), 30)  # type: ignore[index,call-overload]
            before = load.sent
            until(lambda: load.sent > before + 300)
        records = job.outputs(load.sent)
        decisions: list[dict[str, Any]] = [record["fd"] for record in records]  # type: ignore[misc]
        told = Counter(record["event_id"] for record in records)
        assert set(told.values()) == {1}
        assert len(told) == load.sent
        assert {old, new} == set(models_of(decisions)) == set(models_of(load.answers))
        for some in (records, load.asked):
            found = recomputed(job, some)
            assert found.computed == len(some)
            assert found.holds, found.examples
            assert len(found.policies) >= 4
        blocked = [one for one in records if one["fd"]["lists"]]  # type: ignore[index,call-overload]
        assert {(one["entity_id"], one["fd"]["outcome"]) for one in blocked} == {("c3", "block")}  # type: ignore[index,call-overload]
        # Once switched, nothing is decided by the old one.
        for ordered in (
            sorted(decisions, key=lambda one: (one["scored_at"], one["model"]["version"] == new)),
            load.answers,
        ):
            seen = models_of(ordered)
            assert seen == [old] * seen.count(old) + [new] * seen.count(new)
        at_ms = switched_ms(job)
        for what, some in (("stream", decisions), ("rest", load.answers)):
            first = min(one["scored_at"] for one in some if one["model"]["version"] == new)
            taken_s = datetime.fromisoformat(first).timestamp() - at_ms / 1000
            record_property(f"{what}_switch_s", taken_s)
            print(f"{what} switched after {taken_s:.3f} s; decisions: {len(some)}")  # noqa: T201
        assert f'version="{new}"' in metric(asked, "fraudstream_model_in_use")[0]

        for worker in python_workers(flink_cluster):
            worker.kill()
        job.send(100_000, 50)
        after = [
            record["fd"]
            for record in job.outputs(load.sent + 50)
            if int(str(record["event_id"])[1:]) >= 100_000
        ]
        assert set(models_of(after)) == {new}  # type: ignore[arg-type]

        model_command(job, "rollback")
        until(lambda: asked.score()["model"]["version"] == old, 10)
        sent = 0

        def stream_is_back() -> bool:
            nonlocal sent
            job.send(200_000 + sent, 1)
            sent += 1
            outputs = job.outputs(load.sent + 50 + sent)
            return (
                old
                in models_of(
                    [
                        record["fd"]  # type: ignore[misc]
                        for record in outputs
                        if int(str(record["event_id"])[1:]) >= 200_000
                    ]
                )
            )

        until(stream_is_back, 30)
