"""A file that nobody here made: replayed twice, with everything accounted for."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack, get_json, wait_for

pytestmark = [pytest.mark.service, pytest.mark.flink, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = EXAMPLES / "transactions_2k.csv"


def replay(stack: Stack) -> None:
    command = [sys.executable, "-m", "fraudstream", "replay", str(FILE)]
    command += ["--mapping", str(EXAMPLES / "transactions_2k.toml")]
    subprocess.run(command, env={**stack.env}, check=True, capture_output=True)


def test_the_file_is_accounted_for_and_a_second_replay_alerts_nobody(stack: Stack) -> None:
    """1,611 rows = processed + dead letters = documents + dead letters; one mail per block."""
    with FILE.open(newline="", encoding="utf-8") as file:
        event_ids = [row["EVENT_ID"] for row in csv.DictReader(file)]
    assert len(event_ids) == 1611
    processed, dead = stack.end_of("processed_transactions"), stack.end_of("transactions.dlq")

    replay(stack)
    outputs = stack.decided(processed, event_ids)
    sources = {
        (record["fd"]["source"]["partition"], record["fd"]["source"]["offset"])
        for records in outputs.values()
        for record in records
    }
    dead_now = stack.end_of("transactions.dlq")
    letters = sum(p.offset for p in dead_now.partitions) - sum(p.offset for p in dead.partitions)
    assert len(sources) + letters == 1611
    blocked = {
        event_id
        for event_id, records in outputs.items()
        if records[0]["fd"]["outcome"] == "block" and not records[0]["fd"]["duplicate"]
    }
    documents = wait_for(
        "the index", lambda: len(d := stack.indexed(event_ids)) == len(sources) and d
    )
    assert {d["_id"] for d in documents} == {f"transactions-{p}-{o}" for p, o in sources}
    wait_for("the alerts", lambda: len(stack.alerted(blocked)) >= len(blocked))
    assert stack.alerted(event_ids) == sorted(blocked)

    processed = stack.end_of("processed_transactions")
    replay(stack)
    again = stack.decided(processed, event_ids)
    assert all(record["fd"]["duplicate"] for records in again.values() for record in records)
    wait_for("the index", lambda: len(stack.indexed(event_ids)) == 2 * len(sources))
    assert stack.alerted(event_ids) == sorted(blocked)


def test_labels_reach_their_topic(stack: Stack) -> None:
    """The file's known labels, keyed by event_id."""
    labels = stack.end_of("labels")
    assert sum(partition.offset for partition in labels.partitions) >= 810


def test_the_index_maps_what_it_holds(stack: Stack) -> None:
    """Numbers as numbers, dates as dates, places as places."""
    mappings = get_json(f"{stack.opensearch}/processed_transactions/_mapping")
    for mapping in mappings.values():
        properties = mapping["mappings"]["properties"]
        assert properties["billing_location"]["type"] == "geo_point"
        assert properties["event_time"]["type"] == "date"
        assert properties["entity_id"]["type"] == "keyword"
        assert properties["transaction_amt"]["type"] in {"double", "float", "scaled_float"}
