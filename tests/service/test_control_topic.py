"""The control topic on a real broker, as older programs left it and as attackers would.

The story:
- rules and a list from before documents were signed, with versions of 12 digits, are adopted by the next start;
- what somebody writes without the key is refused, and removed by the next change;
- a topic that was made anew is noticed, until a person accepts it as it is.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from fraud.contracts.rules import RuleSet
from tests.support.api_processes import until
from tests.support.command_line import Analyst, environment, make_topics, read_all

pytestmark = pytest.mark.service

RULES = RuleSet.model_validate(
    {"rules": [{"id": "R1", "when": "$ip_address in @bad", "outcome": "review"}]}
)


class Outsider:
    """Somebody who may write to the topic, and lacks the key."""

    def __init__(self, env: dict[str, str]) -> None:
        self.topic = env["TOPIC_FRAUD_CONTROL"]
        self._bootstrap = env["KAFKA_BOOTSTRAP_SERVERS"]

    def write(self, key: str, content: dict[str, object] | None) -> None:
        body = {"author": "eve", "time": "2026-03-01T12:00:00Z", "content": content}
        producer = Producer({"bootstrap.servers": self._bootstrap})
        producer.produce(self.topic, None if content is None else orjson.dumps(body), key)
        assert producer.flush(30) == 0

    def delete(self) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        admin.delete_topics([self.topic])[self.topic].result(30)
        until(lambda: self.topic not in admin.list_topics(timeout=10).topics)

    def last_values(self) -> dict[str, bytes | None]:
        """Return what compaction would leave, by key."""
        return {one.key.decode(): one.value for one in read_all(self._bootstrap, self.topic)}


def test_an_older_topic_is_adopted_and_no_other_document_counts(kafka: str, tmp_path: Path) -> None:
    env = environment(kafka, tmp_path, tmp_path.name.replace("_", "-"))
    make_topics(env)
    outsider, analyst = Outsider(env), Analyst(env)
    entry = {"type": "ip", "use": "reference", "add": [{"value": "203.0.113.7"}]}
    outsider.write("list/bad/c1.1", entry)
    outsider.write(f"rules/active/{RULES.version[:12]}@c2", RULES.model_dump(mode="json"))
    make_topics(env)
    ours = RULES.version[:16]
    assert analyst.versions()[ours] == "ACTIVE"

    analyst.run("lists", "add", "bad", "203.0.113.8")
    assert analyst.run("control", "check").startswith(
        "4 documents, the last is number 2; 0 without"
    )
    outsider.write("rules/active/0123456789ab@c3", {"rules": []})
    outsider.write("list/bad/c1.1", entry | {"add": []})
    assert "2 without a valid signature" in analyst.run("control", "check")
    assert analyst.versions()[ours] == "ACTIVE"


def test_a_lost_topic_decides_nothing_until_it_is_accepted(kafka: str, tmp_path: Path) -> None:
    env = environment(kafka, tmp_path, tmp_path.name.replace("_", "-"))
    make_topics(env)
    outsider, analyst = Outsider(env), Analyst(env)
    shipped = next(iter(analyst.versions()))
    analyst.run("lists", "create", "bad", "--type", "ip")
    outsider.write("rules/active/0123456789ab@c3", {"rules": []})
    analyst.run("lists", "add", "bad", "203.0.113.8")
    assert outsider.last_values()["rules/active/0123456789ab@c3"] is None
    assert analyst.versions() == {shipped: "ACTIVE"}

    outsider.delete()
    make_topics(env)
    told = "has no document signed with this control key, and 3 were"
    assert told in analyst.run("rules", "list", code=2)
    assert told in analyst.run("control", "check", code=1)
    analyst.run("control", "accept")
    assert "the last is number 4" in analyst.run("control", "check")
    assert orjson.loads(analyst.run("lists", "list", "--json")) == []
    analyst.run("lists", "create", "bad", "--type", "ip")
