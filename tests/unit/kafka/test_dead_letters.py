"""Dead letters that a service writes: the same headers as the job's."""

from __future__ import annotations

from hashlib import sha256

from fraud.contracts import dead_letter
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.kafka.dead_letters import headers_of, to_dead_letter
from fraud.kafka.group_consumer import Message

VERDICT = InvalidMessage(ErrorCode.NOT_JSON, "expected JSON", None)


def a_message(
    value: bytes | None = b"{",
    key: bytes | None = b"k",
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Message:
    return Message("labels", 3, 17, 1_000, key, value, headers)


def test_a_dead_letter_says_why_and_whence() -> None:
    """Read back, it is the letter that the job would have written."""
    headers = headers_of(a_message(), VERDICT, now_ms=0)
    letter = to_dead_letter(
        Message("transactions.dlq", 0, 0, 0, b"k", b"{", tuple(headers.items()))
    )
    assert (letter.error_code, letter.error_message) == ("not_json", "expected JSON")
    assert letter.id == "labels-3-17"
    assert letter.failed_at == "1970-01-01T00:00:00.000Z"
    assert not letter.is_cut
    assert headers.keys() == dead_letter.HEADERS.keys()


def test_the_inputs_headers_stay_and_ours_win() -> None:
    """Of repeated names the last stays; a record cannot pass for one that was cut."""
    given = (("trace", b"1"), ("trace", b"2"), ("null", None), ("error_code", b"x"), ("original_key_bytes", b"9"))  # fmt: skip
    headers = headers_of(a_message(headers=given), VERDICT, now_ms=0)
    assert (headers["trace"], headers["null"], headers["error_code"]) == (b"2", None, b"not_json")
    assert headers.keys() == dead_letter.HEADERS.keys() | {"trace", "null"}


def test_what_is_too_large_says_its_size() -> None:
    """Each part has a limit of its own."""
    large = b"x" * (dead_letter.MAX_HEADERS_BYTES + 1)
    for message in (
        a_message(key=large),
        a_message(value=b"x" * (dead_letter.MAX_VALUE_BYTES + 1)),
        a_message(headers=(("h", large),)),
    ):
        headers = headers_of(message, VERDICT, now_ms=0)
        assert headers.keys() == dead_letter.HEADERS.keys() | dead_letter.CUT_HEADERS.keys()
        value = message.value or b""
        assert headers["original_value_sha256"] == sha256(value).hexdigest().encode()
        assert headers["original_value_bytes"] == str(len(value)).encode()
