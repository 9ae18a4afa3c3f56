"""One follower of the control topic, and who listens to it."""

from __future__ import annotations

import threading
from itertools import count
from threading import Event

import pytest

from fraud.contracts.control import ControlDocument
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import RuleSet
from fraud.contracts.times import DAY_MS
from fraud.decision.rule_sets import default_rules
from fraud.kafka.group_consumer import Message
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import Listener, PolicyFollower, PolicyUnread, SeenPublisher
from fraud.policy.history import PolicyHistory
from fraud.runtime.background import Background
from fraud.runtime.clock import to_datetime
from tests.support.builders import START_MS
from tests.support.control_topic import ControlTopic
from tests.support.editing import an_editor

RULES = RuleSet.model_validate({"rules": [{"id": "R1", "when": "$score > 1", "outcome": "review"}]})


class Heard(Listener):
    """Writes down what it is told, and what the policy state was by then."""

    kinds = ("list", "campaign")

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.takes = {("rules", "active"): lambda one: self.told.append(f"take {one.version}")}

    def apply(self, document: ControlDocument) -> None:
        self.told.append(f"apply {document.kind}/{document.name}")

    def settle(self, policy_state: object) -> None:
        self.told.append("settle")

    def clear(self) -> None:
        self.told.append("clear")


def a_document(kind: str, name: str = "x", **more: object) -> ControlDocument:
    parts = {"version": "1", "author": "ada", "time": to_datetime(START_MS), "content": {}}
    return ControlDocument.model_validate({"kind": kind, "name": name} | parts | more)


def activating(rules: RuleSet, change: str, expected: str) -> ControlDocument:
    content = rules.model_dump(mode="json")
    return a_document(
        "rules", "active", version=rules.version, content=content, change=change, expected=expected
    )


def test_listeners_hear_the_kinds_they_keep_and_settle_together() -> None:
    told: list[str] = []
    topic = ControlTopic(Heard(told))
    content = {"type": "ip", "use": "block"}
    topic.publish(
        a_document("list", "bad", version="c1.1", content=content),
        a_document("campaign"),
        a_document("nobodys"),
        activating(RULES, "c2", default_rules().version),
    )
    assert told == ["apply list/bad", "apply campaign/x", f"take {RULES.version}", "settle"]
    topic.replace()
    assert told[4:] == ["clear"]
    assert topic.policy_state.lists() == {}


def test_what_is_void_or_broken_is_heard_by_nobody() -> None:
    """The editor learns of it all the same."""
    history, told = PolicyHistory(), list[str]()
    topic = ControlTopic(history, Heard(told))
    shipped = default_rules().version
    late = activating(RuleSet(rules=()), "c2", shipped)
    topic.publish(activating(RULES, "c1", shipped), late, a_document("list", "bad"))
    assert [change.version for change in history.changes()] == [RULES.version]
    assert told == [f"take {RULES.version}", "settle"]
    topic.follower.wait_for(late, 0)
    assert topic.policy_state.activations.void(late)
    assert topic.follower.refused == 1


def test_a_change_is_read_when_its_publisher_returns() -> None:
    topic = ControlTopic()
    an_editor(topic, lambda: topic.policy_state).make_list("bad", ListType.IP, ListUse.BLOCK)
    topic.follower.wait_for(topic.documents[0], 0)
    assert set(topic.follower.wait_ready(0).lists()) == {"bad"}


def an_editor_that_tidies(topic: ControlTopic) -> PolicyEditor:
    snapshots = (f"s{number}" for number in count())
    publisher = SeenPublisher(
        topic,  # type: ignore[arg-type]
        topic.follower,
        clock=lambda: topic.now_ms,
        ids=lambda: next(snapshots),
    )
    ids = (f"c{number}" for number in count())
    return an_editor(
        publisher,
        lambda: topic.policy_state,
        clock=lambda: topic.now_ms,
        ids=lambda: next(ids),
    )


def entries(*values: str) -> list[ListEntry]:
    return [ListEntry(value=value) for value in values]


def test_what_a_list_was_longer_than_a_month_ago_is_removed() -> None:
    """A list that is replaced every day stays as small as the days that are computed again."""
    topic = ControlTopic(key=b"k" * 64)
    editor = an_editor_that_tidies(topic)
    topic.now_ms = START_MS
    editor.make_list("bad", ListType.ENTITY, ListUse.BLOCK, description="Bad ones.")
    for day in range(40):
        topic.now_ms = START_MS + day * DAY_MS
        editor.change_list("bad", add=entries(f"cust-{day}"), replace=True)
    removed = [message.key for message in topic.messages if message.value is None]
    # The replacement of day 9 is a month old on day 39, and all before it are superseded since.
    assert removed == [f"list/bad/c{number}.1".encode() for number in range(10)]
    assert topic.messages[-1].value is not None
    assert topic.read_anew().lists() == topic.policy_state.lists()
    assert topic.policy_state.lists()["bad"].description == "Bad ones."


def test_a_list_of_many_small_changes_is_written_whole_from_time_to_time() -> None:
    """Its version, authors and times stay; a start reads the snapshot and what came after."""
    topic = ControlTopic(key=b"k" * 64)
    editor = an_editor_that_tidies(topic)
    topic.now_ms = START_MS
    editor.make_list("bad", ListType.ENTITY, ListUse.BLOCK)
    for number in range(9):
        values = [f"cust-{number}-{at}-{'x' * 200}" for at in range(600)]
        editor.change_list("bad", add=entries(*values), remove=["cust-0-0-" + "x" * 200])
    versions = {message.key for message in topic.messages}
    (snapshot,) = {bytes(key).split(b".")[0] for key in versions if key and b"/c" not in key}
    editor.change_list("bad", add=entries("late"))
    state = topic.policy_state.lists()["bad"]
    assert topic.read_anew().lists() == {"bad": state}
    assert {entry.author for entry in state.entries.values()} == {editor.author.name}
    topic.now_ms += 31 * DAY_MS
    editor.change_list("bad", use=ListUse.WATCH)
    left = {message.key: message.value for message in topic.messages}
    kept = [key for key, value in left.items() if value is not None]
    assert kept[0] is not None
    assert kept[0].startswith(snapshot)
    assert topic.read_anew().lists() == topic.policy_state.lists()


class Long(ControlTopic):
    """A topic of many records that arrive one by one, each long after the last."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self._left = records

    def poll(self, timeout_s: float) -> list[Message]:
        """See `Feed`."""
        if not self._left:
            return []
        self._left -= 1
        threading.Event().wait(0.05)
        return [Message("control", 0, self._left, 0, f"campaign/x/{self._left}".encode(), b"{}")]

    def waits_for(self) -> str | None:
        """See `Feed`."""
        return "the end" if self._left else None


def test_a_start_waits_as_long_as_it_goes_on() -> None:
    """Only a topic that does not go on is given up, however long it is."""
    stop = Event()
    follower = PolicyFollower(Long(20), service="test", stop=stop)
    with Background("control", follower.run, stop):
        assert follower.wait_ready(0.5) is follower.current()
        stop.set()


def test_a_topic_that_cannot_be_read_is_not_waited_for_for_ever() -> None:
    stop = Event()
    follower = PolicyFollower(ControlTopic(), service="test", stop=stop)
    with pytest.raises(PolicyUnread, match="waited 0 s for control documents"):
        follower.wait_ready(0)
    stop.set()
    with pytest.raises(PolicyUnread, match="following the control topic failed"):
        follower.wait_ready()
