"""Who may write to the topic and lacks the key can delay changes, and neither make nor hide any."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event

import orjson
import pytest

from fraud.kafka.control import ControlFollower
from fraud.kafka.control_index import ADOPTED, ControlIndex, Verdict, digest_of
from fraud.kafka.control_mark import ControlMark
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Position
from fraud.runtime.settings import KafkaSettings

KEY = b"k" * 64


def a_value(**content: object) -> bytes:
    return orjson.dumps({"author": "ada", "time": "2026-03-01T12:00:00Z", "content": content})


class Log:
    """A control topic, as bytes, with those who may write to it."""

    def __init__(self) -> None:
        self.records: list[Message] = []
        self.index = ControlIndex(KEY)

    def append(self, key: bytes, value: bytes | None, headers: object = ()) -> Message:
        """Write a record as anybody may who reaches the topic."""
        message = Message("control", 0, len(self.records), 1000, key, value, tuple(headers))  # type: ignore[arg-type]
        self.records.append(message)
        return message

    def write(self, version: str, value: bytes | None = None, *, remove: bool = False) -> Message:
        """Write a signed document, or its signed tombstone."""
        key = f"model/champion/{version}".encode()
        content = None if remove else value or a_value(of=version)
        message = self.append(key, content, self.index.sign(key, content)[1])
        assert self.index.read(message) is Verdict.ACCEPTED
        return message

    def adopt(self, *messages: Message) -> Message:
        listed = {(message.key or b"").decode(): digest_of(message) for message in messages}
        key = f"{ADOPTED}/control/{self.index.number + 1}".encode()
        value = a_value(documents=listed, replaces=False)
        message = self.append(key, value, self.index.sign(key, value, listed)[1])
        assert self.index.read(message) is Verdict.ACCEPTED
        return message

    def compacted(self, *, without: Iterable[Message] = ()) -> list[Message]:
        """Return what compaction leaves; of some records that time was over, nothing."""
        gone = {id(message) for message in without}
        last = {message.key: message for message in self.records}
        return [
            message
            for message in self.records
            if last[message.key] is message and id(message) not in gone
        ]


class Once:
    """A feed that has its records at once; the text `anew` says that the topic was made anew."""

    def __init__(self, *batches: list[Message]) -> None:
        self._batches = list(batches)
        self.stop = Event()
        self._left = list(batches)

    def start(self, position: Position | None) -> None:
        """See `Feed`."""

    def poll(self, timeout_s: float) -> list[Message]:
        batch = self._left.pop(0) if self._left else []
        if not self._left:
            self.stop.set()
        return batch

    def position(self) -> Position | None:
        return None

    def waits_for(self) -> str | None:
        return None


class Reader:
    """What a process that follows the topic takes up."""

    def __init__(
        self, *batches: list[Message], key: bytes = KEY, mark: ControlMark | None = None
    ) -> None:
        self.folded: list[str] = []
        feed = Once(*batches)
        self.follower = ControlFollower(
            feed,
            {},
            fold={"model": lambda one: self.folded.append(one.version)},
            index=ControlIndex(key),
            mark=mark,
            lost_after_s=0,
            service="test",
        )
        self.follower.run(feed.stop)

    @property
    def waits_for(self) -> str:
        return self.follower.waits_for() or ""


def test_signed_documents_are_taken_up_and_their_tombstones_remove_them() -> None:
    log = Log()
    one, two = log.write("1"), log.write("2")
    log.write("1", remove=True)
    three = log.write("3")
    for records in (log.records, log.compacted(), [two, three]):
        reader = Reader(records)
        assert (reader.folded, reader.waits_for) == (["2", "3"], "")
        assert reader.follower.refused == 0
    # A running process has taken it up before, and nothing that is in force changes.
    assert Reader([one], log.records[1:]).folded == ["1", "2", "3"]


FORGERIES: dict[str, Callable[[Log], object]] = {
    "no signature": lambda log: log.append(b"model/champion/9", a_value(of="9")),
    "another's key": lambda log: log.append(
        b"model/champion/9", a_value(), ControlIndex(b"x" * 64).sign(b"model/champion/9", a_value())[1]
    ),
    "another value": lambda log: log.append(
        b"model/champion/9", a_value(of="x"), log.records[0].headers
    ),
    "another key": lambda log: log.append(
        b"model/champion/9", log.records[0].value, log.records[0].headers
    ),
    "an unsigned tombstone": lambda log: log.append(b"model/champion/1", None),
    "a value's signature on a tombstone": lambda log: log.append(
        b"model/champion/1", None, log.records[0].headers
    ),
    "another number": lambda log: log.append(
        b"model/champion/1",
        log.records[0].value,
        [(name, b"77" if name == "fd-number" else value) for name, value in log.records[0].headers],
    ),
    "an unsigned adoption": lambda log: log.append(
        b"adopted/control/9", a_value(documents={"model/champion/9": "0"}, replaces=True)
    ),
    "no UTF-8": lambda log: log.append(b"\xff", b"\xff", [("fd-number", b"\xff"), ("fd-signature", None)]),
}  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.parametrize("running", [False, True])
def test_what_is_not_signed_is_refused(forge: Callable[[Log], object], running: bool) -> None:
    """By who starts and by who runs; nothing else is taken up or missing."""
    log = Log()
    log.write("1")
    log.write("2")
    before = len(log.records)
    forge(log)
    batches = (log.records[:before], log.records[before:]) if running else (log.records,)
    reader = Reader(*batches)
    assert (reader.folded, reader.waits_for) == (["1", "2"], "")
    assert reader.follower.refused == 1


def test_a_number_that_was_passed_is_refused() -> None:
    """An earlier document sent again puts nothing in force."""
    log = Log()
    one = log.write("1")
    log.write("1", a_value(of="1", more=2))
    two = log.write("2")
    log.append(two.key or b"", two.value, two.headers)
    log.append(one.key or b"", one.value, one.headers)
    for batches in ((log.records,), (log.records[:3], log.records[3:])):
        reader = Reader(*batches)
        assert (reader.folded, reader.follower.refused) == (["1", "1", "2"], 1)


def test_of_two_that_use_the_same_number_the_first_counts() -> None:
    log = Log()
    log.write("1")
    headers = [log.index.sign(f"model/champion/{name}".encode(), a_value())[1] for name in "ab"]
    for name, one in zip("ab", headers, strict=True):
        log.append(f"model/champion/{name}".encode(), a_value(), one)
    reader = Reader(log.records)
    assert (reader.folded, reader.waits_for) == (["1", "a"], "")
    assert reader.follower.strays == {b"model/champion/b"}


def overwritten(log: Log) -> list[Message]:
    log.append(b"model/champion/2", b"{}")
    return log.compacted()


def sent_again_and_compacted(log: Log) -> list[Message]:
    two = log.records[1]
    log.append(two.key or b"", two.value, two.headers)
    return log.compacted()


def removed(log: Log) -> list[Message]:
    return log.compacted(without=[log.append(b"model/champion/2", None)])


@pytest.mark.parametrize("hide", [overwritten, removed, sent_again_and_compacted])
def test_a_document_that_is_missing_is_noticed(hide: Callable[[Log], list[Message]]) -> None:
    """It delays: nothing is decided by the documents that are left."""
    log = Log()
    for version in "123":
        log.write(version)
    reader = Reader(hide(log))
    assert "some that existed at document 3 were removed or overwritten" in reader.waits_for
    assert reader.folded == []


def test_a_topic_of_yesterday_is_noticed_by_its_number(tmp_path: Path) -> None:
    """Documents as they were once are whole, but others were seen since."""
    mark = ControlMark(KafkaSettings(_env_file=None, state_dir=tmp_path))
    log = Log()
    log.write("1")
    yesterday = list(log.records)
    log.write("2")
    assert Reader([], mark=mark).waits_for == ""
    assert Reader(log.records, mark=mark).waits_for == ""
    assert mark.number() == 2
    told = "topic fraud_control ends at document 1, and 2 were published"
    assert told in Reader(yesterday, mark=mark).waits_for
    told = "topic fraud_control has no document signed with this control key, and 2 were"
    assert told in Reader([], mark=mark).waits_for
    assert told in Reader(log.records, key=b"another" * 9, mark=mark).waits_for
    assert Reader(log.records, mark=mark).folded == ["1", "2"]


def test_unsigned_documents_count_until_they_are_adopted_and_then_no_others() -> None:
    """An older state folder comes up, before and after its documents are listed."""
    log = Log()
    one, two = (log.append(f"model/champion/{n}".encode(), a_value(of=n)) for n in "12")
    assert Reader(log.records).folded == ["1", "2"]
    log.adopt(one, two)
    log.write("3")
    late = log.append(b"model/champion/4", a_value())
    for batches in ((log.records,), (log.records[:2], log.records[2:]), (log.compacted(),)):
        reader = Reader(*batches)
        assert (reader.folded, reader.waits_for) == (["1", "2", "3"], "")
        assert reader.follower.strays == {late.key}
    gone = Reader([message for message in log.records if message is not one])
    assert "1 adopted ones were removed or overwritten (model/champion/1)" in gone.waits_for
    log.append(two.key or b"", a_value(of="other"))
    assert "(model/champion/2)" in Reader(log.compacted()).waits_for


def test_a_document_replaces_an_adopted_one_of_the_same_key() -> None:
    log = Log()
    log.adopt(log.append(b"model/champion/1", a_value(of="1")))
    log.write("1", a_value(of="1", more=2))
    log.write("2")
    for records in (log.records, log.compacted()):
        assert Reader(records).waits_for == ""
