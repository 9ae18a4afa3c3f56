"""The notifier between a real Kafka, a real mail server and a real HTTP server.

- Each blocked transaction, except duplicates, is sent once to each recipient, and nothing else.
- Several alerts of one entity become a digest; a flood becomes a summary; everything is accounted for.
- Replays, restarts and kill -9 make no second mail (but for the known limit: one, same Message-ID).
- While a server is down, reading goes on; when it is back, every message goes out.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from devstack.ports import free_ports
from devstack.process import running
from devstack.servers.mail import mail as mail_service
from tests.support.builders import a_processed
from tests.support.gate import Gate
from tests.support.processes import OutputTopic, ServiceProcess, until
from tests.support.receiver import Receiver

pytestmark = pytest.mark.service

UNTOLD = "fraudstream_alerts_untold"


class Mailbox:
    """Mails to one recipient, by Mailpit's API."""

    def __init__(self, api_url: str, recipient: str) -> None:
        self._api_url = api_url
        self.recipient = recipient
        self._known: dict[str, list[str]] = {}

    def _listed(self) -> list[dict[str, Any]]:
        # By id: a message that comes meanwhile moves the pages, newest first.
        found: dict[str, dict[str, Any]] = {}
        start = 0
        while True:
            page = self._get(f"/api/v1/messages?start={start}&limit=500")
            found |= {mail["ID"]: mail for mail in page["messages"]}
            start += 500
            if start >= page["total"]:
                return [
                    mail
                    for mail in found.values()
                    if any(to["Address"] == self.recipient for to in mail["To"])
                ]

    def message_ids(self) -> Counter[str]:
        """Count the mails by Message-ID."""
        return Counter(mail["MessageID"] for mail in self._listed())

    def subjects(self) -> list[str]:
        """Return the subjects, in no order."""
        return [mail["Subject"].strip() for mail in self._listed()]

    def events(self) -> dict[str, list[str]]:
        """Return the events that each mail tells of, by Message-ID; repeats of a mail count once."""
        found = {}
        for mail in self._listed():
            if mail["ID"] not in self._known:
                text = self._get(f"/api/v1/message/{mail['ID']}")["Text"]
                self._known[mail["ID"]] = re.findall(r"^ *Event: +(\S+)\r?$", text, re.MULTILINE)
            found[mail["MessageID"]] = self._known[mail["ID"]]
        return found

    def told(self) -> Counter[str]:
        """Count in how many mails each event is."""
        return Counter(event for events in self.events().values() for event in events)

    def _get(self, path: str) -> Any:
        return httpx.get(self._api_url + path, timeout=30).raise_for_status().json()


class World:
    """A topic, a mailbox, a way to the mail server, and notifiers on one ledger."""

    def __init__(self, kafka: str, smtp: Any, folder: Path) -> None:
        self.topic = OutputTopic(kafka)
        self.gate = Gate(smtp.host, smtp.port)
        self.mailbox = Mailbox(smtp.api_url, f"team-{self.topic.name}@example.com")
        self.folder = folder
        self.log = folder / "notifier.log"
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "TOPIC_PROCESSED_TRANSACTIONS": self.topic.name,
            "NOTIFIER_GROUP": f"notifier-of-{self.topic.name}",
            "NOTIFIER_FROM": "Fraudstream <alerts@example.com>",
            "NOTIFIER_TO": self.mailbox.recipient,
            "NOTIFIER_DIGEST_S": "0",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.gate.port),
            "STATE_DIR": str(folder / "state"),
            "LOG_FORMAT": "json",
        }

    def notifier(self, **settings: str) -> ServiceProcess:
        return ServiceProcess("notifier", self._env | settings, self.log)


@pytest.fixture
def world(kafka: str, smtp: Any, tmp_path: Path) -> Iterator[World]:
    world = World(kafka, smtp, tmp_path)
    with world.gate:
        yield world


def tells(world: World, notifier: ServiceProcess, events: int) -> None:
    """Wait until so many events are told and nothing is left; looks into mails only then."""
    until(
        lambda: (
            notifier.metric(UNTOLD, channel="email") == 0 and len(world.mailbox.told()) == events
        ),
        f"telling {events} events",
        90,
    )


def sent(notifier: ServiceProcess) -> dict[str, float]:
    """Count the messages that the notifier has sent since its start, by kind."""
    name = "fraudstream_messages_sent_total"
    return {kind: notifier.metric(name, kind=kind) for kind in ("alert", "digest", "summary")}


def blocks(numbers: Iterable[int], entities: int = 0) -> list[bytes]:
    """Make blocks, of one entity or spread over some."""
    return [
        a_processed(
            {"event_id": f"evt-{number}"}
            | ({"entity_id": f"entity-{number % entities}"} if entities else {}),
            offset=number,
        )
        for number in numbers
    ]


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
    assert "notifier.message_sent" in text
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
        assert notifier.stop() == 0
    # The whole topic once more, with the digests of a ledger that forgot its windows.
    with world.notifier(NOTIFIER_GROUP=f"again-{world.topic.name}", NOTIFIER_DIGEST_S="1") as again:
        until(lambda: again.metric("fraudstream_records_consumed_total") == 31, "reading")
        until(lambda: again.metric(UNTOLD, channel="email") == 0, "sending")
        assert again.stop() == 0
    assert world.mailbox.told() == Counter(f"evt-{n}" for n in [*range(10), 99])
    assert set(world.mailbox.message_ids().values()) == {1}


@pytest.mark.slow
def test_a_killed_notifier_loses_nothing(world: World) -> None:
    """Kill -9 in mid-flow, twice: all mails come, at most one twice per kill (the known limit)."""
    world.topic.produce(blocks(range(400)))
    # The second run goes on where Kafka says, the third one reads everything again.
    group = f"again-{world.topic.name}"
    for settings in ({}, {}, {"NOTIFIER_GROUP": group}):
        with world.notifier(**settings) as notifier:
            if not settings:
                until(lambda: sent(notifier)["alert"] >= 20, "some mails")
                notifier.kill()
                continue
            tells(world, notifier, 400)
            assert notifier.stop() == 0
    assert sum(world.mailbox.message_ids().values()) <= 402


def test_an_outage_of_the_mail_server_loses_nothing(world: World) -> None:
    """Alerts wait in the ledger, offsets go on, and the mails go out when it is back."""
    world.gate.shut()
    with world.notifier() as notifier:
        world.topic.produce(blocks(range(50)))
        until(lambda: notifier.metric(UNTOLD, channel="email") == 50, "recording")
        until(lambda: "mail server" in (notifier.ready() or ""), "noticing the outage")
        assert notifier.metric("fraudstream_records_consumed_total") == 50
        assert notifier.stop() == 0
    assert not world.mailbox.message_ids()
    with world.notifier() as notifier:
        world.gate.open()
        until(lambda: sent(notifier)["alert"] >= 10, "some mails")
        world.gate.shut()
        world.gate.open()
        tells(world, notifier, 50)
        notifier.wait_ready()
    # Cut off between acceptance and answer, one mail may be repeated.
    assert sum(world.mailbox.message_ids().values()) <= 51


def test_alerts_of_one_entity_become_a_digest(world: World) -> None:
    """The first goes out by itself, the others together; another entity's are its own."""
    with world.notifier(NOTIFIER_DIGEST_S="2") as notifier:
        world.topic.produce(blocks(range(10), entities=2))
        tells(world, notifier, 10)
        assert notifier.stop() == 0
    sizes = sorted(len(events) for events in world.mailbox.events().values())
    assert sizes == [1, 1, 4, 4]
    assert world.mailbox.told() == Counter(f"evt-{n}" for n in range(10))


def test_a_flood_ends_in_a_summary_with_everything_accounted_for(world: World) -> None:
    """2,000 alerts of 400 customers: as many messages as are allowed, then summaries."""
    settings = {
        "NOTIFIER_DIGEST_S": "5",
        "NOTIFIER_LIMIT_PER_HOUR": "25",
        "NOTIFIER_SUMMARY_S": "2",
    }
    with world.notifier(**settings) as notifier:
        world.topic.produce(blocks(range(2000), entities=400))
        until(lambda: notifier.metric("fraudstream_records_consumed_total") == 2000, "reading")
        tells(world, notifier, 2000)
        kinds = sent(notifier)
        assert notifier.stop() == 0
    assert world.mailbox.told() == Counter(f"evt-{n}" for n in range(2000))
    assert set(world.mailbox.message_ids().values()) == {1}
    assert kinds["alert"] + kinds["digest"] == 25
    assert len(world.mailbox.events()) == 25 + kinds["summary"]
    assert 1 <= kinds["summary"] <= 12
    assert any("above the limit" in subject for subject in world.mailbox.subjects())


@pytest.mark.slow
def test_a_notifier_killed_while_it_gathers_puts_each_event_into_one_message(world: World) -> None:
    """Kill -9 four times, before and after digests and summaries are made."""
    settings = {
        "NOTIFIER_DIGEST_S": "2",
        "NOTIFIER_LIMIT_PER_HOUR": "60",
        "NOTIFIER_SUMMARY_S": "2",
    }
    for at in range(0, 400, 100):
        world.topic.produce(blocks(range(at, at + 100), entities=50))
        # Another group reads all again, and need not wait until Kafka has given up the killed one.
        settings["NOTIFIER_GROUP"] = f"{world.topic.name}-from-{at}"
        with world.notifier(**settings) as notifier:
            until(lambda: any(sent(notifier).values()), "another message")
            notifier.kill()
    settings["NOTIFIER_GROUP"] = f"{world.topic.name}-last"
    with world.notifier(**settings) as notifier:
        tells(world, notifier, 400)
        assert notifier.stop() == 0
    assert world.mailbox.told() == Counter(f"evt-{n}" for n in range(400))
    repeats = world.mailbox.message_ids()
    assert sum(repeats.values()) - len(repeats) <= 4


@pytest.mark.slow
def test_a_mail_server_that_is_stopped_and_started_gets_each_alert_once(
    kafka: str, tmp_path: Path
) -> None:
    """Also when the notifier is killed meanwhile."""
    smtp_port, ui_port = free_ports(2, "127.0.0.1")
    server = mail_service(
        tmp_path / "mail", host="127.0.0.1", smtp_port=smtp_port, ui_port=ui_port, env=os.environ
    )

    class Smtp:
        host, port, api_url = "127.0.0.1", smtp_port, server.address

    world = World(kafka, Smtp, tmp_path)
    settings = {"SMTP_PORT": str(smtp_port)}
    with running(server, tmp_path), world.notifier(**settings):
        world.topic.produce(blocks(range(20)))
        until(lambda: len(world.mailbox.message_ids()) >= 5, "some mails")
        # Here the notifier is killed, and then the server stopped.
    world.topic.produce(blocks(range(20, 60)))
    settings["NOTIFIER_GROUP"] = f"again-{world.topic.name}"
    with world.notifier(**settings) as notifier:
        until(lambda: "mail server" in (notifier.ready() or ""), "noticing the outage")
        until(lambda: notifier.metric(UNTOLD, channel="email") >= 40, "recording")
        with running(server, tmp_path):
            tells(world, notifier, 60)
            notifier.wait_ready()
            assert world.mailbox.told() == Counter(f"evt-{n}" for n in range(60))
            # The known limit: killed between acceptance and our record of it.
            assert sum(world.mailbox.message_ids().values()) <= 61
            assert notifier.stop() == 0


def test_routes_lead_to_webhooks_and_slack(world: World) -> None:
    """By outcome and severity; one that is down holds up nobody, and gets all when it is back."""
    routes = world.folder / "routes.toml"
    secret = base64.b64encode(bytes(range(32))).decode()
    with Receiver() as cases, Receiver() as chat:
        routes.write_text(
            f"""
            [channels.cases]
            kind = "webhook"
            url = "{cases.url}"
            secret_env = "CASES_SECRET"
            [channels.chat]
            kind = "slack"
            url_env = "CHAT_URL"
            [[routes]]
            severities = ["high"]
            channels = ["email", "chat"]
            [[routes]]
            outcomes = ["review", "block"]
            channels = ["cases"]
            """
        )
        settings = {
            "NOTIFIER_ROUTES": str(routes),
            "CASES_SECRET": f"whsec_{secret}",
            "CHAT_URL": chat.url,
        }
        cases.status = 503
        decisions = [
            {"outcome": "review", "score": 910},
            {"outcome": "block", "score": 960},
            {"outcome": "block", "score": 999},
            {"outcome": "approve", "score": 10},
        ]
        with world.notifier(**settings) as notifier:
            world.topic.produce(
                a_processed({"event_id": f"evt-{n}"}, decision, offset=n)
                for n, decision in enumerate(decisions)
            )
            until(lambda: bool(world.mailbox.subjects()), "the mail")
            until(lambda: len(chat.requests) == 1, "the message to Slack")
            until(lambda: "webhook:cases" in (notifier.ready() or ""), "noticing the outage")
            cases.status = 200
            until(lambda: notifier.metric(UNTOLD, channel="cases") == 0, "the webhook")
            notifier.wait_ready()
            assert notifier.stop() == 0
    assert world.mailbox.told() == Counter(["evt-2"])
    assert "evt-2" in json.loads(chat.requests[0][1])["text"]
    verify = Webhook(secret).verify
    told: dict[str, list[str]] = {}
    for headers, body in cases.requests:
        document = verify(body, headers)
        told[headers["webhook-id"]] = [alert["event_id"] for alert in document["alerts"]]
    assert sorted(told.values()) == [["evt-0"], ["evt-1"], ["evt-2"]]
    assert "503" in world.log.read_text()
    for secret_text in (chat.url, secret, world.mailbox.recipient):
        assert secret_text not in world.log.read_text()
