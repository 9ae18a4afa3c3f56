"""A stranger's client: kafka-python, no code of ours, by the documented contract alone."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from fraud.contracts.json_schema import EXAMPLE_FOLDER
from fraud.contracts.transaction import FIELDS
from tests.support.refused import REFUSED
from tests.support.stack import Stack, get_json, wait_for

EXAMPLES = EXAMPLE_FOLDER / "transaction"

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]


def test_an_independent_client_can_produce_and_consume(stack: Stack) -> None:
    """Without keys, with whole seconds and no zone, amounts as text, a currency in lower case."""
    run = uuid.uuid4().hex
    consumer = KafkaConsumer(
        "processed_transactions",
        bootstrap_servers=stack.kafka,
        auto_offset_reset="earliest",
        group_id=None,
    )
    producer = KafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    sent = []
    for n in range(50):
        record = {
            "transaction_amt": f"{10 + n}.50",
            "email_address": "ada@example.com",
            "ip_address": "203.0.113.7",
            "transaction_currency": "usd",
            "event_id": f"{run}-{n}",
            "entity_id": f"{run}-{n % 5}",
            "event_time": f"2026-03-01T09:30:{n:02}",
            "billing_longitude": "-89.65",
            "billing_latitude": "39.80",
            "billing_state": "IL",
            "billing_street": "1 Example Street",
            "billing_city": "Springfield",
            "billing_zip": "62701",
            "user_agent": "Mozilla/5.0",
            "card_bin": "411111",
            "customer_name": "Ada Example",
            "product_category": "shopping_net",
            "customer_job": "Engineer",
            "phone": "+1-202-555-0143",
        }
        sent.append(record)
        producer.send("transactions", json.dumps(record).encode())
    producer.flush()

    got: dict[str, dict[str, object]] = {}
    deadline = time.monotonic() + 60
    while len(got) < len(sent) and time.monotonic() < deadline:
        for messages in consumer.poll(timeout_ms=500).values():
            for message in messages:
                output = json.loads(message.value)
                if output["event_id"].startswith(run):
                    assert message.key.decode() == output["entity_id"]
                    got[output["event_id"]] = output
    for record in sent:
        output = got[record["event_id"]]
        decision = output.pop("fd")
        assert output == record
        assert decision["outcome"] in {"approve", "review", "block"}
        assert 0 <= decision["score"] <= 1000
        assert decision["source"]["topic"] == "transactions"
    consumer.close()
    producer.close()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_optional_fields_that_are_missing_block_nobody(stack: Stack, example: Path) -> None:
    """Small ordinary payments of customers not seen before, one with its required fields alone."""
    record = json.loads(example.read_bytes())
    record["entity_id"] = f"{example.stem}-{uuid.uuid4().hex}"
    assert stack.score(record)["fd"]["outcome"] == "approve"


def test_any_one_or_two_optional_fields_may_be_missing(stack: Stack) -> None:
    """Whatever is left out of an ordinary payment, it stays approved, but for a few near a threshold."""
    run = uuid.uuid4().hex
    optional = [field.name for field in FIELDS if not field.required]
    left_out = [
        *itertools.combinations(optional, 1),
        *itertools.combinations(optional, 2),
        tuple(optional),
    ]
    records = [
        {field.name: field.example for field in FIELDS if field.name not in names}
        | {"entity_id": f"{run}-{number}"}
        for number, names in enumerate(left_out)
    ]
    outcomes = [answer["fd"]["outcome"] for answer in stack.score(records)]
    assert outcomes[-1] == "approve"
    assert outcomes.count("approve") >= 0.95 * len(outcomes)


def test_ten_thousand_bad_records_cost_no_good_one(stack: Stack) -> None:
    """Each bad one ends in the DLQ with its bytes, its key and its reason; the job never restarts."""
    run = uuid.uuid4().hex
    bad = [raw for raw, _, _ in REFUSED]
    records: list[tuple[bytes | None, bytes | None]] = []
    good = []
    for n in range(10_000):
        records.append((f"{run}-{n}".encode(), bad[n % len(bad)]))
        if n % 5 == 0:
            good.append(f"{run}-{n}")
            record = {
                "event_id": good[-1],
                "entity_id": f"{run}-{n % 100}",
                "event_time": "2026-03-01T09:30:00Z",
                "transaction_amt": 5,
                "transaction_currency": "ZZZ" if n % 10 else "USD",
            }
            records.append((None, json.dumps(record).encode()))
    # Big, odd and future records that the contract accepts: scored by the documented rules.
    for name, extra in (
        ("big", {"padding": "x" * 1_000_000}),
        ("tomorrow", {"event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))}),
        ("refund", {"transaction_amt": "-12.5"}),
    ):  # fmt: skip
        good.append(f"{run}-{name}")
        base = {
            "event_id": good[-1],
            "entity_id": run,
            "event_time": "2026-03-01T09:30:00Z",
            "transaction_amt": 5,
            "transaction_currency": "USD",
        }
        records.append((None, json.dumps(base | extra).encode()))
    since, dead = stack.end_of("processed_transactions"), stack.end_of("transactions.dlq")
    worker = stack.python_worker(decides=False).pid
    stack.send(records)
    decided = stack.decided(since, good)
    assert all(len(outputs) == 1 for outputs in decided.values())
    letters = [
        letter
        for letter in stack.dead(dead, 10_000)
        if (letter.key or b"").startswith(run.encode())
    ]
    assert len(letters) == 10_000
    for letter in letters:
        assert letter.key is not None
        n = int(letter.key.rsplit(b"-", 1)[1])
        raw, reason, _ = REFUSED[n % len(REFUSED)]
        assert letter.value == raw
        assert letter.headers["error_code"] == reason
        assert letter.headers["source_topic"] == "transactions"
        assert int(letter.headers["source_partition"]) >= 0
        assert int(letter.headers["source_offset"]) >= 0
    assert stack.python_worker(decides=False).pid == worker, "a bad record must not restart the job"
    wait_for("the index", lambda: len(stack.indexed(good[-3:])) == 3)
    first = min(int(letter.headers["source_offset"]) for letter in letters)
    query = {"query": {"range": {"source.offset": {"gte": first}}}}
    wait_for(
        "the dead letters in the index",
        lambda: get_json(f"{stack.opensearch}/dead_letters/_count", query)["count"] >= 10_000,
    )
