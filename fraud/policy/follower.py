"""Keep the policy state up to date from Kafka, while a service runs or for a single command."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Final

from fraud.contracts.control import LIST, ControlDocument, list_version
from fraud.contracts.lists import ListChange
from fraud.contracts.topics import Topic
from fraud.kafka.control import ControlFollower, ControlPublisher, Name, Void
from fraud.kafka.control_index import ControlIndex
from fraud.kafka.control_mark import ControlMark
from fraud.kafka.sync_producer import CannotPublish
from fraud.kafka.topic_follower import Feed, TopicFeed
from fraud.policy.state import KINDS, PolicyState
from fraud.runtime.background import Background
from fraud.runtime.clock import Clock, system_clock, to_datetime
from fraud.runtime.metrics import CONTROL_LAG
from fraud.runtime.settings import KafkaSettings

_LOOK_S: Final = 0.02
_TRIES: Final = 10


class PolicyUnread(Exception):
    """The control topic could not be read as far as needed; the message says why."""


class Listener:
    """Base class for other users of control documents, called in the follower's thread."""

    kinds: Collection[str] = ()
    """Kinds of documents that are passed to `apply`."""

    takes: Mapping[Name, Callable[[ControlDocument], None]] = MappingProxyType({})
    """Callbacks for the newest document of a kind and name; see `ControlFollower`."""

    def apply(self, document: ControlDocument) -> None:
        """Apply the next document, after the policy state has applied it.

        Raises:
            InvalidMessage: The document is invalid; the listener is unchanged.
        """

    def settle(self, policy_state: PolicyState) -> None:
        """Put the documents taken up since the last call in force, all at once."""

    def clear(self) -> None:
        """Discard what was applied, after the topic was recreated."""


class PolicyFollower:
    """Follow the control topic, once per process, for the policy state and any listeners.

    Args:
        feed: The topic, read from its start.
        service: Label of the metrics.
        stop: Ends following when set.
        listeners: Receive each document of their kinds after the policy state.
        index: Judges the records, see `ControlFollower`.
        mark: Remembers the highest number seen, see `ControlFollower`.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        service: str,
        stop: threading.Event,
        listeners: Sequence[Listener] = (),
        index: ControlIndex | None = None,
        mark: ControlMark | None = None,
    ) -> None:
        self.index = index
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
            index=index,
            mark=mark,
            service=service,
        )

    def run(self) -> None:
        """Follow the topic until `stop` is set."""
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

    def wait_adopted(self, timeout_s: float = 10.0) -> None:
        """Wait until the topic was read again, after its unsigned documents were adopted.

        Raises:
            PolicyUnread: It was not read in time.
        """
        index = self.index
        self._wait(
            lambda: index is None or (index.number > 0 and self.waits_for() is None), timeout_s
        )

    def wait_passed(self, number: int, timeout_s: float = 10.0) -> None:
        """Wait until a number of a control document was passed.

        Raises:
            PolicyUnread: It was not passed in time.
        """
        index = self.index
        self._wait(lambda: index is None or index.number >= number, timeout_s)

    def removable(self, now_ms: int) -> list[bytes]:
        """Return the keys of records that nobody needs: superseded ones, and refused ones."""
        index = self.index
        strays = [key for key in self._follower.strays if index and not index.has(key)]
        return [*self._follower.lists.removable(now_ms), *strays]

    def due_snapshot(self, name: str) -> ListChange | None:
        """Return a snapshot of a list whose changes have outgrown it, None if none is due."""
        follows = self._follower.lists.snapshot_due(name)
        state = self._policy_state.list_state(name)
        return None if follows is None or state is None else state.snapshot(follows)

    def current(self) -> PolicyState:
        """Return the policy state as read so far."""
        return self._policy_state

    @property
    def refused(self) -> int:
        """Number of control documents refused so far."""
        return self._follower.refused

    def waits_for(self) -> str | None:
        """Return one line on why the topic is not fully in force yet, or None once it is."""
        return self._follower.waits_for()

    def wait_ready(self, timeout_s: float = 30.0) -> PolicyState:
        """Wait until the documents that were on the topic at the start are in force.

        Args:
            timeout_s: How long to wait without any progress, seconds: a long topic is waited for.

        Raises:
            PolicyUnread: Reading made no progress, following failed, or documents were lost.
        """
        self._wait(lambda: self.waits_for() is None, timeout_s)
        return self._policy_state

    def wait_for(self, document: ControlDocument, timeout_s: float = 10.0) -> None:
        """Wait until a published document was read and processed.

        Raises:
            PolicyUnread: It was not processed in time; its change may still be in force.
        """
        self._wait(lambda: self._seen.get(document.key) == document.time, timeout_s)

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        until_s, seen = time.monotonic() + timeout_s, self._follower.progress
        while not done():
            if self._stop.is_set():
                raise PolicyUnread("following the control topic failed")
            if self._follower.lost is not None:
                raise PolicyUnread(f"waiting for {self._follower.lost}")
            if self._follower.progress != seen:
                until_s, seen = time.monotonic() + timeout_s, self._follower.progress
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
    """Follow the control topic (`fraud_control`) in a background thread.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        service: Label of the metrics.
        stop: Set when the context is left or following fails.
        listeners: Receive documents after the policy state, see `PolicyFollower`.

    Raises:
        PolicyUnread: The control key cannot be used.
    """
    lag = CONTROL_LAG.labels(service)
    try:
        index = ControlIndex.of(settings)
    except (OSError, ValueError) as problem:
        raise PolicyUnread(f"the control key cannot be used: {problem}") from None
    with TopicFeed(settings, Topic.CONTROL, service=service, lag=lag) as feed:
        follower = PolicyFollower(
            feed,
            service=service,
            stop=stop,
            listeners=listeners,
            index=index,
            mark=ControlMark(settings),
        )
        with Background("control", follower.run, stop, daemon=True):
            yield follower


class SeenPublisher:
    """Publish documents and wait until the follower has read them: callers see their own writes.

    It also keeps the topic small: it removes what was superseded longer ago than past decisions are
    computed again, and after a change of a list takes a snapshot if one is due.

    Args:
        publisher: Writes the documents to Kafka.
        follower: Reads them back.
        clock: Time now, UTC epoch milliseconds.
        ids: Returns a unique id for each snapshot, of letters and digits.
    """

    def __init__(
        self,
        publisher: ControlPublisher,
        follower: PolicyFollower,
        *,
        clock: Clock = system_clock,
        ids: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._publisher = publisher
        self._follower = follower
        self._clock = clock
        self._ids = ids
        self._lock = threading.Lock()

    def publish(self, document: ControlDocument) -> None:
        """Publish a document; the policy state reflects it on return.

        Raises:
            CannotPublish: The broker did not acknowledge the document.
            PolicyUnread: The document is on the topic but was not read back in time.
        """
        # One at a time, as each needs the next number.
        with self._lock:
            # Tombstones come first: the newest record is then a document, which compaction keeps,
            # and with it the seal of what exists.
            for key in self._follower.removable(self._clock()):
                self._send(key, None)
            self._publish(document)
            if document.kind == LIST and document.version.endswith(f".{_parts(document)}"):
                self._take_snapshot(document.name)

    def _publish(self, document: ControlDocument) -> None:
        self._send(document.key, document.value)
        self._follower.wait_for(document)

    def _send(self, key: bytes, value: bytes | None) -> None:
        """Write a record; others may use its number first, and then it gets another one."""
        index = self._follower.index
        if index is None:
            raise CannotPublish("the follower of the control topic has no key to sign with")
        if index.unsigned and not index.number:
            self._publisher.adopt("fraudstream")
            self._follower.wait_adopted()
        for _ in range(_TRIES):
            number = self._publisher.send_signed(key, value, index)
            self._follower.wait_passed(number)
            if index.has(key, number) or value is None:
                return
        raise CannotPublish("other changes of the control topic always came first: try again")

    def _take_snapshot(self, name: str) -> None:
        """Publish a snapshot of a list if one is due."""
        snapshot = self._follower.due_snapshot(name)
        if snapshot is None:
            return
        change_id, time = self._ids(), to_datetime(self._clock())
        for part in snapshot.cut():
            self._publish(
                ControlDocument(
                    kind=LIST,
                    name=name,
                    version=list_version(change_id, part.part),
                    author="fraudstream",
                    time=time,
                    content=part.model_dump(mode="json", exclude_defaults=True),
                )
            )


def _parts(document: ControlDocument) -> int:
    return int(document.content.get("parts", 1))
