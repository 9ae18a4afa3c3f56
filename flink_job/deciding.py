"""The pandas function after the history: from packed records and their rings to decisions.

It runs in a Python worker of its own, a batch at a time. It does not raise for a bad row, because
Flink would restart and read the row again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog
from pyflink.table.udf import FunctionContext, ScalarFunction

from flink_job.isolation import SOUND_RECORD, Columns, isolated, place_of
from flink_job.reading import OWN_DTYPE_AND_TIME, read_batch
from fraud.contracts.decision import Mark
from fraud.contracts.transaction import with_decision
from fraud.decision.columns import FieldsOfRecords
from fraud.decision.engine import Engine, TransactionBatch
from fraud.features.catalogue import KEYS
from fraud.features.packing import Packed
from fraud.kafka.control_index import with_key
from fraud.policy.follower import PolicyFollower, follow_policy
from fraud.runtime.logs import configure_worker_logs
from fraud.runtime.settings import KafkaSettings
from model.live import EngineInUse
from model.registry import Registry

READY_S: Final = 60.0
"""How long a worker that starts waits for the control topic without any progress."""

log = structlog.get_logger()


class DecideTransactions(ScalarFunction):  # type: ignore[misc]
    """Scores and decides packed transactions: the last function of the job.

    Args:
        registry: Folder of the model registry.
        control: Connection to the topic that switches the model; None keeps the registry's champion.
    """

    def __init__(self, registry: Path, control: KafkaSettings | None = None) -> None:
        self._registry = registry
        # Workers elsewhere have neither this folder nor the file with the key.
        self._control = control and with_key(
            control.model_copy(update={"state_dir": control.state_dir.absolute()})
        )
        self._engine: EngineInUse | None = None
        self._follower: PolicyFollower | None = None
        self._stack = ExitStack()

    def open(self, function_context: FunctionContext) -> None:
        """Load the champion and follow the control topic.

        Raises:
            ModelError: The champion is missing or cannot be used.
            PolicyUnread: The control topic could not be read.
        """
        configure_worker_logs("flink_job")
        self._stop = Event()
        engine = EngineInUse(Registry(self._registry), service="flink_job")
        if self._control is not None:
            with ExitStack() as stack:
                follower = stack.enter_context(
                    follow_policy(
                        self._control, service="flink_job", stop=self._stop, listeners=[engine]
                    )
                )
                follower.wait_ready(READY_S)
                self._stack = stack.pop_all()
            self._follower = follower
        self._engine = engine
        metrics = function_context.get_metric_group()
        self._dead_letters = metrics.counter("dead_letters")
        self._failures = metrics.counter("scoring_failed")
        self._shadow_failures = metrics.counter("shadow_failed")
        self._marks = {mark: metrics.counter(mark.lower()) for mark in Mark}
        self._refusals = metrics.counter("control_refused")
        self._refusals_told = 0

    def close(self) -> None:
        """Stop following the control topic."""
        self._stack.close()
        self._engine = None

    def eval(
        self,
        values: pd.Series[Any],
        topics: pd.Series[Any],
        partitions: pd.Series[Any],
        offsets: pd.Series[Any],
        timestamps: pd.Series[Any],
        own: pd.Series[Any],
        *records_and_rings: pd.Series[Any],
    ) -> pd.Series[Any]:
        """Decide one batch of records.

        Args:
            values: Raw values of the records.
            topics: Topic of each; with partition, offset and timestamp its `source`.
            partitions: See `topics`.
            offsets: See `topics`.
            timestamps: Kafka's timestamps, UTC epoch milliseconds.
            own: Features that need no history and the `EventTime`, packed; null where the record is
                invalid.
            records_and_rings: Per key its record and its ring with the flag byte.

        Returns:
            The output's values, null where the record is invalid or cannot be decided.

        Raises:
            EveryRecordFails: Not even a record that is certainly valid can be decided.
        """
        if self._engine is None:
            raise RuntimeError("open was not called")
        if self._stop.is_set():
            # Nothing is lost: Flink starts the job again from its checkpoint, following anew.
            raise RuntimeError("following the control topic ended; the log says why")
        if self._follower is not None and (awaited := self._follower.waits_for()):
            raise RuntimeError(f"nothing is decided: waiting for {awaited}")
        # Flink counts in this thread only; by 0, too, as in ReadTransactions.
        refused = self._follower.refused if self._follower else 0
        self._refusals.inc(refused - self._refusals_told)
        self._refusals_told = refused
        # Taken once: the whole batch is decided by one model and policy.
        engine = self._engine.current
        columns = [values, topics, partitions, offsets, timestamps, own, *records_and_rings]
        counts: Counter[str] = Counter()

        def failed(row: Columns, error: Exception) -> pd.Series[Any]:
            counts["dead_letters"] += 1
            topic, partition, offset = (column.iloc[0] for column in row[1:4])
            log.error(
                "flink_job.record_failed",
                step="decide",
                place=place_of(error),
                topic=str(topic),
                partition=int(partition),
                offset=int(offset),
            )
            return pd.Series([None], dtype=object)

        decided = isolated(partial(_decide, engine, counts), failed, _sound, columns)
        self._dead_letters.inc(counts["dead_letters"])
        self._failures.inc(counts["scoring_failed"])
        self._shadow_failures.inc(counts["shadow_failed"])
        for mark, counter in self._marks.items():
            counter.inc(counts[mark])
        return decided


def _decide(engine: Engine, counts: Counter[str], columns: Columns) -> pd.Series[Any]:
    """Decide one batch; `counts` gets failures and marks, unless the whole batch fails."""
    values, topics, partitions, offsets, timestamps, own, *records_and_rings = columns
    mine = own.to_numpy()
    valid = [at for at in range(len(mine)) if mine[at] is not None]
    bodies: list[bytes | None] = [None] * len(mine)
    if not valid:
        return pd.Series(bodies, dtype=object)

    def chosen(column: pd.Series[Any]) -> list[Any]:
        items = column.to_numpy()
        return [items[at] for at in valid]

    records, rings = {}, {}
    for key, record, ring in zip(
        KEYS, records_and_rings[::2], records_and_rings[1::2], strict=True
    ):
        missing = bytes(key.dtype.itemsize)
        records[key.name] = np.frombuffer(
            b"".join([one or missing for one in chosen(record)]), key.dtype
        )
        rings[key.name] = chosen(ring)
    duplicates = [ring[-1] == 1 for ring in rings[KEYS[0].name]]
    raw_valid = chosen(values)
    own_rows = np.frombuffer(b"".join(chosen(own)), OWN_DTYPE_AND_TIME)
    batch = TransactionBatch(
        Packed(
            {},
            records,
            np.ascontiguousarray(own_rows["own"]),
            own_rows["event_time"].tobytes(),
        ),
        FieldsOfRecords.of_values(raw_valid),
        {key: [ring[:-1] for ring in column] for key, column in rings.items()},
        duplicates,
        _sources(*map(chosen, (topics, partitions, offsets, timestamps))),
    )
    decisions = engine.decide(batch)
    for at, raw, decided in zip(valid, raw_valid, decisions, strict=True):
        bodies[at] = with_decision(raw, decided.json)
    for decided in decisions:
        if decided.error:
            counts["scoring_failed"] += 1
            log.error("flink_job.scoring_failed", error=decided.error)
        if decided.shadow_error:
            counts["shadow_failed"] += 1
        for mark in decided.marks:
            counts[mark] += 1
    return pd.Series(bodies, dtype=object)


def _sound() -> Columns:
    """Return the columns of `SOUND_RECORD`, without history."""
    read = read_batch([SOUND_RECORD], [0])
    columns: list[Any] = [[SOUND_RECORD], ["sound"], [0], [0], [0], read["own"]]
    for key in KEYS:
        record = read[f"{key.name}_record"]
        columns += [record, [(record[0] or b"") + b"\0"]]
    return [pd.Series(column, dtype=object) for column in columns]


def _sources(
    topics: Sequence[str],
    partitions: Sequence[int],
    offsets: Sequence[int],
    timestamps: Sequence[int],
) -> list[dict[str, Any]]:
    return [
        {
            "topic": topic,
            "partition": int(partition),
            "offset": int(offset),
            "timestamp_ms": int(timestamp),
        }
        for topic, partition, offset, timestamp in zip(
            topics, partitions, offsets, timestamps, strict=True
        )
    ]
