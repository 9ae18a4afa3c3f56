"""The policy state, kept up to date from Kafka: for as long as a service runs, or once for a command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Final

from fraud.contracts.control import ControlDocument
from fraud.contracts.topics import Topic
from fraud.kafka.control import ControlFollower, ControlPublisher, Name, Void
from fraud.kafka.topic_follower import Feed, TopicFeed
from fraud.policy.state import KINDS, PolicyState
from fraud.runtime.background import Background
from fraud.runtime.metrics import CONTROL_LAG
from fraud.runtime.settings import KafkaSettings

_LOOK_S: Final = 0.02


class PolicyUnread(Exception):
    """The control topic could not be read to its end; the text says what it waits for."""


class Listener:
    """What else a process keeps of the control topic. Called in the follower's thread."""

    kinds: Collection[str] = ()
    """Kinds of documents that `apply` is called with."""

    takes: Mapping[Name, Callable[[ControlDocument], None]] = MappingProxyType({})
    """By kind and name, what takes the newest document up; see `ControlFollower`."""

    def apply(self, document: ControlDocument) -> None:
        """Take the next document into account, after the policy state did.

        Raises:
            InvalidMessage: It is broken; then nothing changes.
        """

    def settle(self, policy_state: PolicyState) -> None:
        """Put in force what was taken up, all at once."""

    def clear(self) -> None:
        """Forget what was applied: the topic was made anew."""


class PolicyFollower:
    """Follows the control topic, once in a process: the policy state first, then who listens.

    Args:
        feed: The topic, read from its start.
        service: Label of the metrics.
        stop: Set when following ends.
        listeners: What else follows the topic.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        service: str,
        stop: threading.Event,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._stop = stop
        self._listeners = listeners
        self._policy_state = PolicyState()
        self._seen: dict[bytes, datetime] = {}
        self._takes = {name: take for one in listeners for name, take in one.takes.items()}
        kinds = {*KINDS, *(kind for one in listeners for kind in one.kinds)}
        self._follower = ControlFollower(
            feed,
            dict.fromkeys(self._takes, self._take),
            fold=dict.fromkeys(kinds, self._apply),
            settle=self._settle,
            restart=self._restart,
            service=service,
        )

    def run(self) -> None:
        """Follow until `stop` is set."""
        self._follower.run(self._stop)

    def _apply(self, document: ControlDocument) -> None:
        if document.kind not in KINDS or self._policy_state.apply(document):
            for listener in self._listeners:
                if document.kind in listener.kinds:
                    listener.apply(document)
        self._seen[document.key] = document.time

    def _take(self, document: ControlDocument) -> None:
        if self._policy_state.activations.void(document):
            raise Void(f"expected {document.expected} to be active, by then another one was")
        self._takes[document.kind, document.name](document)

    def _settle(self) -> None:
        for listener in self._listeners:
            listener.settle(self._policy_state)

    def _restart(self) -> None:
        self._policy_state, self._seen = PolicyState(), {}
        for listener in self._listeners:
            listener.clear()

    def current(self) -> PolicyState:
        """Return the policy state as far as it was read."""
        return self._policy_state

    @property
    def refused(self) -> int:
        """Control documents refused so far."""
        return self._follower.refused

    def waits_for(self) -> str | None:
        """Describe in a line what is missing before what the topic says is in force, None when nothing."""
        return self._follower.waits_for()

    def wait_ready(self, timeout_s: float = 30.0) -> PolicyState:
        """Wait until what the topic said at the start is in force.

        Raises:
            PolicyUnread: It could not be read in time, or following it failed.
        """
        self._wait(lambda: self.waits_for() is None, timeout_s)
        return self._policy_state

    def wait_for(self, document: ControlDocument, timeout_s: float = 10.0) -> None:
        """Wait until the policy state has taken a document that was published.

        Raises:
            PolicyUnread: It was not read in time; what it changes may be in force all the same.
        """
        self._wait(lambda: self._seen.get(document.key) == document.time, timeout_s)

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while not done():
            if self._stop.is_set():
                raise PolicyUnread("following the control topic failed")
            if time.monotonic() >= until_s:
                raise PolicyUnread(f"waited {timeout_s:g} s for {self.waits_for() or 'the change'}")
            self._stop.wait(_LOOK_S)


@contextmanager
def follow_policy(
    settings: KafkaSettings,
    *,
    service: str,
    stop: threading.Event,
    listeners: Sequence[Listener] = (),
) -> Iterator[PolicyFollower]:
    """Follow `fraud_control` in a thread of its own.

    Args:
        settings: How to reach Kafka.
        service: Label of the metrics.
        stop: Set when following ends, by leaving or because it failed.
        listeners: What else follows the topic.
    """
    lag = CONTROL_LAG.labels(service)
    with TopicFeed(settings, Topic.CONTROL, service=service, lag=lag) as feed:
        follower = PolicyFollower(feed, service=service, stop=stop, listeners=listeners)
        with Background("control", follower.run, stop, daemon=True):
            yield follower


class SeenPublisher:
    """Publishes, and returns once the policy state shows it: who changes something reads it afterwards.

    Args:
        publisher: Writes to Kafka.
        follower: Follows the topic.
    """

    def __init__(self, publisher: ControlPublisher, follower: PolicyFollower) -> None:
        self._publisher = publisher
        self._follower = follower

    def publish(self, document: ControlDocument) -> None:
        """Write a document.

        Raises:
            CannotPublish: The broker did not acknowledge it.
            PolicyUnread: It is on the topic, and was not read from there in time.
        """
        self._publisher.publish(document)
        self._follower.wait_for(document)
