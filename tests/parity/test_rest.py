"""What REST answers is what the stream decides next, to the last bit.

The stream is here by its own two functions, with the ring in between as the state keeps it;
`tests/flink` shows that the running job does no other.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from flink_job.deciding import DecideTransactions
from flink_job.reading import ReadTransactions
from fraud.contracts.decision import Mark
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import EventTimeLimits
from fraud.decision.engine import Engine
from fraud.decision.policy import Policy
from fraud.decision.rule_sets import shipped
from fraud.decision.scale import ScoreScale
from fraud.features.catalogue import KEYS
from fraud.features.history import Histories
from fraud.runtime.clock import system_clock
from model.registry import Registry
from scoring_api.history import RecentHistory, read_processed
from scoring_api.scoring import Scoring
from tests.support.boosters import train_booster
from tests.support.builders import START_MS, a_record

NO_LIMITS = EventTimeLimits()
_OF_THE_MOMENT = ("scored_at", "frauddetector_time", "proc_time", "ttdf", "source")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    scale = ScoreScale([0.0, 0.5, 1.0], [0.0, 950.0, 1000.0])
    model = Registry(folder).add("fraud", train_booster(), scale, metrics={}, training={})
    Registry(folder).promote("fraud", model.version)
    return folder


def arrived_ms(offset: int) -> int:
    """Return the time at which a record comes: a fifth of them claim to be hours younger."""
    return START_MS + offset * 1_800_000 - (6 * 3_600_000 if offset % 5 == 0 else 0)


class Stream:
    """The job's functions and its state, without Flink."""

    def __init__(self, registry: Path, limits: EventTimeLimits = NO_LIMITS) -> None:
        self._read = ReadTransactions(limits)
        self._decide = DecideTransactions(registry)
        counter = SimpleNamespace(inc=lambda _by=1: None)
        group = SimpleNamespace(counter=lambda _name: counter)
        self._decide.open(SimpleNamespace(get_metric_group=lambda: group))  # type: ignore[arg-type]
        self._state = {key.name: Histories(key) for key in KEYS}
        self._offset = 0

    def decide(self, values: list[bytes]) -> list[bytes]:
        """Return the output of a batch."""
        arrived = [arrived_ms(self._offset + at) for at in range(len(values))]
        read = self._read.eval(pd.Series(values), pd.Series(arrived))
        columns: list[pd.Series[Any]] = []
        duplicates = [False] * len(values)
        for key in KEYS:
            state = self._state[key.name]
            rings = []
            for at, (value, record) in enumerate(
                zip(read[f"{key.name}_key"], read[f"{key.name}_record"], strict=True)
            ):
                remembered = record is not None and not duplicates[at]
                known = remembered and state.remember(value, record)
                if key is KEYS[0]:
                    duplicates[at] = known
                rings.append(state.ring(value) + bytes([known]))
            columns += [read[f"{key.name}_record"], pd.Series(rings, dtype=object)]
        count = len(values)
        offsets = range(self._offset, self._offset + count)
        self._offset += count
        decided = self._decide.eval(
            pd.Series(values),
            pd.Series(["transactions"] * count),
            pd.Series([0] * count),
            pd.Series(offsets),
            pd.Series(arrived),
            read["own"],
            *columns,
        )
        return list(decided)


def records(seed: int, count: int) -> list[bytes]:
    """Make a stream: few customers, more events than a ring holds, late ones and repeats."""
    rng = random.Random(seed)
    made: list[bytes] = []
    for number in range(count):
        if made and rng.random() < 0.05:
            again = orjson.loads(rng.choice(made))
            # A retry at another time, or the same id for another payment.
            again |= rng.choice(
                [{"event_time": utc_text(START_MS)}, {"transaction_amt": 77}, {"card_bin": "37"}]
            )
            made.append(orjson.dumps(again))
            continue
        entity = min(int(rng.expovariate(0.5)), 5)
        late_ms = rng.choice([0, 0, 0, 60_000, 3_600_000, 86_400_000])
        made.append(
            orjson.dumps(
                a_record(
                    event_id=f"e-{number}",
                    entity_id=f"c-{entity}",
                    event_time=utc_text(START_MS + number * 1_800_000 - late_ms),
                    transaction_amt=rng.choice(
                        [9.99, "19.90", 250, round(rng.lognormvariate(3, 2), 2)]
                    ),
                    transaction_currency=rng.choice(["usd", "EUR", "XXX", "JPY"]),
                    ip_address=rng.choice([None, "203.0.113.7", "203.0.113.8", 17]),
                    product_category=rng.choice(["a", "b", "", None]),
                    merchant_id=rng.choice(["m-1", "m-2", None]),
                    billing_latitude=rng.choice([None, 42.3, "10.5"]),
                )
            )
        )
    return made


def _lasting(decision: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decision.items() if name not in _OF_THE_MOMENT}


@pytest.mark.parametrize("limits", [NO_LIMITS, EventTimeLimits(3_600_000, 7_200_000)])
@pytest.mark.parametrize("seed", range(3))
def test_rest_answers_what_the_stream_decides_next(
    registry: Path, seed: int, limits: EventTimeLimits
) -> None:
    """Before each record comes, REST is asked about it; then its output reaches the history.

    Also when some event times are far ahead of their arrival, or far behind.
    """
    values = records(seed, 250)
    stream = Stream(registry, limits)
    rng = random.Random(seed)
    outputs: list[bytes] = []
    while len(outputs) < len(values):
        outputs += stream.decide(values[len(outputs) : len(outputs) + rng.randint(1, 40)])

    scorer = Registry(registry).champion()
    engine = Engine(scorer, Policy(shipped(), scorer.ref), system_clock)
    history = RecentHistory(1000)
    now_ms = 0
    scoring = Scoring(lambda: engine, history, lambda: None, limits, lambda: now_ms)

    async def compare() -> list[bool]:
        nonlocal now_ms
        duplicates = []
        for offset, (value, output) in enumerate(zip(values, outputs, strict=True)):
            now_ms = arrived_ms(offset)
            asked = orjson.loads(await scoring.answer(value))["fd"]
            came = orjson.loads(output)["fd"]
            assert _lasting(asked) == _lasting(came)
            duplicates.append(asked["duplicate"])
            if processed := read_processed(output):
                history.remember([processed])
        return duplicates

    duplicates = asyncio.run(compare())
    assert any(duplicates)
    marks = {mark for output in outputs for mark in orjson.loads(output)["fd"]["marks"]}
    assert marks == ({"EVENT_ID_REUSED"} if limits == NO_LIMITS else set(Mark))
    rings = history.content().rings[KEYS[0].name]
    assert max(len(ring) for _, ring in rings) == KEYS[0].rows * KEYS[0].dtype.itemsize


def test_lists_and_company_change_no_bit(registry: Path) -> None:
    """A record alone, in a list, and beside other requests gets the same decision."""
    values = records(7, 120)
    stream = Stream(registry)
    history = RecentHistory(1000)
    history.remember(
        [one for value in stream.decide(values[:80]) if (one := read_processed(value))]
    )
    scorer = Registry(registry).champion()
    engine = Engine(scorer, Policy(shipped(), scorer.ref), system_clock)
    scoring = Scoring(lambda: engine, history, lambda: None)

    async def ask() -> tuple[list[Any], list[Any], list[Any]]:
        alone = [orjson.loads(await scoring.answer(value)) for value in values]
        together = orjson.loads(await scoring.answer(b"[" + b",".join(values) + b"]"))
        beside = await asyncio.gather(*map(scoring.answer, values))
        return alone, together, [orjson.loads(one) for one in beside]

    alone, together, beside = asyncio.run(ask())
    for one, in_list, in_company in zip(alone, together, beside, strict=True):
        assert _lasting(one["fd"]) == _lasting(in_list["fd"]) == _lasting(in_company["fd"])
    assert len(np.unique([one["fd"]["probability"] for one in alone])) > 10
