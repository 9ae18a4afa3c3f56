"""`fraud_control` in memory: what is published is in force when publishing returns."""

from __future__ import annotations

from threading import Event

from fraud.contracts.control import ControlDocument
from fraud.kafka.control_index import ControlIndex
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Position, TopicReplaced
from fraud.policy.follower import Listener, PolicyFollower
from fraud.policy.state import PolicyState


class ControlTopic:
    """The topic as its publisher, its feed, and who follows it.

    Args:
        listeners: What follows it besides the policy state.
        key: Signs the documents; None leaves them unsigned, and any counts.

    Attributes:
        documents: Those published so far.
        messages: The signed records so far.
        now_ms: The broker's time.
    """

    def __init__(self, *listeners: Listener, key: bytes | None = None) -> None:
        self.documents: list[ControlDocument] = []
        self.messages: list[Message] = []
        self.now_ms = 0
        self._key = key
        self._batch: list[Message] | None = []
        self._stop = Event()
        self.follower = PolicyFollower(
            self,
            service="test",
            stop=self._stop,
            listeners=listeners,
            index=None if key is None else ControlIndex(key),
        )

    @property
    def policy_state(self) -> PolicyState:
        """The policy state as far as documents were published."""
        return self.follower.current()

    def publish(self, *documents: ControlDocument) -> None:
        """Write documents, which the follower reads at once, by way of their bytes."""
        self.documents += documents
        self._batch = [
            Message("control", 0, at, 0, document.key, document.value)
            for at, document in enumerate(documents)
        ]
        self._follow()

    def send_signed(self, key: bytes, value: bytes | None, index: ControlIndex) -> int:
        """Write a signed record, see `ControlPublisher`."""
        number, headers = index.sign(key, value)
        message = Message("control", 0, len(self.messages), self.now_ms, key, value, tuple(headers))
        self.messages.append(message)
        self._batch = [message]
        self._follow()
        return number

    def read_anew(self) -> PolicyState:
        """Return the policy state of a process that starts on what compaction leaves."""
        last = {message.key: message for message in self.messages}
        started = ControlTopic(key=self._key)
        started._batch = [one for one in self.messages if last[one.key] is one]
        started._follow()
        return started.follower.wait_ready(0)

    def replace(self) -> None:
        """Make the topic anew."""
        self._batch = None
        self._follow()

    def _follow(self) -> None:
        self._stop.clear()
        self.follower.run()

    def start(self, position: Position | None) -> None:
        """See `Feed`."""

    def poll(self, timeout_s: float) -> list[Message]:
        """See `Feed`; after one batch the follower ends."""
        batch, self._batch = self._batch, []
        if batch is None:
            raise TopicReplaced("the topic was made anew")
        self._stop.set()
        return batch

    def position(self) -> Position | None:
        """See `Feed`."""
        return None

    def waits_for(self) -> str | None:
        """See `Feed`."""
        return None
