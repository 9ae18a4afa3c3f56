"""One story, through every part.

- A customer buys as always: approved, no mail.
- A thief has her card: from another place, device and network, small payments test it.
- Then the card is drained: blocked, with reasons.
- The team gets one e-mail for each block, and finds the decision in the index.
- The same records come once more: decided as duplicates, nobody is alerted again.
- What REST would have said of the next payment is what the stream says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.support.people import THIEF, Record, a_customer, a_payment
from tests.support.stack import Stack, get_json, wait_for

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]


def values(records: list[Record]) -> list[tuple[bytes, bytes]]:
    return [(record["entity_id"].encode(), orjson.dumps(record)) for record in records]


def ids(records: list[Record]) -> list[str]:
    return [record["event_id"] for record in records]


@pytest.fixture(scope="module")
def payments() -> tuple[list[Record], list[Record]]:
    """A month of a customer's life, and the quarter of an hour in which her card is abused."""
    customer, now = a_customer(), datetime.now(UTC)
    usual = [
        a_payment(customer, now - timedelta(days=30 - day, hours=3), 20 + day % 7 * 5.5)
        for day in range(29)
    ]
    start = now - timedelta(minutes=15)
    tests = [
        a_payment(customer, start + timedelta(seconds=40 * n), 1 + n * 0.01, product_category="misc_net", **THIEF)
        for n in range(8)
    ]  # fmt: skip
    drains = [
        a_payment(customer, start + timedelta(minutes=7 + n), 890.0 + 45 * n, product_category="shopping_net", **THIEF)
        for n in range(4)
    ]  # fmt: skip
    return usual, tests + drains


def test_a_stolen_card_is_blocked_mailed_and_found(
    stack: Stack, payments: tuple[list[Record], list[Record]]
) -> None:
    """See the story above."""
    usual, abuse = payments
    since = stack.end_of("processed_transactions")
    stack.send(values([*usual, *abuse]))
    outputs = stack.decided(since, ids([*usual, *abuse]))
    decisions = {event_id: found[0]["fd"] for event_id, found in outputs.items()}

    approved = [decisions[event_id]["outcome"] == "approve" for event_id in ids(usual)]
    assert sum(approved) >= 27, "a month of ordinary life is let through"
    blocked = [event_id for event_id in ids(abuse) if decisions[event_id]["outcome"] == "block"]
    assert blocked, "the abuse is noticed"
    for event_id in blocked:
        decision = decisions[event_id]
        assert decision["score"] >= 950
        assert decision["reasons"]
        assert decision["history"]["entity"] >= 29
        assert decision["rules"][0]["outcome"] == "block"

    wait_for("the alerts", lambda: len(stack.alerted(blocked)) >= len(blocked))
    assert stack.alerted(ids(abuse)) == sorted(blocked)
    found = [
        stack.mail(mail["ID"])
        for mail in stack.mails()
        if mail["Subject"].rsplit(" ", 1)[-1] in blocked
    ]
    secrets = ("grace.hopper@example.com", "Grace Hopper", "12 Harbor Road", "555-0101")
    for mail in found:
        for secret in secrets:
            assert secret not in mail["Text"] + mail["HTML"]
    documents = wait_for(
        "the index", lambda: len(d := stack.indexed(ids(abuse))) == len(abuse) and d
    )
    assert {d["event_id"] for d in documents if d["fd"]["outcome"] == "block"} == set(blocked)
    for document in documents:
        for secret in secrets:
            assert secret not in orjson.dumps(document).decode()


def test_the_same_records_again_alert_nobody_again(
    stack: Stack, payments: tuple[list[Record], list[Record]]
) -> None:
    """They come out as duplicates, decided as before."""
    _, abuse = payments
    before = stack.decided(stack_start(stack), ids(abuse))
    alerted = stack.alerted(ids(abuse))
    since = stack.end_of("processed_transactions")
    stack.send(values(abuse))
    again = stack.decided(since, ids(abuse))
    for event_id in ids(abuse):
        first, second = before[event_id][0]["fd"], again[event_id][0]["fd"]
        assert (first["duplicate"], second["duplicate"]) == (False, True)
    wait_for("the index", lambda: len(stack.indexed(ids(abuse))) == 2 * len(abuse))
    assert stack.alerted(ids(abuse)) == alerted


def stack_start(stack: Stack) -> Any:
    since = stack.end_of("processed_transactions")
    for partition in since.partitions:
        partition.offset = 0
    return since


def test_rest_says_what_the_stream_will_say(stack: Stack) -> None:
    """Probability, score and features to the last bit, for each next payment of a customer."""
    customer, now = a_customer(), datetime.now(UTC)
    for n in range(6):
        record = a_payment(customer, now - timedelta(minutes=30 - n), 15.5 + n * 3)
        asked = stack.score(record)["fd"]
        assert asked["source"] is None
        since = stack.end_of("processed_transactions")
        stack.send(values([record]))
        streamed = stack.decided(since, [record["event_id"]])[record["event_id"]][0]["fd"]
        for part in ("probability", "score", "features", "history", "outcome", "policy_version"):
            assert asked[part] == streamed[part], part
        assert streamed["history"]["entity"] == n

        def caught_up(event_id: str = record["event_id"], record: Record = record) -> bool:
            return bool(stack.score(record)["fd"]["duplicate"])

        wait_for("REST to know the payment", caught_up)


def test_rest_refuses_with_the_field_and_scores_none_of_a_list(stack: Stack) -> None:
    """And says which entries of the list were bad."""
    from urllib.error import HTTPError

    good = a_payment(a_customer(), datetime.now(UTC), 5)
    with pytest.raises(HTTPError) as refused:
        stack.score([good, good | {"transaction_amt": "much"}])
    assert refused.value.code == 422
    assert re.search(rb"transaction_amt", refused.value.read())
    assert len(stack.score([good, good])) == 2


def test_every_part_says_that_it_is_ready(stack: Stack) -> None:
    """And has metrics."""
    for setting in ("API_PORT", "FLINK_JOB_OPS_PORT", "NOTIFIER_OPS_PORT", "INDEXER_OPS_PORT"):
        port = stack.env[setting]
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as answer:
            assert answer.status == 200
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"fraudstream_" in answer.read()
    overview = get_json(f"http://127.0.0.1:{stack.env['FLINK_PORT']}/jobs/overview")
    assert [job["state"] for job in overview["jobs"]] == ["RUNNING"]
