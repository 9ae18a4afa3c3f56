"""Following the control topic: the newest good document is in force, whatever else is there."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import REGISTRY

from fraud.contracts.control import ControlDocument
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.kafka.control import ControlFollower, ControlPublisher, Refused, Void
from fraud.kafka.control_index import ControlIndex
from fraud.kafka.group_consumer import Message
from fraud.kafka.sync_producer import CannotPublish
from fraud.kafka.topic_follower import Position, TopicReplaced
from fraud.runtime.settings import KafkaSettings

NAME = ("model", "champion")


def a_document(version: str, kind: str = "model", name: str = "champion") -> tuple[bytes, bytes]:
    body = {"author": "ada", "time": "2026-03-01T12:00:00Z", "content": {}}
    return f"{kind}/{name}/{version}".encode(), orjson.dumps(body)


class Scripted:
    """A topic that hands out one batch per poll, and ends the follower after the last.

    Args:
        batches: Lists of key and value; the text `replaced` says that the topic was made anew.
        behind: Polls after which the end was reached.
    """

    def __init__(self, *batches: list[tuple[bytes, bytes | None]] | str, behind: int = 1) -> None:
        self._batches = list(batches)
        self._behind = behind
        self.stop = Event()
        self.starts = 0
        self.polls = 0

    def start(self, position: Position | None) -> None:
        assert position is None
        self.starts += 1

    def poll(self, timeout_s: float) -> list[Message]:
        at, self.polls = self.polls, self.polls + 1
        if self.polls >= len(self._batches):
            self.stop.set()
        batch = self._batches[at]
        if isinstance(batch, str):
            raise TopicReplaced(batch)
        return [
            Message("control", 0, offset, 1000, key, value)
            for offset, (key, value) in enumerate(batch)
        ]

    def position(self) -> Position | None:
        return None

    def waits_for(self) -> str | None:
        return None if self.polls >= self._behind else "the end"


def follow(
    feed: Scripted, unusable: str = "", on_take: Callable[[str], None] = lambda _: None
) -> tuple[list[str], ControlFollower]:
    """Return the versions that were taken up, in order."""
    taken: list[str] = []

    def take(document: ControlDocument) -> None:
        if document.version in unusable.split():
            raise Refused("no such model")
        taken.append(document.version)
        on_take(document.version)

    follower = ControlFollower(feed, {NAME: take}, service="test", clock=lambda: 3000)
    follower.run(feed.stop)
    return taken, follower


def test_refusals_are_counted_from_0_on() -> None:
    """A first one is an increase only of a series that was there before."""
    ControlFollower(Scripted([]), {}, service="counted_from_0")
    labels = {"service": "counted_from_0"}
    assert REGISTRY.get_sample_value("fraudstream_control_refused_total", labels) == 0


def test_of_what_is_there_at_the_start_the_newest_is_taken_up() -> None:
    feed = Scripted([a_document("1")], [a_document("2")], [a_document("3")], behind=2)
    taken, follower = follow(feed)
    assert taken == ["2", "3"]
    assert follower.waits_for() is None


def test_it_is_not_ready_before_the_end() -> None:
    taken, follower = follow(Scripted([a_document("1")], [], behind=9))
    assert taken == []
    assert follower.waits_for() == "the end"


def test_a_start_comes_up_with_the_last_good_one() -> None:
    """As processes that ran all the time have it in force."""
    broken = (b"model/champion/4", b"{")
    feed = Scripted([a_document("1"), a_document("2"), a_document("3"), broken])
    taken, follower = follow(feed, unusable="3")
    assert taken == ["2"]
    assert follower.refused == 2


def test_a_broken_document_changes_nothing_and_is_counted() -> None:
    nothings: list[tuple[bytes, bytes | None]] = [
        (b"model/champion/2", b"no JSON"),
        (b"model/champion/1", None),
        (b"no key", b"{}"),
    ]
    taken, follower = follow(Scripted([a_document("1")], nothings, []))
    assert taken == ["1"]
    assert follower.refused == 2


def test_other_kinds_and_names_are_passed_over_unread() -> None:
    """Tools of other versions may write what this program does not know."""
    others: list[tuple[bytes, bytes | None]] = [
        (b"campaign/card_testing/1", b"whatever"),
        a_document("9", name="challenger"),
    ]
    taken, follower = follow(Scripted([a_document("1"), *others]))
    assert taken == ["1"]
    assert follower.refused == 0


def test_a_topic_made_anew_is_read_from_its_start() -> None:
    """It is not ready before it was read."""
    feed = Scripted([a_document("1")], "made anew", [], [a_document("2")])
    taken, follower = follow(feed)
    assert taken == ["1", "2"]
    assert feed.starts == 2
    assert follower.ready.is_set()


def test_documents_of_a_folded_kind_are_all_taken_in_order_before_the_others() -> None:
    """A rule set that asks for a list comes with its entries."""
    told: list[str] = []
    feed = Scripted(
        [a_document("1", "list", "bad"), a_document("1"), a_document("2", "list", "other")],
        [a_document("3", "list", "bad")],
        "made anew",
        [],
    )
    ControlFollower(
        feed,
        {NAME: lambda one: told.append(one.version)},
        fold={"list": lambda one: told.append(f"{one.name}/{one.version}")},
        settle=lambda: told.append("settled"),
        restart=lambda: told.append("anew"),
        service="test",
        clock=lambda: 3000,
    ).run(feed.stop)
    assert told == ["bad/1", "other/2", "1", "settled", "bad/3", "settled", "anew"]


def test_a_document_that_is_void_is_passed_over_and_not_counted() -> None:
    """The one before is in force, and nobody has to look."""
    taken: list[str] = []

    def take(document: ControlDocument) -> None:
        if document.version == "2":
            raise Void("another came before")
        taken.append(document.version)

    feed = Scripted([a_document("1"), a_document("2")])
    follower = ControlFollower(feed, {NAME: take}, service="test", clock=lambda: 3000)
    follower.run(feed.stop)
    assert taken == ["1"]
    assert follower.refused == 0


def test_a_folded_document_is_refused_once_and_not_taken_up() -> None:
    """Where documents of a kind are both folded and taken up."""
    told: list[str] = []
    broken = (b"model/champion/3", b"{")
    feed = Scripted([a_document("1"), a_document("2"), broken, (b"no key", b"{}")])
    follower = ControlFollower(
        feed,
        {NAME: lambda one: told.append(one.version)},
        fold={"model": lambda one: told.append(f"folded {one.version}")},
        service="test",
        clock=lambda: 3000,
    )
    follower.run(feed.stop)
    assert told == ["folded 1", "folded 2", "2"]
    assert follower.refused == 2


def test_a_refused_document_that_another_replaced_is_not_counted() -> None:
    """It would be at every start, and somebody would be called for what was mended long ago."""
    told: list[str] = []

    def fold(document: ControlDocument) -> None:
        if document.version in ("1", "3"):
            raise InvalidMessage(ErrorCode.OUT_OF_RANGE, "content: no such variable")

    feed = Scripted([a_document("1"), a_document("2")], [a_document("3")])
    follower = ControlFollower(
        feed,
        {NAME: lambda one: told.append(f"{one.version}, {follower.refused} refused")},
        fold={"model": fold},
        service="test",
        clock=lambda: 3000,
    )
    follower.run(feed.stop)
    assert told == ["2, 0 refused"]
    assert follower.refused == 1


def test_a_tombstone_is_taken_and_refused_by_nobody() -> None:
    """At the start it removes what is still there of its document; later it changes nothing."""
    gone: tuple[bytes, bytes | None] = (b"model/champion/2", None)
    taken, follower = follow(Scripted([a_document("1"), a_document("2"), gone]))
    assert (taken, follower.refused) == (["1"], 0)
    taken, follower = follow(Scripted([a_document("1")], [a_document("2")], [gone]))
    assert (taken, follower.refused) == (["1", "2"], 0)


def list_document(version: str, **content: object) -> tuple[bytes, bytes]:
    value = {"author": "ada", "time": "2026-03-01T12:00:00Z", "content": content}
    return f"list/bad/{version}".encode(), orjson.dumps(value)


def test_a_start_passes_over_what_a_change_of_the_whole_list_supersedes() -> None:
    """And a running process, which has it already, takes up all."""
    add, whole = {"add": []}, {"replace": True, "description": ""}
    batch = [
        list_document("c1.1", **add),
        list_document("c2.1", **whole, parts=2),
        list_document("c3.1", **add),
        list_document("c2.2", **whole, part=2, parts=2),
        list_document("c4.1", **add),
        list_document("c5.1", replace=True),
        list_document("c6.1", **add, follows="c1"),
    ]

    def folded(*batches: list[tuple[bytes, bytes | None]]) -> list[str]:
        told: list[str] = []
        feed = Scripted(*batches)
        fold = {"list": lambda one: told.append(one.version)}
        ControlFollower(feed, {}, fold=fold, service="test").run(feed.stop)
        return told

    assert folded([*batch]) == ["c2.1", "c2.2", "c4.1", "c5.1", "c6.1"]
    assert folded([*batch, list_document("c7.1", follows="c5")]) == ["c7.1"]
    assert folded([], [*batch]) == ["c1.1", "c2.1", "c3.1", "c2.2", "c4.1", "c5.1", "c6.1"]


@pytest.mark.parametrize(
    "problem",
    [KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), BufferError("Local: Queue full")],
)
def test_what_the_client_refuses_could_not_be_published(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise problem

    publisher = ControlPublisher(KafkaSettings(_env_file=None), timeout_s=0.1)
    monkeypatch.setattr(publisher, "_producer", SimpleNamespace(produce=refuse))
    with pytest.raises(CannotPublish, match=r"MSG_SIZE_TOO_LARGE|queue is full"):
        publisher.send_signed(*a_document("1"), ControlIndex(b"k" * 32))


def test_a_folded_document_that_is_broken_is_passed_over_and_counted() -> None:
    told: list[str] = []

    def fold(document: ControlDocument) -> None:
        if document.version == "2":
            raise Refused("no such entry")
        told.append(document.version)

    broken = (b"list/bad/3", b"{")
    documents = [a_document(version, "list", "bad") for version in "124"]
    feed = Scripted([*documents[:2], broken, documents[2]])
    follower = ControlFollower(feed, {}, fold={"list": fold}, service="test", clock=lambda: 3000)
    follower.run(feed.stop)
    assert told == ["1", "4"]
    assert follower.refused == 2
