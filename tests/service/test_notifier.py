"""The notifier between a real Kafka and a real mail server.

- Each blocked transaction that is no duplicate is mailed once; nothing else is.
- Replays, restarts and kill -9 make no second mail (but for the known limit: one, same Message-ID).
- While the mail server is down, reading goes on; when it is back, every mail goes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.builders import a_processed
from tests.service.door import Door
from tests.service.processes import OutputTopic, ServiceProcess, until

pytestmark = pytest.mark.service


class Mailbox:
    """Mails to one recipient, by Mailpit's API."""

    def __init__(self, api_url: str, recipient: str) -> None:
        self._api_url = api_url
        self.recipient = recipient

    def message_ids(self) -> Counter[str]:
        """Count the mails by Message-ID."""
        found: Counter[str] = Counter()
        start = 0
        while True:
            page = self._get(f"/api/v1/messages?start={start}&limit=500")
            for mail in page["messages"]:
                if any(to["Address"] == self.recipient for to in mail["To"]):
                    found[mail["MessageID"]] += 1
            start += 500
            if start >= page["total"]:
                return found

    def subjects(self) -> list[str]:
        """Give the subjects, in no order."""
        page = self._get("/api/v1/messages?limit=5000")
        return [
            mail["Subject"]
            for mail in page["messages"]
            if any(to["Address"] == self.recipient for to in mail["To"])
        ]

    def _get(self, path: str) -> Any:
        return httpx.get(self._api_url + path, timeout=30).raise_for_status().json()


class World:
    """A topic, a mailbox, a way to the mail server, and notifiers on one ledger."""

    def __init__(self, kafka: str, smtp: Any, folder: Path) -> None:
        self.topic = OutputTopic(kafka)
        self.door = Door(smtp.host, smtp.port)
        self.mailbox = Mailbox(smtp.api_url, f"team-{self.topic.name}@example.com")
        self.log = folder / "notifier.log"
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_PROCESSED_TRANSACTIONS": self.topic.name,
            "NOTIFIER_GROUP": f"notifier-of-{self.topic.name}",
            "NOTIFIER_FROM": "Fraudstream <alerts@example.com>",
            "NOTIFIER_TO": self.mailbox.recipient,
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.door.port),
            "STATE_DIR": str(folder / "state"),
            "LOG_FORMAT": "json",
        }

    def notifier(self) -> ServiceProcess:
        return ServiceProcess("notifier", self._env, self.log)


@pytest.fixture
def world(kafka: str, smtp: Any, tmp_path: Path) -> Iterator[World]:
    world = World(kafka, smtp, tmp_path)
    with world.door:
        yield world


def blocks(numbers: Iterable[int]) -> list[bytes]:
    return [a_processed({"event_id": f"evt-{number}"}, offset=number) for number in numbers]


def test_each_block_is_mailed_once(world: World) -> None:
    """Approvals, duplicates and unreadable records are not; a second notifier is turned away."""
    values: list[bytes | None] = [*blocks(range(20)), None, b"{not json", b'{"fd": 1}']
    values += [
        a_processed({"event_id": "evt-approve"}, {"outcome": "approve"}),
        a_processed({"event_id": "evt-review"}, {"outcome": "review"}),
        a_processed({"event_id": "evt-3"}, {"duplicate": True}),
    ]
    with world.notifier() as notifier:
        world.topic.produce(values)
        until(lambda: len(world.mailbox.message_ids()) == 20, "20 mails")
        assert notifier.ready() is None
        refused = "fraudstream_records_refused_total"
        until(lambda: notifier.metric(refused, reason="null_value") == 1, "counting the null")
        assert notifier.metric(refused, reason="not_json") == 1
        with world.notifier() as second:
            assert second._process.wait(30) == 1
        assert "another notifier uses" in world.log.read_text()
        assert notifier.stop() == 0
    assert set(world.mailbox.message_ids().values()) == {1}
    assert {subject.rsplit(" ", 1)[1] for subject in world.mailbox.subjects()} == {
        f"evt-{number}" for number in range(20)
    }


def test_no_log_line_holds_personal_data(world: World) -> None:
    """Not the customer's, and not the recipients'."""
    with world.notifier() as notifier:
        world.topic.produce(blocks(range(3)))
        until(lambda: len(world.mailbox.message_ids()) == 3, "3 mails")
        notifier.stop()
    text = world.log.read_text()
    assert "notifier.email_sent" in text
    for secret in ("070-69-2161", "jasonsnyder", "Dennis", "Zachary", world.mailbox.recipient):
        assert secret not in text


def test_a_replay_mails_nothing_again(world: World) -> None:
    """Within one run, and over a restart."""
    with world.notifier() as notifier:
        world.topic.produce(blocks(range(10)))
        world.topic.produce(blocks(range(10)))
        until(lambda: len(world.mailbox.message_ids()) == 10, "10 mails")
        assert notifier.stop() == 0
    with world.notifier() as notifier:
        world.topic.produce(blocks(range(10)))
        world.topic.produce(blocks([99]))
        until(lambda: len(world.mailbox.message_ids()) == 11, "the new mail")
        until(lambda: notifier.metric("fraudstream_records_consumed_total") == 11, "reading")
        until(lambda: notifier.metric("fraudstream_mail_queue") == 0, "sending")
        assert notifier.stop() == 0
    assert set(world.mailbox.message_ids().values()) == {1}


@pytest.mark.slow
def test_a_killed_notifier_loses_nothing(world: World) -> None:
    """Kill -9 in mid-flow, twice: all mails come, at most one twice per kill (the known limit)."""
    world.topic.produce(blocks(range(400)))
    for at_least in (20, 120):
        with world.notifier() as notifier:
            until(lambda n=at_least: len(world.mailbox.message_ids()) >= n, "some mails")  # type: ignore[misc]
            notifier.kill()
    with world.notifier() as notifier:
        until(lambda: len(world.mailbox.message_ids()) == 400, "all mails", 90)
        assert notifier.stop() == 0
    assert sum(world.mailbox.message_ids().values()) <= 402


def test_an_outage_of_the_mail_server_loses_nothing(world: World) -> None:
    """Alerts wait in the ledger, offsets go on, and the mails go out when it is back."""
    world.door.shut()
    with world.notifier() as notifier:
        world.topic.produce(blocks(range(50)))
        until(lambda: notifier.metric("fraudstream_mail_queue") == 50, "recording")
        until(lambda: "mail server" in (notifier.ready() or ""), "noticing the outage")
        assert notifier.metric("fraudstream_records_consumed_total") == 50
        assert notifier.stop() == 0
    assert not world.mailbox.message_ids()
    with world.notifier() as notifier:
        world.door.open()
        until(lambda: len(world.mailbox.message_ids()) >= 10, "some mails")
        world.door.shut()
        world.door.open()
        until(lambda: len(world.mailbox.message_ids()) == 50, "all mails")
        notifier.wait_ready()
    # Cut off between acceptance and answer, one mail may be repeated.
    assert sum(world.mailbox.message_ids().values()) <= 51
