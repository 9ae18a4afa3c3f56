"""The real servers that the other tests rely on: each does its work, and keeps it."""

from __future__ import annotations

import os
import smtplib
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.ports import free_ports
from devstack.process import resident_mb, running
from devstack.servers.mail import mail

pytestmark = pytest.mark.service


def read(url: str) -> Any:
    return httpx.get(url, timeout=10).raise_for_status().json()


def test_kafka_gives_back_what_it_was_given(kafka: str) -> None:
    """A record written to the broker must come back as it was."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic("echo", 1, 1)])["echo"].result(30)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce("echo", b"\x00value", b"key")
    assert producer.flush(30) == 0
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "echo", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["echo"])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert (message.key(), message.value()) == (b"key", b"\x00value")


def test_opensearch_finds_a_document(opensearch: str) -> None:
    """A document written to the node must be found."""
    mapping = {
        "settings": {
            "analysis": {"normalizer": {"lower": {"type": "custom", "filter": ["lowercase"]}}}
        },
        "mappings": {
            "properties": {
                "place": {"type": "geo_point"},
                "name": {"type": "keyword", "normalizer": "lower"},
                "words": {"type": "text"},
            }
        },
    }
    made = httpx.put(f"{opensearch}/probe", json=mapping, timeout=60)
    assert made.status_code == 200, made.text
    document = {"place": "46.2,6.1", "name": "ADA", "words": "Green tea", "amount": 1.5}
    written = httpx.put(f"{opensearch}/probe/_doc/1?refresh=true", json=document, timeout=60)
    assert written.status_code == 201, written.text
    for query in ("name:ada", "words:green", "amount:>1"):
        assert read(f"{opensearch}/probe/_search?q={query}")["hits"]["total"]["value"] == 1


def test_flink_has_a_task_manager_with_slots(flink_cluster: Any) -> None:
    """The cluster must offer the slots it was declared with."""
    assert read(f"{flink_cluster.api_url}/overview")["slots-total"] == 4
    assert "FLINK_CONF_DIR" in flink_cluster.env


def send(port: int, subject: str) -> str:
    message = EmailMessage()
    message["From"] = "Fraudstream <alerts@example.com>"
    message["To"] = "risk@example.com"
    message["Subject"] = subject
    message["Message-ID"] = f"<{subject}@example.com>"
    message.set_content("plain words")
    message.add_alternative("<p>rich <b>words</b></p>", subtype="html")
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        assert client.send_message(message) == {}
    return subject


def test_an_accepted_mail_is_shown_by_the_api(smtp: Any) -> None:
    """A message that SMTP accepted must be in the API's list at once, with both of its bodies."""
    subject = send(smtp.port, f"shown-{time.time_ns()}")
    listed = read(f"{smtp.api_url}/api/v1/messages")["messages"][0]
    assert listed["Subject"] == subject
    message = read(f"{smtp.api_url}/api/v1/message/{listed['ID']}")
    assert message["MessageID"] == f"{subject}@example.com"
    assert message["Text"].strip() == "plain words"
    assert "<b>words</b>" in message["HTML"]


def test_mail_survives_a_restart_of_the_catcher(tmp_path: Path) -> None:
    """A message must still be there after the mail catcher was stopped and started again."""
    port, ui_port = free_ports(2)
    service = mail(tmp_path, host="127.0.0.1", smtp_port=port, ui_port=ui_port, env=os.environ)
    with running(service, tmp_path) as process:
        send(port, "kept")
        assert resident_mb(process.pid) > 1
    assert process.returncode == 0
    with running(service, tmp_path):
        assert [
            one["Subject"] for one in read(f"{service.address}/api/v1/messages")["messages"]
        ] == ["kept"]
