"""Follow and write the control topic (`fraud_control`), which switches policy at run time.

A document is passed to the code that uses it. If that refuses it, the last good one stays in force.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from threading import Event
from types import MappingProxyType
from typing import Final

import structlog

from fraud.contracts.control import LIST, ControlDocument, decode_control, read_key
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.list_log import ListLog
from fraud.contracts.topics import Topic
from fraud.kafka.control_index import ADOPTED, ControlIndex, Verdict, digest_of
from fraud.kafka.control_mark import ControlMark
from fraud.kafka.group_consumer import Message, message_of
from fraud.kafka.range_reader import CannotRead, TopicSpan
from fraud.kafka.sync_producer import CannotPublish, SyncProducer
from fraud.kafka.topic_follower import Feed, TopicReplaced
from fraud.runtime.clock import Clock, system_clock, to_datetime
from fraud.runtime.metrics import CONTROL_REFUSED, CONTROL_SWITCH_SECONDS
from fraud.runtime.settings import KafkaSettings

_POLL_S: Final = 0.1
_TRIES: Final = 10
_ADOPTED_AT_ONCE: Final = 5_000
"""Documents listed in one document, which stays far below a mebibyte."""

_log = structlog.get_logger("fraud.kafka.control")

Name = tuple[str, str]
"""Kind and name of control documents; documents that share both replace each other."""


class Refused(Exception):
    """The code that uses a document cannot apply it; the message says why."""


class Void(Exception):
    """A valid document is not in force, since a concurrent change overtook it."""


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector: its passes over a long list double the time that a start takes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class ControlFollower:
    """Pass the newest control documents to the callbacks that use them.

    Of the documents on the topic at the start, only the newest of each kind and name is passed on;
    if it is refused, the one before it is, and so on. A starting process thus has the same
    documents in force as running ones. Kinds in `fold` differ: all their documents are passed on,
    in topic order, and before the newest of the same batch. Of lists, a start passes over what a
    later change of the whole list supersedes, so that it costs no more than the lists as they are.

    Tombstones remove superseded documents, so they change nothing that is in force. Only signed
    records count, and adopted ones (see `fraud.kafka.control_index`). On a topic that has no signed
    record yet, all do: `python -m fraud.kafka.topics`, which every start runs, adopts them.

    Args:
        feed: The topic, read from its start.
        take: Callbacks by kind and name, called in the follower's thread. They raise
            `InvalidMessage` or `Refused` to refuse a document, and `Void` to skip it. Documents
            without a callback are skipped.
        fold: Callbacks by kind, called with every document of the kind. They raise `InvalidMessage`
            or `Refused`; a document refused here is not passed to `take`.
        settle: Called after documents were taken up, to put them in force together.
        restart: Called before a recreated topic is read, to discard folded documents.
        index: Judges the records; None accepts all.
        mark: Remembers the highest number seen, so that a topic that lost documents is not ready;
            None accepts any topic.
        lost_after_s: How long documents may be missing before they are lost, seconds: another
            process may have seen newer ones.
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
        index: ControlIndex | None = None,
        mark: ControlMark | None = None,
        lost_after_s: float = 5.0,
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
        self._index = index
        self._mark = mark
        self._lost_after_s = lost_after_s
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
        self.strays: set[bytes] = set()
        """Keys of refused records; a tombstone removes those under which no document exists."""
        self._arrived = 0
        # Records to be taken up, by the order of their arrival, and their places by key.
        self._pending: dict[int, Message] = {}
        self._places: defaultdict[bytes, list[int]] = defaultdict(list)
        # At the start, unsigned records wait for the document that adopts them.
        self._unsigned: dict[int, Message] = {}
        self._missing_since_s: float | None = None
        if self._index is not None:
            self._index.clear()

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
                for message in batch:
                    self._collect(message)
            except TopicReplaced as verdict:
                _log.warning("control.topic_replaced", reason=str(verdict))
                self.ready.clear()
                self._clear()
                self._restart()
                self._feed.start(None)
                continue
            self.progress += len(batch)
            if self.ready.is_set() and not batch:
                continue
            if self._feed.waits_for() is None and self._is_whole():
                with nullcontext() if self.ready.is_set() else _without_collections():
                    self._admit_unsigned()
                    self._take_up([self._pending[place] for place in sorted(self._pending)])
                self._pending.clear()
                self._places.clear()
                self.ready.set()
                if self._index is not None and self._mark is not None:
                    self._mark.set(self._index.number)

    def _collect(self, message: Message) -> None:
        """Judge a record, and add it to those that are taken up next.

        Raises:
            TopicReplaced: It adopts documents that may have been refused before.
        """
        self._arrived += 1
        before = 0 if self._index is None else self._index.number
        verdict = Verdict.ACCEPTED if self._index is None else self._index.read(message)
        if verdict is Verdict.UNSIGNED:
            if not self.ready.is_set():
                self._unsigned[self._arrived] = message
            elif self._index is not None and self._index.number:
                self._refuse_record(message, "its signature is missing or wrong")
            else:
                self._accept(self._arrived, message)
        elif verdict is Verdict.PASSED:
            self._refuse_record(message, "its number was passed: it was sent before, or overtaken")
        elif verdict is Verdict.ACCEPTED:
            adopts = (message.key or b"").startswith(f"{ADOPTED}/".encode())
            # The first adoption lists what was accepted unsigned so far.
            if adopts and before and self.ready.is_set():
                raise TopicReplaced("unsigned documents were adopted")
            self._accept(self._arrived, message)

    def _accept(self, place: int, message: Message) -> None:
        """Add a record to those that are taken up next; at the start, drop what it supersedes."""
        key = message.key or b""
        if message.value is None:
            self.lists.remove(key)
            self._drop([key])
            return
        self._drop(self._superseded(self.lists, message))
        self._places[key].append(place)
        self._pending[place] = message

    def _drop(self, keys: Iterable[bytes]) -> None:
        if self.ready.is_set():
            # Running processes have taken up what they would pass over at a start.
            list(keys)
            return
        for key in keys:
            for place in self._places.pop(key, ()):
                self._pending.pop(place, None)

    def _superseded(self, lists: ListLog, message: Message) -> list[bytes]:
        """Return the keys of the documents of a list that a record supersedes."""
        if LIST not in self._fold:
            return []
        key = message.key or b""
        try:
            kind, name, version = read_key(key)
        except InvalidMessage:
            return []
        if kind != LIST:
            return []
        return list(lists.add(name, version, key, message.value or b"", message.timestamp_ms))

    def _admit_unsigned(self) -> None:
        """Add the unsigned records that count to those that are taken up next, before the others."""
        unsigned, self._unsigned = self._unsigned, {}
        earlier = ListLog()
        for place, message in unsigned.items():
            if self._index is not None and self._index.number:
                if not self._index.is_adopted(message):
                    if not self._index.was_adopted(message):
                        self._refuse_record(message, "its signature is missing or wrong")
                    continue
            elif message.value is None:
                self._accept(place, message)
                continue
            self._places[message.key or b""].append(place)
            self._pending[place] = message
            self._drop(self._superseded(earlier, message))
        self._drop(self.lists.put_before(earlier))

    def _is_whole(self) -> bool:
        """Check that the topic still has all documents that were published."""
        missing = self._missing()
        if missing is None:
            self.lost, self._missing_since_s = None, None
            return True
        now_s = time.monotonic()
        self._missing_since_s = self._missing_since_s or now_s
        if now_s - self._missing_since_s >= self._lost_after_s:
            self.ready.clear()
            if self.lost is None:
                _log.error("control.documents_lost", detail=missing)
            self.lost = f"control documents: {missing}; restore the topic, or see `fraudstream control accept`"
        return False

    def _missing(self) -> str | None:
        """Return one line on the documents that are missing, None if none is."""
        if self._index is None or self.ready.is_set():
            return None
        if self._mark is not None and (missing := self._mark.missing(self._index.number)):
            return missing
        return self._index.missing(self._unsigned.values())

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

    def _refuse_record(self, message: Message, why: str) -> None:
        """Refuse a record as such, whatever it says; the next writer removes it."""
        self.strays.add(message.key or b"")
        self._refuse(message, Refused(why))

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
    """Sign control documents, write them to the control topic, and wait for each acknowledgement.

    Args:
        settings: How to reach Kafka, the topic's physical name, and the key.
        timeout_s: How long the broker may take to acknowledge a document, seconds.
    """

    def __init__(self, settings: KafkaSettings, timeout_s: float = 10.0) -> None:
        super().__init__(settings, Topic.CONTROL, timeout_s)
        self._settings = settings

    def publish(self, document: ControlDocument) -> None:
        """Write a document; it is on the topic, and counts, when this returns.

        The topic is read before and after; processes that follow it use `send_signed`.

        Raises:
            CannotPublish: The broker did not acknowledge it, the topic cannot be read, or others
                always came first.
            InvalidMessage: A part of its key is malformed.
        """
        key, value = document.key, document.value
        try:
            self.adopt(document.author)
            for _ in range(_TRIES):
                number = self.send_signed(key, value, _read_index(self._settings))
                if _read_index(self._settings).has(key, number):
                    ControlMark(self._settings).set(number)
                    return
        except CannotRead as problem:
            raise CannotPublish(str(problem)) from None
        raise CannotPublish("other changes of the control topic always came first: try again")

    def adopt(self, author: str) -> None:
        """Adopt the unsigned documents, if the topic has no signed one, see `adopt_unsigned`.

        Raises:
            CannotPublish: The topic cannot be read, or the broker did not acknowledge the list.
        """
        try:
            adopt_unsigned(self._settings, author)
        except CannotRead as problem:
            raise CannotPublish(str(problem)) from None

    def send_signed(
        self,
        key: bytes,
        value: bytes | None,
        index: ControlIndex,
        adopted: Mapping[str, str] | None = None,
    ) -> int:
        """Write a document, or its tombstone if the value is None, and return its number.

        It counts unless another writer has used the number before; the index then does not have it.

        Args:
            key: Key of the record.
            value: Value of the record.
            index: What was read of the topic.
            adopted: Unsigned documents that the document adopts.

        Raises:
            CannotPublish: The broker did not acknowledge it.
        """
        number, headers = index.sign(key, value, adopted)
        self.send(key, value, headers)
        return number


@dataclass(frozen=True, slots=True)
class ControlTopic:
    """The control topic as it was read to its end.

    Attributes:
        records: Records that count, in topic order, tombstones left out.
        unsigned: The last record of each key that has no valid signature, and does not count.
        passed: Number of signed records whose number was passed.
        missing: One line on documents that were removed or overwritten, None if none was.
        index: What exists.
    """

    records: list[Message]
    unsigned: dict[bytes, Message]
    passed: int
    missing: str | None
    index: ControlIndex


def read_control(settings: KafkaSettings, stop: Event | None = None) -> ControlTopic:
    """Read the control topic to its end.

    Raises:
        CannotRead: Kafka cannot be read.
        Stopped: `stop` was set.
    """
    index = ControlIndex.of(settings)
    signed: list[Message] = []
    unsigned: list[Message] = []
    passed = 0
    for message, verdict in _read(settings, index, stop):
        if verdict is Verdict.UNSIGNED:
            unsigned.append(message)
        elif verdict is Verdict.ACCEPTED and message.value is not None:
            signed.append(message)
        passed += verdict is Verdict.PASSED
    last = {message.key or b"": message for message in unsigned}
    if index.number:
        counts = [message for message in unsigned if index.is_adopted(message)]
        others = {
            key: message
            for key, message in last.items()
            if not (index.is_adopted(message) or index.was_adopted(message))
        }
    else:
        removed = {key for key, message in last.items() if message.value is None}
        counts = [message for message in unsigned if message.key not in removed]
        others = {}
    return ControlTopic([*counts, *signed], others, passed, index.missing(unsigned), index)


def _read(
    settings: KafkaSettings, index: ControlIndex, stop: Event | None = None
) -> Iterator[tuple[Message, Verdict]]:
    with TopicSpan(settings, Topic.CONTROL, service="fraudstream_control") as span:
        for raw in chain.from_iterable(span.batches(stop)):
            message = message_of(raw)
            yield message, index.read(message)


def _read_index(settings: KafkaSettings) -> ControlIndex:
    index = ControlIndex.of(settings)
    for _ in _read(settings, index):
        pass
    return index


def adopt_unsigned(settings: KafkaSettings, author: str) -> int:
    """Sign a list of the unsigned documents, if the topic has no signed one; return their number.

    Raises:
        CannotRead: Kafka cannot be read.
        CannotPublish: The broker did not acknowledge the list.
    """
    if ControlMark(settings).number():
        return 0
    topic = read_control(settings)
    if topic.index.number or not topic.records:
        return 0
    unsigned = {message.key or b"": message for message in topic.records}
    return _adopt(settings, topic.index, unsigned, author)


def accept_control(settings: KafkaSettings, author: str, *, unsigned: bool) -> int:
    """Declare the control topic as it is now to be whole; return the number of adopted documents.

    Args:
        settings: How to reach Kafka, and the topic's physical name.
        author: Who says so.
        unsigned: Whether documents without a valid signature count from now on.

    Raises:
        CannotRead: Kafka cannot be read.
        CannotPublish: The broker did not acknowledge it.
    """
    topic = read_control(settings)
    index = topic.index
    is_signed = index.number > 0
    index.skip_to(ControlMark(settings).number())
    seen = {message.key or b"": message for message in topic.records}
    before = set(index.adopted_keys())
    index.forget(before - seen.keys())
    adopted = {key: seen[key] for key in before & seen.keys()}
    if unsigned:
        # Without any signed document all count, and are not among the unsigned ones.
        others = topic.unsigned if is_signed else seen
        adopted |= {key: one for key, one in others.items() if not index.has(key)}
    return _adopt(settings, index, adopted, author, replaces=True)


def _adopt(
    settings: KafkaSettings,
    index: ControlIndex,
    unsigned: Mapping[bytes, Message],
    author: str,
    *,
    replaces: bool = False,
) -> int:
    documents = []
    for key, message in unsigned.items():
        try:
            decode_control(key, message.value)
        except InvalidMessage:
            continue
        documents.append((key.decode(), digest_of(message)))
    publisher = ControlPublisher(settings)
    # At least one, which seals what exists.
    for first in range(0, max(1, len(documents)), _ADOPTED_AT_ONCE):
        listed = dict(documents[first : first + _ADOPTED_AT_ONCE])
        document = ControlDocument(
            kind=ADOPTED,
            name="control",
            version=str(index.number + 1),
            author=author,
            time=to_datetime(system_clock()),
            content={"documents": listed, "replaces": replaces and not first},
        )
        number = publisher.send_signed(document.key, document.value, index, listed)
        index.note(number, document.key, document.value)
    ControlMark(settings).set(index.number)
    _log.info("control.documents_adopted", documents=len(documents), author=author)
    return len(documents)
