"""Dead letters are found by their coordinates and reasons, and show nothing of what is in them."""

from __future__ import annotations

import orjson

from fraud.kafka.group_consumer import Message
from indexer.dead_letters import to_dead_letter
from tests.support.builders import START_MS

HEADERS = (
    ("error_code", b"wrong_type"),
    ("error_message", b"transaction_amt: expected a number"),
    ("source_topic", b"transactions"),
    ("source_partition", b"3"),
    ("source_offset", b"42"),
    ("failed_at", b"2026-03-01T00:00:00.123Z"),
)


def a_letter(*headers: tuple[str, bytes | None], offset: int = 7) -> Message:
    return Message(
        "transactions.dlq", 0, offset, START_MS, b"070-69-2161", b'{"phone":"1"}', headers
    )


def test_a_dead_letter_says_why_and_whence() -> None:
    """Once for each input, also when it is refused again."""
    document = to_dead_letter(a_letter(*HEADERS))
    assert document.id == to_dead_letter(a_letter(*HEADERS, offset=8)).id == "transactions-3-42"
    assert document.index == "dead_letters-1"
    assert document.body == {
        "error_code": "wrong_type",
        "error_message": "transaction_amt: expected a number",
        "failed_at": "2026-03-01T00:00:00.123Z",
        "source": {"topic": "transactions", "partition": 3, "offset": 42},
        "dead_letter": {
            "topic": "transactions.dlq",
            "partition": 0,
            "offset": 7,
            "timestamp_ms": START_MS,
        },
        "key_bytes": 11,
        "value_bytes": 13,
    }


def test_nothing_of_the_record_is_in_it() -> None:
    """A message that quotes is masked, whoever wrote it."""
    quoting = ("error_message", b"bad record of ada@example.com, 070-69-2161")
    text = orjson.dumps(to_dead_letter(a_letter(quoting)).body).decode()
    for secret in ("070-69", "phone", "ada@"):
        assert secret not in text


def test_a_record_that_is_not_ours_is_found_too() -> None:
    """By where it lies."""
    bare = to_dead_letter(Message("transactions.dlq", 0, 9, -1, None, None))
    assert (bare.id, bare.body["error_code"]) == ("transactions.dlq-0-9", "unknown")
    assert bare.body["failed_at"] == "1970-01-01T00:00:00.000Z"
    odd = to_dead_letter(
        a_letter(
            ("error_code", None),
            ("source_topic", b"\xff"),
            ("source_partition", b"-1"),
            ("source_offset", b"x"),
            ("failed_at", b"now"),
        )
    )
    assert (odd.id, odd.body["error_code"]) == ("transactions.dlq-0-7", "unknown")
    assert "source" not in odd.body
    assert odd.body["failed_at"] == "2026-03-01T00:00:00.000Z"
