"""Sending dead letters back to the topic that they came from, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import orjson

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.label import decode_label
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import decode, parse
from fraud.kafka.batched_producer import KafkaWriter
from fraud.kafka.dead_letters import REPLAYED_FROM, DeadLetter, ReplayedLetters, read_all
from fraud.kafka.topic_follower import TopicFeed
from fraud.runtime.clock import system_clock
from fraud.runtime.files import locked
from fraud.runtime.settings import KafkaSettings, LabelSettings
from fraud.security.audit import AuditLog, at_the_command_line


class ReplaySettings(KafkaSettings, LabelSettings):
    """What sending back needs."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Filter of dead letters; an empty set matches any.

    Attributes:
        codes: Error codes.
        since_ms: Earliest Kafka timestamp of the dead letter, UTC epoch milliseconds.
        positions: Partitions and offsets of single dead letters.
    """

    codes: frozenset[str] = frozenset()
    since_ms: int = 0
    positions: frozenset[tuple[int, int]] = frozenset()

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter passes the filter."""
        place = letter.place
        return (
            (not self.codes or letter.error_code in self.codes)
            and letter.message.timestamp_ms >= self.since_ms
            and (not self.positions or (place.partition, place.offset) in self.positions)
        )


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The dead letters to send back, and how.

    Attributes:
        wanted: Filter of the dead letters.
        edits: Values of fields to set before sending.
        limit: Maximum number of records to send, None for no limit.
        force: Whether to send records that would become dead letters again.
        again: Whether to send dead letters that were sent back before.
        dry_run: Whether only to count what would be sent.
    """

    wanted: LetterFilter
    edits: Mapping[str, Any]
    limit: int | None = None
    force: bool = False
    again: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of a request.

    Attributes:
        sent: Records sent back, or that would be, by physical topic.
        kept: Letters that were not, by reason.
        refused: Records that Kafka refused, by reason.
        unacknowledged: Records that Kafka may not have.
    """

    sent: Counter[str]
    kept: Counter[str]
    refused: Counter[str]
    unacknowledged: int


def topic_id(feed: TopicFeed) -> str:
    """Return Kafka's id of the topic that a feed reads, empty before the topic was found."""
    position = feed.position()
    return position.topic_id if position else ""


def replay(
    settings: ReplaySettings, feed: TopicFeed, request: ReplayRequest, stop: Event
) -> ReplayResult:
    """Send dead letters back, on record. Each is checked first as its reader would.

    Args:
        settings: Kafka, and the folder of state.
        feed: Of the dead letters, at the beginning.
        request: Which, and how.
        stop: Ends it early; what was sent by then stays so.

    Raises:
        WriterError: Kafka refuses to go on.
    """
    wanted = request.wanted
    writer = KafkaWriter(settings.librdkafka())
    change = AuditLog(settings.state_dir).change(
        at_the_command_line(),
        "dlq.replayed",
        settings.topic(Topic.DEAD_LETTERS),
        after={
            "codes": sorted(wanted.codes),
            "since_ms": wanted.since_ms,
            "places": sorted(f"{partition}-{offset}" for partition, offset in wanted.positions),
            "fields_set": sorted(request.edits),
        },
    )
    for topic in (Topic.TRANSACTIONS, Topic.LABELS):
        writer.check(settings.topic(topic), timeout_s=10)
    with (
        locked(settings.state_dir / "dlq-replay.lock"),
        nullcontext() if request.dry_run else change,
        ReplayedLetters(settings.state_dir) as replayed,
    ):
        sent, kept = _send(settings, feed, writer, replayed, request, stop)
    lost = 0 if request.dry_run else sent.total() - writer.acknowledged.total()
    return ReplayResult(sent, kept, writer.refused, lost)


def _send(
    settings: ReplaySettings,
    feed: TopicFeed,
    writer: KafkaWriter,
    replayed: ReplayedLetters,
    request: ReplayRequest,
    stop: Event,
) -> tuple[Counter[str], Counter[str]]:
    labels = settings.topic(Topic.LABELS)
    sent = Counter({settings.topic(Topic.TRANSACTIONS): 0})
    kept: Counter[str] = Counter()
    seen: set[str] = set()
    for letter in filter(request.wanted.matches, read_all(feed)):
        if stop.is_set() or sent.total() == request.limit:
            break
        if letter.id in seen:
            continue  # the same input, refused twice, as after a restart
        seen.add(letter.id)
        if not request.again and replayed.replayed_at_ms(topic_id(feed), letter) is not None:
            kept["sent back before, and not again"] += 1
            continue
        if letter.is_cut:
            kept["cut to what the topic takes: nothing whole to send back"] += 1
            continue
        is_label = letter.source is not None and letter.source.topic == labels
        key, value = letter.message.key, letter.message.value
        if value is None:
            kept["without a value: nothing to send back"] += 1
            continue
        try:
            if request.edits:
                key, value = _edited(key, value, request.edits)
            if not request.force and is_label:
                decode_label(value, arrived_ms=system_clock(), ahead_s=settings.label_ahead_s)
            elif not request.force:
                decode(value)
        except InvalidMessage as verdict:
            kept[f"would be dead letters again: {verdict.reason}"] += 1
            continue
        target = labels if is_label else settings.topic(Topic.TRANSACTIONS)
        if not request.dry_run and not writer.send(
            target, key, value, stop, partial(_note, replayed, topic_id(feed), letter),
            headers=[*letter.input_headers, (REPLAYED_FROM, str(letter.place).encode())],
        ):  # fmt: skip
            break
        sent[target] += 1
    writer.drain(stop)
    return sent, kept


def _note(replayed: ReplayedLetters, topic: str, letter: DeadLetter) -> None:
    replayed.add(topic, letter, now_ms=system_clock())


def _edited(
    key: bytes | None, value: bytes, edits: Mapping[str, Any]
) -> tuple[bytes | None, bytes]:
    """Return key and value with fields set; a new `entity_id` also becomes the key.

    Raises:
        InvalidMessage: The value is not a JSON object, or repeats a key.
    """
    record = parse(value) | dict(edits)
    if isinstance(entity := edits.get("entity_id"), str):
        key = entity.encode()
    return key, orjson.dumps(record)
