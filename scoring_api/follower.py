"""Follower of `processed_transactions`, which keeps the API's history equal to the stream's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Final

import structlog

from fraud.contracts.errors import InvalidMessage
from fraud.kafka.group_consumer import Message
from fraud.kafka.topic_follower import Feed, Position, TopicReplaced
from fraud.runtime.metrics import HISTORY_KEYS, HISTORY_READY, RECORDS_CONSUMED, RECORDS_REFUSED
from scoring_api.history import Processed, RecentHistory, read_processed
from scoring_api.snapshot import Snapshot, SnapshotFile, SnapshotUnusable

SERVICE: Final = "scoring_api"
_POLL_S: Final = 0.2
_SLICE: Final = 64
"""Records remembered at once, in a few milliseconds; requests get their turn in between."""

_log = structlog.get_logger(SERVICE)


class Follower:
    """Reads the topic into a history and writes snapshots of the history.

    Args:
        feed: The topic `processed_transactions`.
        history: The history to fill; only the follower's thread changes it.
        file: The snapshot file.
        snapshot_s: Seconds between snapshots.
        monotonic: Clock in seconds.
    """

    def __init__(
        self,
        feed: Feed,
        history: RecentHistory,
        file: SnapshotFile,
        *,
        snapshot_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._history = history
        self._file = file
        self._snapshot_s = snapshot_s
        self._monotonic = monotonic
        self._kept: Position | None = None
        self._writing: Future[None] | None = None
        self._ready = False

    def waits_for(self) -> str | None:
        """Return what is missing until the history equals the stream's, or None if nothing is."""
        if self._ready:
            return None
        return self._feed.waits_for() or "history to be put in its place"

    def run(self, stop: Event) -> None:
        """Follow the topic until `stop` is set, then write a last snapshot."""
        HISTORY_READY.set(0)
        position = self._restore()
        self._feed.start(position)
        next_s = self._monotonic() + self._snapshot_s
        # A second thread writes snapshots, so that following does not pause.
        with ThreadPoolExecutor(1, thread_name_prefix="snapshot") as writer:
            while not stop.is_set():
                try:
                    batch = self._feed.poll(_POLL_S)
                except TopicReplaced as verdict:
                    _log.warning("scoring_api.history_restarted", reason=str(verdict))
                    # The new topic tells another history, from its start.
                    self._set_ready(False)
                    self._history.clear()
                    self._feed.start(None)
                    continue
                self._remember(batch)
                self._set_ready(self._ready or self._feed.waits_for() is None)
                if self._monotonic() >= next_s:
                    self._keep(writer)
                    next_s = self._monotonic() + self._snapshot_s
            self._keep(writer)
            self._written()

    def _restore(self) -> Position | None:
        try:
            snapshot = self._file.read()
        except (SnapshotUnusable, OSError) as error:
            _log.warning("scoring_api.snapshot_unusable", reason=str(error))
            return None
        if snapshot is None:
            return None
        self._history.restore(snapshot.content)
        self._kept = snapshot.position
        _log.info("scoring_api.history_restored", keys=self._history.sizes())
        return snapshot.position

    def _remember(self, batch: Sequence[Message]) -> None:
        for first in range(0, len(batch), _SLICE):
            records: list[Processed] = []
            for message in batch[first : first + _SLICE]:
                try:
                    processed = read_processed(message.value)
                except InvalidMessage as verdict:
                    # Counted and skipped: one bad record must not stop the history.
                    RECORDS_REFUSED.labels(SERVICE, str(verdict.reason)).inc()
                    _log.error(
                        "scoring_api.record_refused",
                        topic=message.topic,
                        partition=message.partition,
                        offset=message.offset,
                        reason=str(verdict.reason),
                        detail=verdict.detail,
                    )
                    continue
                if processed is not None:
                    records.append(processed)
            self._history.remember(records)
        if batch:
            RECORDS_CONSUMED.labels(SERVICE).inc(len(batch))
            for key, size in self._history.sizes().items():
                HISTORY_KEYS.labels(key).set(size)

    def _set_ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            HISTORY_READY.set(ready)
            _log.info(
                "scoring_api.history_caught_up" if ready else "scoring_api.history_behind",
                keys=self._history.sizes(),
            )

    def _keep(self, writer: ThreadPoolExecutor) -> None:
        position = self._feed.position()
        if position is None or position == self._kept:
            return
        self._written()
        self._kept = position
        self._writing = writer.submit(self._file.write, Snapshot(position, self._history.content()))

    def _written(self) -> None:
        """Wait for the snapshot that is being written; log an error if that failed."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            # Not fatal: without a snapshot the next start reads more of the topic.
            self._kept = None
            _log.error("scoring_api.snapshot_failed", reason=error.strerror or str(error))
