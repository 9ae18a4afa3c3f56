"""Follow and write the control topic (`fraud_control`), which switches policy at run time.

A document is passed to the code that uses it. If that refuses it, the last good one stays in force.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from types import MappingProxyType
from typing import Final

import structlog

from fraud.contracts.control import LIST, ControlDocument, decode_control, read_key
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.list_log import ListLog
from fraud.contracts.topics import Topic
from fraud.kafka.control_mark import ControlMark
from fraud.kafka.group_consumer import Message
from fraud.kafka.sync_producer import SyncProducer
from fraud.kafka.topic_follower import Feed, TopicReplaced
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.metrics import CONTROL_REFUSED, CONTROL_SWITCH_SECONDS
from fraud.runtime.settings import KafkaSettings

_POLL_S: Final = 0.1
_CALL_S: Final = 5.0

_log = structlog.get_logger("fraud.kafka.control")

Name = tuple[str, str]
"""Kind and name of control documents; documents that share both replace each other."""


class Refused(Exception):
    """The code that uses a document cannot apply it; the message says why."""


class Void(Exception):
    """A valid document is not in force, since a concurrent change overtook it."""


class ControlFollower:
    """Pass the newest control documents to the callbacks that use them.

    Of the documents on the topic at the start, only the newest of each kind and name is passed on;
    if it is refused, the one before it is, and so on. A starting process thus has the same
    documents in force as running ones. Kinds in `fold` differ: all their documents are passed on,
    in topic order, and before the newest of the same batch. Of lists, a start passes over what a
    later change of the whole list supersedes, so that it costs no more than the lists as they are.

    Tombstones remove superseded documents, so they change nothing that is in force.

    Args:
        feed: The topic, read from its start.
        take: Callbacks by kind and name, called in the follower's thread. They raise
            `InvalidMessage` or `Refused` to refuse a document, and `Void` to skip it. Documents
            without a callback are skipped.
        fold: Callbacks by kind, called with every document of the kind. They raise `InvalidMessage`
            or `Refused`; a document refused here is not passed to `take`.
        settle: Called after documents were taken up, to put them in force together.
        restart: Called before a recreated topic is read, to discard folded documents.
        mark: Remembers that documents were published, so that a topic that lost them is not ready;
            None accepts any topic.
        service: Label of the metrics.
        clock: Time now, UTC epoch milliseconds.
    """

    def __init__(
        self,
        feed: Feed,
        take: Mapping[Name, Callable[[ControlDocument], None]],
        *,
        fold: Mapping[str, Callable[[ControlDocument], None]] = MappingProxyType({}),
        settle: Callable[[], None] = lambda: None,
        restart: Callable[[], None] = lambda: None,
        mark: ControlMark | None = None,
        service: str,
        clock: Clock = system_clock,
    ) -> None:
        self._feed = feed
        self._take = take
        self._fold = fold
        self._settle = settle
        self._restart = restart
        self._service = service
        self._clock = clock
        self._mark = mark
        self._clear()
        # Prometheus sees the first refusal as an increase only if the series existed before.
        CONTROL_REFUSED.labels(service)
        self.ready = Event()
        """Set once the documents that were on the topic at the start are in force."""
        self.refused = 0
        """Number of documents refused so far."""
        self.progress = 0
        """Number of records read and documents folded; it grows while a start goes on."""
        self.lost: str | None = None
        """One line on documents that were published and are gone; None if none is missing."""

    def _clear(self) -> None:
        self.lists = ListLog()
        self._documents = 0
        # Records to be taken up, by the order of their arrival, and their places by key.
        self._pending: dict[int, Message] = {}
        self._places: defaultdict[bytes, list[int]] = defaultdict(list)

    def waits_for(self) -> str | None:
        """Return one line on why the topic is not fully in force yet, or None once it is."""
        if self.ready.is_set():
            return None
        return self.lost or self._feed.waits_for() or "control documents to be taken up"

    def run(self, stop: Event) -> None:
        """Follow the topic until `stop` is set, waiting for brokers that are away."""
        self._feed.start(None)
        while not stop.is_set():
            try:
                batch = self._feed.poll(_POLL_S)
            except TopicReplaced as verdict:
                _log.warning("control.topic_replaced", reason=str(verdict))
                self.ready.clear()
                self._clear()
                self._restart()
                self._feed.start(None)
                continue
            for message in batch:
                self._collect(message)
            self.progress += len(batch)
            if self.ready.is_set() and not batch:
                continue
            if self._feed.waits_for() is None and self._is_whole():
                self._take_up(list(self._pending.values()))
                self._pending.clear()
                self._places.clear()
                self.ready.set()

    def _collect(self, message: Message) -> None:
        """Add a record to those that are taken up next; at the start, drop what it supersedes."""
        key = message.key or b""
        if message.value is None:
            self.lists.remove(key)
            gone = [key]
        else:
            gone = self._superseded(key, message)
        if not self.ready.is_set():
            for one in gone:
                for place in self._places.pop(one, ()):
                    del self._pending[place]
        if message.value is not None:
            self._documents += 1
            self._places[key].append(self._documents)
            self._pending[self._documents] = message

    def _superseded(self, key: bytes, message: Message) -> list[bytes]:
        """Return the keys of the documents of a list that a record supersedes."""
        if LIST not in self._fold:
            return []
        try:
            kind, name, version = read_key(key)
        except InvalidMessage:
            return []
        if kind != LIST:
            return []
        return list(self.lists.add(name, version, key, message.value or b"", message.timestamp_ms))

    def _is_whole(self) -> bool:
        """Check that the topic still has what was published, and remember that something was."""
        if self._mark is None:
            return True
        lost = self._mark.check(self._documents)
        if lost is not None and lost != self.lost:
            _log.error("control.documents_lost", detail=lost)
        self.lost = lost
        return lost is None

    def _take_up(self, batch: Sequence[Message]) -> None:
        taken: list[Message] = []
        folded: list[tuple[Message, InvalidMessage | Refused | None]] = []
        for message in batch:
            verdict = None
            try:
                if self._folded(message):
                    taken.append(message)
            except (InvalidMessage, Refused) as refusal:
                verdict = refusal
            folded.append((message, verdict))
        newest: set[Name] = set()
        # Newest first: once one is taken up, older ones of the same kind and name are skipped. The
        # refusal of a replaced document concerns nobody, and would be reported at every start.
        for message, refused in reversed(folded):
            try:
                kind, name, _ = read_key(message.key)
                if (kind, name) in newest:
                    continue
                if refused is not None:
                    raise refused
                take = self._take.get((kind, name))
                if take is None:
                    continue
                document = decode_control(message.key, message.value)
                take(document)
            except Void as verdict:
                _log.info("control.document_void", kind=kind, name=name, detail=str(verdict))
                continue
            except (InvalidMessage, Refused) as verdict:
                self._refuse(message, verdict)
                continue
            newest.add((kind, name))
            taken.append(message)
            _log.info("control.taken_up", kind=kind, name=name, version=document.version)
        if not taken:
            return
        self._settle()
        arrived = [message.timestamp_ms for message in taken if message.timestamp_ms >= 0]
        # Documents that were there at the start may be old, and say nothing of the delay.
        if self.ready.is_set() and arrived:
            passed_ms = max(0, self._clock() - min(arrived))
            CONTROL_SWITCH_SECONDS.labels(self._service).set(passed_ms / 1000)

    def _folded(self, message: Message) -> bool:
        kind, _, _ = read_key(message.key)
        fold = self._fold.get(kind)
        if fold is None:
            return False
        self.progress += 1
        fold(decode_control(message.key, message.value))
        return True

    def _refuse(self, message: Message, verdict: InvalidMessage | Refused) -> None:
        self.refused += 1
        CONTROL_REFUSED.labels(self._service).inc()
        _log.error(
            "control.document_refused",
            key=(message.key or b"").decode("utf-8", "replace")[:200],
            offset=message.offset,
            detail=verdict.detail if isinstance(verdict, InvalidMessage) else str(verdict),
        )


class ControlPublisher(SyncProducer):
    """Write control documents to the control topic, and wait for each acknowledgement.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        timeout_s: How long the broker may take to acknowledge a document, seconds.
    """

    def __init__(self, settings: KafkaSettings, timeout_s: float = 10.0) -> None:
        super().__init__(settings, Topic.CONTROL, timeout_s)

    def publish(self, document: ControlDocument) -> None:
        """Write a document; it is on the topic when this returns.

        Raises:
            CannotPublish: The broker did not acknowledge it.
            InvalidMessage: A part of its key is malformed.
        """
        self.send(document.key, document.value)

    def remove(self, key: bytes) -> None:
        """Remove a superseded document; readers take its tombstone as compaction does.

        Raises:
            CannotPublish: The broker did not acknowledge the tombstone.
        """
        self.send(key, None)
