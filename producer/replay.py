"""Replay a file of transactions to Kafka.

By default rows are sent in the order of their event times (equal times in the order of the file),
each label at the place in that order where it became known. A row whose event time cannot be
read stays behind the row before it. Nothing is dropped: rows that lack a value and lines that
are not JSON are sent unchanged, so that the stream reports them as dead letters.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple

import numpy as np
import orjson

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import event_time_to_ms, from_mapping
from fraud.kafka.batched_producer import KafkaWriter, Writer
from model.datasets import ColumnMapping, Dataset, LabelledRecord, label_value

_HEAD: Final = struct.Struct("<?iI")
"""Whether it is a label, length of the key (-1 = no key), length of the value."""
_PACE_TOLERANCE_S: Final = 0.002
LABEL_SOURCE: Final = "replay"
"""Source stated in replayed labels."""


class Record(NamedTuple):
    """Record that is sent to Kafka.

    Attributes:
        is_label: Whether it goes to `labels` rather than to `transactions`.
        key: entity_id of a transaction, event_id of a label; None if the row lacks it.
        value: JSON in UTF-8, or the row's bytes if they are not JSON.
    """

    is_label: bool
    key: bytes | None
    value: bytes


@dataclass
class ReplaySummary:
    """Counts of a replayed file.

    Attributes:
        rows: Rows read.
        sent: Transactions handed to Kafka.
        labels: Labels handed to Kafka.
        refused: Rows that violate the contract, by error code; they are sent too, and become dead
            letters.
        unlabelled: Rows whose label could not be sent, as they lack an event_id.
    """

    rows: int = 0
    sent: int = 0
    labels: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0


def _key(value: Any) -> bytes | None:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) and value else None


def _time_ms(text: Any) -> int | None:
    try:
        return event_time_to_ms(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def records_of(
    row: LabelledRecord, *, with_labels: bool, summary: ReplaySummary
) -> list[tuple[int | None, Record]]:
    """Convert a row to records, each with its time (UTC epoch milliseconds, None if unknown).

    Args:
        row: A mapped row.
        with_labels: Whether to send its label too.
        summary: Counts that are updated.
    """
    record = row.record
    if isinstance(record, bytes):
        summary.refused["not_json"] += 1
        return [(None, Record(False, None, record))]
    try:
        from_mapping(record)
    except InvalidMessage as verdict:
        summary.refused[str(verdict.reason)] += 1
    at_ms = _time_ms(record.get("event_time"))
    out = [(at_ms, Record(False, _key(record.get("entity_id")), orjson.dumps(record, default=str)))]
    if row.label is None or not with_labels:
        return out
    event_id = record.get("event_id")
    if not isinstance(event_id, str):
        summary.unlabelled += 1
        return out
    label_time = row.label_time if row.label_time is not None else record.get("event_time")
    value = orjson.dumps(
        {
            "event_id": event_id,
            "label": label_value(row.label).value,
            "label_time": label_time,
            "source": LABEL_SOURCE,
        },
        default=str,
    )
    known_ms = _time_ms(label_time)
    out.append((at_ms if known_ms is None else known_ms, Record(True, _key(event_id), value)))
    return out


class Spool:
    """Temporary file of records that can be read back in another order; a context manager.

    Memory grows by 16 bytes a record, whatever the size of the file, which has no name.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="fraudstream-replay-")  # noqa: SIM115 - closed by __exit__
        self._offsets = array("q")
        self._times = array("q")
        self._end = 0
        self._last_ms = -(2**62)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, time_ms: int | None, record: Record) -> None:
        """Append a record; by time, one without a time stays behind the one before it."""
        key = record.key
        head = _HEAD.pack(record.is_label, -1 if key is None else len(key), len(record.value))
        block = head + (key or b"") + record.value
        self._file.write(block)
        self._offsets.append(self._end)
        self._end += len(block)
        if not record.is_label:
            self._last_ms = self._last_ms if time_ms is None else time_ms
        self._times.append(self._last_ms if time_ms is None else time_ms)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._offsets)

    def in_order(self, *, by_time: bool) -> Iterator[Record]:
        """Yield the records by time (equal times as they were added), or all as they were added."""
        if not len(self):
            return
        self._file.flush()
        order = np.arange(len(self))
        if by_time:
            order = np.argsort(np.array(self._times, np.int64), kind="stable")
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            for position in order.tolist():
                offset = self._offsets[position]
                is_label, key_length, value_length = _HEAD.unpack_from(memory, offset)
                offset += _HEAD.size
                key = None if key_length < 0 else memory[offset : offset + key_length]
                offset += max(key_length, 0)
                yield Record(is_label, key, memory[offset : offset + value_length])


def read_into(
    spool: Spool,
    dataset: Dataset,
    mapping: ColumnMapping,
    *,
    with_labels: bool = True,
    limit: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> ReplaySummary:
    """Read a file into a spool.

    Args:
        spool: Spool to which the records are added.
        dataset: File to read.
        mapping: Mapping from columns to fields.
        with_labels: Whether to read labels too.
        limit: Most rows to read; None reads all.
        progress: Called now and then with the share that is read, 0-1.

    Raises:
        model.datasets.DatasetError: The file lacks a mapped column or cannot be read.
    """
    summary = ReplaySummary()
    for row in dataset.records(mapping):
        if limit is not None and summary.rows >= limit:
            break
        for time_ms, record in records_of(row, with_labels=with_labels, summary=summary):
            spool.add(time_ms, record)
        summary.rows += 1
        if summary.rows % 1_000 == 0:
            progress(dataset.progress.done / dataset.progress.total)
    return summary


def send_all(
    spool: Spool,
    summary: ReplaySummary,
    writer: Writer,
    *,
    transactions: str,
    labels: str,
    by_time: bool,
    rate: float | None,
    stop: threading.Event,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Send the records of a spool; the caller flushes the writer.

    Args:
        spool: Records to send.
        summary: Summary whose `sent` and `labels` are updated.
        writer: Writer that sends them.
        transactions: Physical topic of transactions.
        labels: Physical topic of labels.
        by_time: Whether to send in the order of event times, else in the order of the file.
        rate: Transactions a second; None sends as fast as Kafka accepts them.
        stop: Ends the sending early.
        progress: Called now and then with the number of records sent.
    """
    started_s = time.monotonic()
    for record in spool.in_order(by_time=by_time):
        if not record.is_label and rate is not None:
            due_s = started_s + summary.sent / rate
            while (left_s := due_s - time.monotonic()) > _PACE_TOLERANCE_S and not stop.is_set():
                writer.poll()
                stop.wait(min(left_s, 0.5))
        if stop.is_set() or not writer.send(
            labels if record.is_label else transactions, record.key, record.value, stop
        ):
            return
        if record.is_label:
            summary.labels += 1
        else:
            summary.sent += 1
        if (summary.sent + summary.labels) % 100 == 0:
            progress(summary.sent + summary.labels)


def replay_file(
    dataset: Dataset,
    mapping: ColumnMapping,
    writer: KafkaWriter,
    *,
    transactions: str,
    labels: str | None,
    by_time: bool,
    limit: int | None,
    rate: float | None,
    stop: threading.Event,
    on_read: Callable[[float], None],
    on_sent: Callable[[int, int], None],
) -> ReplaySummary:
    """Read a file, send it, and wait until Kafka has acknowledged it; `stop` ends sending and waiting.

    Args:
        dataset: File to read.
        mapping: Mapping from columns to fields.
        writer: Writer that sends the records.
        transactions: Physical topic of transactions.
        labels: Physical topic of labels; None sends no labels.
        by_time: Whether to send in the order of event times, else in the order of the file.
        limit: Most rows to read; None reads all.
        rate: Transactions a second; None sends as fast as Kafka accepts them.
        stop: Ends it early.
        on_read: Called now and then with the share that is read, 0-1.
        on_sent: Called now and then with the numbers of records sent and to send.

    Raises:
        model.datasets.DatasetError: The file lacks a mapped column or cannot be read.
        WriterError: The connection to Kafka failed for good.
    """
    with Spool() as spool:
        summary = read_into(
            spool, dataset, mapping, with_labels=labels is not None, limit=limit, progress=on_read
        )
        on_read(1.0)
        on_sent(0, len(spool))
        send_all(
            spool,
            summary,
            writer,
            transactions=transactions,
            labels=labels or "",
            by_time=by_time,
            rate=rate,
            stop=stop,
            progress=lambda done: on_sent(done, len(spool)),
        )
        on_sent(summary.sent + summary.labels, len(spool))
        writer.drain(stop)
    return summary
