"""The live stream: sends the simulated world's transactions to Kafka as they happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import orjson
import structlog

from fraud.contracts.label import LabelValue
from fraud.contracts.times import HOUR_MS, utc_text
from fraud.kafka.batched_producer import Writer
from fraud.runtime.clock import Clock
from fraud.runtime.metrics import TRANSACTIONS_PRODUCED
from producer.adaptation import learning
from producer.arrivals import Arrivals, ArrivalSchedule, Disorder, written
from producer.events import Campaign
from producer.fraud_outcomes import FraudOutcomes
from producer.injection_log import InjectionLog
from producer.labels import SOURCES
from producer.progress import DueLabel, StreamProgress
from producer.records import columns, rows, truth_lines
from producer.simulation import Process

_log = structlog.get_logger()

CHUNK_MS: Final = 2_000
"""Transactions are prepared this far ahead; as many may stay unsent after a crash."""
SEE_MS: Final = 30_000
"""Interval, in real time, at which thieves observe decisions."""
MAX_BEHIND_MS: Final = 15 * 60_000
"""A stream that is further behind skips to the present: the machine slept, or Kafka was away."""


class LiveStream:
    """Sends a world's transactions from now on, each at its own time.

    Args:
        process: World to send.
        name: Name of the world in `progress`; another seed or plan is another world.
        writer: Writer that sends records.
        progress: State across restarts: how far was sent, and which labels are due.
        truth_folder: Folder of the truth files, one per day of sending.
        transactions: Physical topic of transactions.
        labels: Physical topic of labels.
        clock: Simulated time now, UTC epoch milliseconds.
        stop: Ends the stream.
        speed: Factor by which the clock is faster than the real one.
        disorder: Shares of records that are delayed, repeated or corrupted.
        injections: Log of injections, read while sending; None ignores injections.
        outcomes: Decisions on the stream's fraud; None means that thieves observe none.
    """

    def __init__(
        self,
        process: Process,
        name: str,
        writer: Writer,
        progress: StreamProgress,
        truth_folder: Path,
        *,
        transactions: str,
        labels: str,
        clock: Clock,
        stop: threading.Event,
        speed: float = 1.0,
        disorder: Disorder = Disorder(),  # noqa: B008 - frozen
        injections: InjectionLog | None = None,
        outcomes: FraudOutcomes | None = None,
    ) -> None:
        self._process = process
        self._speed = speed
        self._disorder = disorder
        self._injections = injections
        self._outcomes = outcomes
        self._seen_ms = 0
        self._name = name
        self._writer = writer
        self._progress = progress
        self._truth_folder = truth_folder
        self._transactions = transactions
        self._labels = labels
        self._clock = clock
        self._stop = stop
        self._published: list[DueLabel] = []
        self._under_way = 0
        self.started = False
        """Whether the world has been made and is being sent."""

    def run(self) -> None:
        """Send until `stop` is set; the caller flushes the writer."""
        self._truth_folder.mkdir(parents=True, exist_ok=True)
        sent_until_ms = max(self._clock(), self._progress.sent_until_ms(self._name))
        chunk_ms, behind_ms = round(CHUNK_MS * self._speed), round(MAX_BEHIND_MS * self._speed)
        with ThreadPoolExecutor(1, "simulate") as pool:
            while not self._stop.is_set():
                sent_until_ms = self._send_until_injected(pool, sent_until_ms, chunk_ms, behind_ms)

    def _send_until_injected(
        self, pool: ThreadPoolExecutor, sent_until_ms: int, chunk_ms: int, behind_ms: int
    ) -> int:
        """Send until an injection or observation changes what is to come, or `stop` is set.

        Returns:
            Time until which transactions were sent.
        """
        if self._injections is not None:
            log = self._injections.take_up(sent_until_ms)
            self._process = self._process.with_injections(log.injections, log.observed)
        delivery = ArrivalSchedule(self._process.hours, self._process.draws, self._disorder)
        for part in self._hours(pool, delivery, sent_until_ms // HOUR_MS):
            self.started = True
            hour_end_ms = (sent_until_ms // HOUR_MS + 1) * HOUR_MS
            while sent_until_ms < hour_end_ms:
                if self._stop.is_set() or self._heard(sent_until_ms):
                    return sent_until_ms
                if self._clock() - sent_until_ms > behind_ms:
                    _log.warning("producer.time_skipped", skipped_ms=self._clock() - sent_until_ms)
                    sent_until_ms = min(self._clock(), hour_end_ms)
                    continue
                until_ms = min(sent_until_ms + chunk_ms, hour_end_ms)
                self._send(part.between(sent_until_ms, until_ms), until_ms)
                self._wait_until(until_ms)
                sent_until_ms = until_ms
                self._send_labels()
        return sent_until_ms

    def _heard(self, sent_until_ms: int) -> bool:
        """Queue observations when they are due; return whether anything changes what is to come."""
        if self._injections is None:
            return False
        if self._outcomes is not None:
            self._outcomes.look(learning(self._process.plan.injections, sent_until_ms))
            if sent_until_ms - self._seen_ms >= SEE_MS * self._speed and (
                seen := self._outcomes.take()
            ):
                self._seen_ms = sent_until_ms
                self._injections.see(seen)
        return self._injections.heard()

    @staticmethod
    def _hours(
        pool: ThreadPoolExecutor, delivery: ArrivalSchedule, hour: int
    ) -> Iterator[Arrivals]:
        """Yield hours in turn, each made while the one before is sent."""
        ahead = pool.submit(delivery.hour, hour)
        while True:
            part = ahead.result()
            hour += 1
            ahead = pool.submit(delivery.hour, hour)
            yield part

    def _send(self, part: Arrivals, until_ms: int) -> None:
        """Send a chunk's transactions, each when it is due."""
        events = part.events
        ids = events["id"].astype(">u4").tobytes()
        labels = [
            DueLabel(time_ms, ids[16 * i : 16 * i + 16], int(fraud), source)
            for i, (time_ms, fraud, source, repeated) in enumerate(
                zip(part.labels.time_ms.tolist(), part.labels.fraud.tolist(), part.labels.source.tolist(), part.repeated.tolist(), strict=True)
            )
            if not repeated
        ]  # fmt: skip
        # Recorded before sending: after a crash nothing is sent twice.
        self._progress.advance(self._name, until_ms, labels)
        if not len(events):
            return
        truth = truth_lines(events[~part.repeated])
        if truth:
            day = utc_text(int(part.sent_ms[0]))[:10]
            with (self._truth_folder / f"{day}.jsonl").open("ab") as file:
                file.write(truth)
        if self._outcomes is not None:
            self._outcomes.expect(events)
        wire = columns(self._process.population, events)
        fraud = (events["campaign"] != Campaign.LEGITIMATE).tolist()
        times, forms = part.sent_ms.tolist(), part.form.tolist()
        for row, is_fraud, time_ms, form in zip(rows(wire), fraud, times, forms, strict=True):
            if not self._wait_until(time_ms):
                return
            counted = TRANSACTIONS_PRODUCED.labels("fraud" if is_fraud else "legitimate").inc
            key = row["entity_id"].encode()
            if not self._writer.send(
                self._transactions, key, written(row, form), self._stop, counted
            ):
                return

    def _wait_until(self, time_ms: int) -> bool:
        """Wait until a time; return False if `stop` was set."""
        while not self._stop.is_set():
            left_ms = time_ms - self._clock()
            if left_ms <= 0:
                return True
            self._writer.poll()
            self._stop.wait(min(left_ms / self._speed, 1_000) / 1000)
        return False

    def _send_labels(self) -> None:
        """Publish labels that have become known; delete those that Kafka has acknowledged."""
        if self._published:
            self._progress.published(self._published)
            self._published = []
        # One batch at a time: unacknowledged labels are still due and would be sent again.
        if self._under_way:
            return
        for label in self._progress.due(self._clock()):
            event_id = label.event_id.hex()
            record = {
                "event_id": event_id,
                "label": (LabelValue.FRAUD if label.fraud else LabelValue.LEGITIMATE).value,
                "label_time": utc_text(label.label_time_ms),
                "source": SOURCES[label.source],
            }

            def acknowledged(label: DueLabel = label) -> None:
                self._under_way -= 1
                self._published.append(label)

            if not self._writer.send(
                self._labels, event_id.encode(), orjson.dumps(record), self._stop, acknowledged
            ):
                return
            self._under_way += 1

    def settle(self) -> None:
        """Store the last acknowledgements; call it after flushing the writer."""
        self._progress.published(self._published)
        self._published = []
