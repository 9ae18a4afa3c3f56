"""The policy state, kept up to date from Kafka: for as long as a service runs, or once for a command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol, Self

from fraud.contracts.control import ControlDocument
from fraud.contracts.topics import Topic
from fraud.kafka.control import ControlFollower, ControlPublisher
from fraud.kafka.topic_follower import TopicFeed
from fraud.policy.state import KINDS, PolicyState
from fraud.runtime.background import Background
from fraud.runtime.metrics import CONTROL_LAG
from fraud.runtime.settings import KafkaSettings

_LOOK_S: Final = 0.02


class PolicyUnread(Exception):
    """The control topic could not be read to its end; the text says what it waits for."""


class Keeper(Protocol):
    """Keeps what documents of a kind say, as the policy state does for its own."""

    def take(self, document: ControlDocument) -> None:
        """Take the next document; raises `InvalidMessage` for a broken one."""
        ...

    def clear(self) -> None:
        """Forget everything: the topic was made anew."""
        ...


class PolicyFollower:
    """A policy state that follows `fraud_control` in a thread of its own, as a context manager.

    Args:
        settings: How to reach Kafka.
        service: Label of the metrics.
        stop: Set when following ends, by leaving or because it failed.
        beside: By further kinds, who keeps their documents; told of each, and when all is void.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        service: str,
        stop: threading.Event,
        beside: Mapping[str, Keeper] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._service = service
        self._stop = stop
        self._stack = ExitStack()
        self._policy_state = PolicyState()
        self._seen: dict[bytes, datetime] = {}
        self._beside = beside
        self._follower: ControlFollower | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            feed = stack.enter_context(
                TopicFeed(
                    self._settings,
                    Topic.CONTROL,
                    service=self._service,
                    lag=CONTROL_LAG.labels(f"{self._service}_book"),
                )
            )
            follower = ControlFollower(
                feed,
                {},
                fold=dict.fromkeys((*KINDS, *self._beside), self._take),
                restart=self._restart,
                service=f"{self._service}_book",
            )
            stack.enter_context(
                Background("book", lambda: follower.run(self._stop), self._stop, daemon=True)
            )
            self._follower = follower
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _take(self, document: ControlDocument) -> None:
        keeper = self._beside.get(document.kind)
        if keeper is None:
            self._policy_state.apply(document)
        else:
            keeper.take(document)
        self._seen[document.key] = document.time

    def _restart(self) -> None:
        self._policy_state, self._seen = PolicyState(), {}
        for keeper in self._beside.values():
            keeper.clear()

    def current(self) -> PolicyState:
        """Return the policy state as far as it was read."""
        return self._policy_state

    def waits_for(self) -> str | None:
        """Describe in a line what is missing before the policy state is that of the topic, None when nothing."""
        return self._follower.waits_for() if self._follower else "the control topic"

    def wait_ready(self, timeout_s: float = 30.0) -> PolicyState:
        """Wait until the topic was read to the end it had at the start.

        Raises:
            PolicyUnread: It could not be read in time.
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


class SeenPublisher:
    """Publishes, and returns once the policy state shows it: who changes something reads it afterwards.

    Args:
        publisher: Writes to Kafka.
        policy_state: Follows the topic.
    """

    def __init__(self, publisher: ControlPublisher, policy_state: PolicyFollower) -> None:
        self._publisher = publisher
        self._policy_state = policy_state

    def publish(self, document: ControlDocument) -> None:
        """Write a document.

        Raises:
            CannotPublish: The broker did not acknowledge it.
            PolicyUnread: It is on the topic, and was not read from there in time.
        """
        self._publisher.publish(document)
        self._policy_state.wait_for(document)
