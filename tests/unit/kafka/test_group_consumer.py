"""The loop: verdicts become actions, and nothing is done before it was handled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

import pytest
from prometheus_client import REGISTRY

from fraud.contracts.errors import Backpressure, ErrorCode, InvalidMessage
from fraud.kafka.group_consumer import Message, TooManyRefused, consume
from fraud.kafka.testing import MemorySource, MemoryTopic


class Steps:
    """A clock that goes on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def read(message: Message) -> bytes:
    if message.value is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "expected a value")
    return message.value


def run(
    source: MemorySource,
    handle: Callable[[Sequence[bytes]], None],
    stop: Event,
    *,
    service: str = "test",
    limit: int = 3,
    dead_letter: Callable[[Sequence[tuple[Message, InvalidMessage]]], None] | None = None,
) -> None:
    consume(
        source,
        read,
        handle,
        stop,
        service=service,
        max_refused_in_a_row=limit,
        dead_letter=dead_letter,
        monotonic=Steps(),
    )


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def a_topic(*values: bytes | None) -> MemoryTopic:
    topic = MemoryTopic(partitions=1)
    for value in values:
        topic.produce(value)
    return topic


def test_each_record_is_handled_then_committed() -> None:
    """While a batch is handled, it is not committed; afterwards it is."""
    topic, stop = a_topic(b"a", b"b"), Event()
    seen: list[bytes] = []

    def handle(batch: Sequence[bytes]) -> None:
        assert topic.committed("group") == {}
        seen.extend(batch)
        stop.set()

    run(topic.source(), handle, stop)
    assert seen == [b"a", b"b"]
    assert topic.committed("group") == {0: 2}


def test_a_crash_leaves_the_batch_undone() -> None:
    """A restart must get the records again that a bug met."""
    topic, stop = a_topic(b"a"), Event()

    def crash(batch: Sequence[bytes]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(topic.source(), crash, stop)
    assert topic.committed("group") == {}
    seen: list[bytes] = []
    run(topic.source(), lambda batch: (seen.extend(batch), stop.set())[0], stop)
    assert seen == [b"a"]


def test_a_bad_record_costs_nobody_their_turn() -> None:
    """An unreadable record is counted with its reason; its neighbours are handled."""
    topic, stop = a_topic(b"a", None, b"b"), Event()
    seen: list[bytes] = []
    before = count("fraudstream_records_refused_total", service="test", reason="null_value")
    run(topic.source(), lambda batch: (seen.extend(batch), stop.set())[0], stop)
    assert seen == [b"a", b"b"]
    assert topic.committed("group") == {0: 3}
    after = count("fraudstream_records_refused_total", service="test", reason="null_value")
    assert after - before == 1


def test_a_bad_record_is_committed_only_once_it_is_kept() -> None:
    """While the dead-letter topic refuses, the batch is handed in again."""
    topic, stop = a_topic(b"a", None), Event()
    kept: list[tuple[int, str]] = []
    tries = 0

    def dead_letter(refused: Sequence[tuple[Message, InvalidMessage]]) -> None:
        nonlocal tries
        tries += 1
        assert topic.committed("group") == {}
        if tries == 1:
            raise Backpressure(1.0)
        kept.extend((message.offset, str(verdict.reason)) for message, verdict in refused)
        stop.set()

    run(topic.source(), lambda _batch: None, stop, dead_letter=dead_letter)
    assert kept == [(1, "null_value")]
    assert topic.committed("group") == {0: 2}


def test_backpressure_hands_the_same_batch_in_again() -> None:
    """Nothing is committed or counted as refused until the sink took the batch."""
    topic, stop = a_topic(b"a", None, b"b"), Event()
    tries: list[list[bytes]] = []

    def handle(batch: Sequence[bytes]) -> None:
        tries.append(list(batch))
        refused = count("fraudstream_records_refused_total", service="slow", reason="null_value")
        assert refused == 0
        waiting = REGISTRY.get_sample_value("fraudstream_sink_waits", {"service": "slow"})
        assert waiting == (len(tries) > 1)
        if len(tries) < 3:
            raise Backpressure(5.0)
        stop.set()

    run(topic.source(), handle, stop, service="slow")
    assert tries == [[b"a", b"b"]] * 3
    assert count("fraudstream_records_refused_total", service="slow", reason="null_value") == 1
    assert count("fraudstream_sink_waits", service="slow") == 0
    assert count("fraudstream_backpressure_total", service="slow") == 2
    assert count("fraudstream_backpressure_total", service="slow") == 2
    assert topic.committed("group") == {0: 3}


def test_the_loop_keeps_polling_while_it_waits() -> None:
    """A group drops a member that does not poll."""
    topic, stop = a_topic(b"a"), Event()
    polls = 0

    class Counting(MemorySource):
        def poll(self, timeout_s: float) -> list[Message]:
            nonlocal polls
            polls += 1
            assert timeout_s <= 1.0
            return super().poll(timeout_s)

    tries = 0

    def handle(batch: Sequence[bytes]) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Backpressure(10.0)
        stop.set()

    run(Counting(topic, "group", 1, 100), handle, stop)
    assert polls >= 2 + 8


def test_stop_ends_the_wait_and_leaves_the_batch_undone() -> None:
    """Shutdown during an outage of the sink loses nothing."""
    topic, stop = a_topic(b"a"), Event()

    def handle(batch: Sequence[bytes]) -> None:
        stop.set()
        raise Backpressure(1e9)

    run(topic.source(), handle, stop)
    assert topic.committed("group") == {}


def test_many_bad_records_in_a_row_end_the_process() -> None:
    """A topic full of records that nobody can read is a bug, and must be seen."""
    topic = a_topic(*[None] * 4)
    with pytest.raises(TooManyRefused, match=r"4 records in a row .* memory-0 at offset 3"):
        run(topic.source(), lambda batch: None, Event(), limit=3)
    assert topic.committed("group") == {}


def test_a_readable_record_starts_the_count_anew() -> None:
    """Bad records among good ones are bad luck, over the edges of batches, too."""
    topic, stop = a_topic(None, None, b"a", None, None, None, b"b"), Event()
    seen: list[bytes] = []

    def handle(batch: Sequence[bytes]) -> None:
        seen.extend(batch)
        if b"b" in batch:
            stop.set()

    run(topic.source(max_records=2), handle, stop, limit=3)
    assert seen == [b"a", b"b"]
    topic.produce(None)
    with pytest.raises(TooManyRefused):
        run(topic.source("other", max_records=2), lambda batch: None, Event(), limit=2)
