"""Past decisions looked at from the command line, on a real broker.

The story of an analyst:
- two thousand decisions are made and published while rules, a list and models are switched; some are
  published twice, some are labelled;
- a draft is tried on them, with more entries on a list, as a table and as JSON; nothing changes;
- a challenger is switched on and off; what it decided is compared with what was decided;
- every decision is computed again and comes out the same; one that was altered is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from fraud.contracts.control import ControlDocument
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.topics import Topic
from fraud.contracts.versions import shown
from fraud.decision.scale import ScoreScale
from fraud.kafka.control import ControlPublisher
from fraud.kafka.range_reader import CannotRead, Stopped, TopicSpan
from fraud.runtime.settings import KafkaSettings
from fraudstream.cli import app
from model.registry import Registry
from tests.support.builders import an_amount_booster
from tests.support.command_line import Analyst, environment, make_topics
from tests.support.past import World, decided, transactions, two_rules

pytestmark = pytest.mark.service

DRAFT = """
[[rules]]
id = "D1"
when = "$score >= 600"
outcome = "review"

[[rules]]
id = "D2"
when = "$ip_address in @seen"
outcome = "block"
"""


def settings_of(env: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_processed_transactions=env["TOPIC_PROCESSED_TRANSACTIONS"],
        topic_labels=env["TOPIC_LABELS"],
        topic_fraud_control=env["TOPIC_FRAUD_CONTROL"],
        state_dir=Path(env["STATE_DIR"]),
    )


def write(env: dict[str, str], topic: str, values: Iterable[bytes], key: str) -> None:
    producer = Producer({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]})
    for value in values:
        producer.produce(env[topic], value, orjson.loads(value)[key])
    assert producer.flush(60) == 0


class Looker(Analyst):
    """An analyst whose programs read what commands print."""

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run a command, expect its exit code, and read what it printed, progress left out."""
        asked = [*map(str, arguments), "--json"]
        made = CliRunner().invoke(app, asked, env=self._env)
        assert made.exit_code == code, made.output
        return orjson.loads(made.stdout)


def two_models(folder: Path) -> tuple[Registry, list[str]]:
    """Make a registry with two models, of which the first is the champion; give their versions."""
    registry = Registry(folder)
    scale = ScoreScale([0, 0.5, 1], [0, 900, 1000])
    versions = [
        registry.add("fraud", an_amount_booster(seed), scale, metrics={}, training={}).version
        for seed in (7, 8)
    ]
    registry.promote("fraud", versions[0])
    return registry, versions


def test_an_analyst_looks_at_past_decisions(kafka: str, tmp_path: Path) -> None:
    """See the story above."""
    name = tmp_path.name.replace("_", "-")
    env = environment(kafka, tmp_path, name, MODEL_REGISTRY=str(tmp_path / "models"))
    make_topics(env)
    registry, (old, new) = two_models(tmp_path / "models")
    analyst = Looker(env)
    publisher = ControlPublisher(settings_of(env))
    published: list[ControlDocument] = []

    def follow(world: World) -> None:
        for document in world.topic.documents[len(published) :]:
            publisher.publish(document)
            published.append(document)

    world = World(registry)
    values = list(decided(transactions(2_000), world.engine({
        20: lambda editor: editor.make_list("seen", ListType.IP, ListUse.REFERENCE),
        30: lambda editor: editor.change_list("seen", add=[ListEntry(value="203.0.113.0/28")]),
        40: lambda editor: editor.activate(editor.draft(two_rules("$score > 500", "seen")).version),
        60: lambda editor: editor.challenge_model(registry.find(f"fraud@{shown(new)}")),
        90: lambda editor: editor.challenge_rules(editor.draft(two_rules("$score > 700", "seen")).version),
        110: lambda editor: editor.change_list("seen", add=[ListEntry(value="203.0.113.16/28")]),
    })))  # fmt: skip
    follow(world)
    write(env, "TOPIC_PROCESSED_TRANSACTIONS", [*values, *values[500:600]], "entity_id")
    records = [orjson.loads(value) for value in values]
    scores = sorted(record["fd"]["score"] for record in records)
    fraud = {record["event_id"] for record in records if record["fd"]["score"] > scores[1_500]}
    labels = [
        orjson.dumps({"event_id": record["event_id"], "label": "fraud" if record["event_id"] in fraud else "legitimate", "label_time": "2026-03-02T00:00:00Z", "source": "analyst"})
        for record in records[::2]
    ]  # fmt: skip
    write(env, "TOPIC_LABELS", labels, "event_id")

    file = tmp_path / "draft.toml"
    file.write_text(DRAFT)
    before = analyst.run("rules", "list", "--json")
    report = analyst.json("rules", "test", file)
    assert (report["period"]["judged"], report["period"]["repeated"]) == (2_000, 100)
    told = Counter(record["fd"]["outcome"] for record in records)
    assert {name: tally["transactions"] for name, tally in report["decided"].items()} == {
        name: told[name] for name in ("approve", "review", "block")
    }
    assert report["rules"][0]["hits"]["transactions"] == sum(
        record["fd"]["score"] >= 600 for record in records
    )
    assert report["total"]["fraud"] == len(
        fraud & {orjson.loads(one)["event_id"] for one in labels}
    )
    assert report["total"]["fraud"] + report["total"]["legitimate"] == 1_000
    more = tmp_path / "more.txt"
    more.write_text("203.0.113.32/27\n")
    tried = analyst.json("rules", "test", file, "--entries", f"seen={more}")
    assert tried["rules"][1]["hits"]["transactions"] > report["rules"][1]["hits"]["transactions"]
    table = analyst.run("rules", "test", file, "--days", "1", "--limit", "400")
    assert "rules of the draft" in table
    assert "D2@1" in table
    assert analyst.run("rules", "list", "--json") == before
    refused = analyst.run("rules", "test", file, "--entries", "nobody=x", code=2)
    assert "unknown list: nobody" in refused

    compared = analyst.json("compare")
    assert sum(one["decisions"] for one in compared["combinations"]) == 2_000 - 60 * 16
    assert {one["challenger"] for one in compared["combinations"]} == {f"fraud@{shown(new)}"}
    assert {one["champion"] for one in compared["combinations"]} == {f"fraud@{shown(old)}"}
    assert all(one["quality"]["labelled"] for one in compared["combinations"])
    assert "where labels are known" in analyst.run("compare")
    assert "no rules challenge" in analyst.run("challenge", "rules", "none")
    assert "no model challenges" in analyst.run("challenge", "model", "none")
    assert f"challenger: fraud@{shown(new)}" in analyst.run(
        "challenge", "model", f"fraud@{shown(new)}"
    )
    assert "unknown version of the rules: 000000000000" in analyst.run(
        "challenge", "rules", "000000000000", code=2
    )
    assert "nothing" in analyst.run("challenge", "model", "nothing", code=2)

    assert "2,100 computed again, 0 differ" in " ".join(analyst.run("recheck").split())
    altered = orjson.loads(values[7])
    altered["fd"]["score"] = 1 + altered["fd"]["score"] % 900
    write(env, "TOPIC_PROCESSED_TRANSACTIONS", [orjson.dumps(altered)], "entity_id")
    found = analyst.json("recheck", code=1)
    assert found["by_field"]["score"] == 1


def test_a_span_ends_where_the_topic_ended(kafka: str, tmp_path: Path) -> None:
    """What is written while it is read is not read; it can be stopped; no broker is an error."""
    env = environment(kafka, tmp_path, tmp_path.name.replace("_", "-"))
    make_topics(env)
    settings = settings_of(env)
    with TopicSpan(settings, Topic.LABELS, service="test") as empty:
        assert list(empty.batches()) == []
    write(env, "TOPIC_LABELS", [b'{"event_id":"%d"}' % at for at in range(100)], "event_id")
    with TopicSpan(settings, Topic.LABELS, service="test") as span:
        write(env, "TOPIC_LABELS", [b'{"event_id":"later"}'], "event_id")
        progress: list[tuple[int, int]] = []
        values = [
            one for batch in span.values(lambda *told: progress.append(told)) for one in batch
        ]
        assert values == [b'{"event_id":"%d"}' % at for at in range(100)]
        assert (progress[0], progress[-1]) == ((0, 100), (100, 100))
    with TopicSpan(settings, Topic.LABELS, latest=10, service="test") as some:
        assert sum(map(len, some.batches())) == 10
    with TopicSpan(settings, Topic.LABELS, since_ms=4_000_000_000_000, service="test") as none:
        assert list(none.batches()) == []
    stop = Event()
    stop.set()
    with TopicSpan(settings, Topic.LABELS, service="test") as span, pytest.raises(Stopped):
        list(span.batches(stop))
    missing = settings.model_copy(update={"topic_labels": "no-such-topic"})
    with pytest.raises(CannotRead, match="has no topic no-such-topic"):
        TopicSpan(missing, Topic.LABELS, service="test")
