"""Cost of each key on the stream, and the size of its history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from benchmarks.own_stack import OwnStack
from benchmarks.policy import approve_everything
from benchmarks.stream import Stream, backlog_figures
from benchmarks.workload import take
from fraud.contracts.decision import Outcome
from fraud.features.catalogue import KEYS
from fraud.runtime.settings import KafkaSettings

Record = tuple[bytes, bytes]
_ROUNDS: Final = 3


def without(records: Sequence[Record], fields: Sequence[str]) -> list[Record]:
    """Remove fields from records."""
    kept = []
    for key, value in records:
        row = orjson.loads(value)
        for field in fields:
            row.pop(field, None)
        kept.append((key, orjson.dumps(row)))
    return kept


def key_figures(own: OwnStack, source: Iterator[Record], count: int) -> list[dict[str, Any]]:
    """Drain backlogs of records that have one, two and all keys, in turns.

    The job is the same: a missing key is remembered nowhere, its ring is empty and its features are
    NaN. Everything is approved, because the model, trained on records with all keys, finds most
    others odd, and their reasons would be measured instead. Other work on the machine affects all
    turns alike.

    Args:
        own: A running stack.
        source: Records that the stack has not seen.
        count: Records of each backlog.
    """
    approve_everything(
        KafkaSettings(
            kafka_bootstrap_servers=own.bootstrap_servers, state_dir=Path(own.env["STATE_DIR"])
        )
    )
    stream = Stream(own.bootstrap_servers)
    # So that rings are as full as they get.
    stream.backlog(take(source, 2 * count))
    rates: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for kept in range(1, len(KEYS) + 1):
            records = without(take(source, count), [key.field for key in KEYS[kept:]])
            name = " + ".join(key.name for key in KEYS[:kept])
            arrivals = stream.backlog(records)
            if any(one.outcome != Outcome.APPROVE for one in arrivals):
                raise RuntimeError("expected everything to be approved")
            rates.setdefault(name, []).append(backlog_figures(arrivals)["out_per_s"])
    every = median(rates[" + ".join(key.name for key in KEYS)])
    return [
        {
            "scenario": name,
            "records": count,
            "out_per_s": median(found),
            "least": min(found),
            "most": max(found),
            "against_all_keys": round(median(found) / every, 3),
        }
        for name, found in rates.items()
    ]


def state_figures(own: OwnStack, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the size of each key's history in the last checkpoint, by Flink's own figures."""
    steps = own.cluster.state_by_step(own.job)
    values: dict[str, dict[Any, int]] = {key.name: {} for key in KEYS}
    for _, value in records:
        row = orjson.loads(value)
        for key in KEYS:
            one = row.get(key.field)
            if one is not None:
                values[key.name][one] = values[key.name].get(one, 0) + 1
    figures = []
    for key in KEYS:
        step = next(name for name in steps if f"{key.name}_key" in name.split("orderBy")[0])
        counts = values[key.name].values()
        remembered = sum(min(count, key.rows) for count in counts)
        figures.append(
            {
                "scenario": f"state of {key.name}",
                "values": len(counts),
                "records_remembered": remembered,
                "bytes_of_records": remembered * key.dtype.itemsize,
                "checkpoint_bytes": steps[step],
                "bytes_per_value": steps[step] / len(counts),
                "at_most_per_value": key.rows * key.dtype.itemsize,
            }
        )
    return figures
