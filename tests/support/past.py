"""Real decisions of made-up transactions, as `processed_transactions` has them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.contracts.rules import RuleSet
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import decode, with_decision
from fraud.decision.columns import FieldsOfRecords
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.scale import ScoreScale
from fraud.features.packing import pack
from fraud.features.vector import FEATURE_NAMES
from fraud.policy.editor import PolicyEditor
from model.live import EngineInUse
from tests.support.builders import START_MS, Memory, a_record
from tests.support.control_topic import ControlTopic
from tests.support.editing import an_editor

AMOUNT = FEATURE_NAMES.index("amount_base")


class SpreadScorer:
    """Gives every probability, by the amount alone; another factor is another model."""

    def __init__(self, version: str = "1", factor: float = 0.37) -> None:
        self.ref = ModelRef(name="spread", version=version)
        self.scale = ScoreScale([0.0, 1.0], [0.0, 1000.0])
        self._factor = factor

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Scorer`."""
        amount = np.nan_to_num(matrix[:, AMOUNT]).astype(np.float64)
        return (amount * self._factor) % 1.0

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Scorer`."""
        return np.zeros(matrix.shape)


def transactions(number_of: int, *, seed: int = 1) -> list[bytes]:
    """Make values of `transactions`: few customers, some of whom share an address."""
    rng = random.Random(seed)
    made = []
    for number in range(number_of):
        # Some fields come as the contract allows: empty, as numbers, not at all.
        record = a_record(
            event_id=f"evt-{seed}-{number:06d}",
            entity_id=f"cust-{rng.randrange(30):03d}",
            event_time=utc_text(START_MS + number * 400),
            transaction_amt=rng.choice([round(rng.lognormvariate(4, 1.5), 2), "12.50", 7]),
            transaction_currency=rng.choice(["USD", "usd", "EUR", "XTS"]),
            ip_address=rng.choice([f"203.0.113.{rng.randrange(60)}", "2001:db8::1", "", None]),
            email_address=rng.choice(["a@example.com", "B@Mail.example", None]),
            card_bin=rng.choice(["411111", 400000, None]),
            phone=rng.choice(["+1-202-555-0143", "+1 202 555 0199"]),
        )
        made.append(orjson.dumps(record))
    return made


def decided(
    values: Sequence[bytes],
    engine: Callable[[int], Engine],
    *,
    first_offset: int = 0,
    size: int = 16,
) -> Iterator[bytes]:
    """Decide transactions in batches, as the stream does.

    Args:
        values: Of `transactions`.
        engine: Gives the engine of a batch, by its number; the engine's clock is its own.
        first_offset: Offset of the first one in the input.
        size: Of a batch.
    """
    memory = Memory()
    rows = iter(enumerate(values, start=first_offset))
    number = 0
    while batch := list(islice(rows, size)):
        read = [decode(value) for _, value in batch]
        packed = pack(read)
        rings, duplicates = memory.remember(packed)
        sources: list[dict[str, Any]] = [
            {"topic": "transactions", "partition": at % 3, "offset": at, "timestamp_ms": START_MS}
            for at, _ in batch
        ]
        fields = FieldsOfRecords.of_values([value for _, value in batch])
        decisions = engine(number).decide(
            TransactionBatch(packed, fields, rings, duplicates, sources)
        )
        for (_, value), one in zip(batch, decisions, strict=True):
            yield with_decision(value, one.json)
        number += 1


def two_rules(when: str, name: str) -> RuleSet:
    """Make a rule set: one of a condition, one of a list of addresses."""
    return RuleSet.model_validate(
        {"rules": [
            {"id": "R1", "when": when, "outcome": "review", "reason": "As was said."},
            {"id": "R2", "when": f"$ip_address in @{name}", "outcome": "block"},
        ]}
    )  # fmt: skip


class World:
    """A editor, and an engine that follows it: all that was published is in force before a batch.

    Args:
        registry: Gives the models.
    """

    def __init__(self, registry: Any) -> None:
        self.now_ms = START_MS
        self.in_use = EngineInUse(registry, service="test", clock=lambda: self.now_ms)
        self.topic = ControlTopic(self.in_use)
        ids = count()
        self.editor = an_editor(
            self.topic,
            lambda: self.topic.policy_state,
            clock=lambda: self.now_ms,
            ids=lambda: f"c{next(ids)}",
        )

    def engine(
        self, changes: Mapping[int, Callable[[PolicyEditor], Any]]
    ) -> Callable[[int], Engine]:
        """Return the engine of each batch, a second after the last; some changes come before it."""

        def of(batch: int) -> Engine:
            self.now_ms = START_MS + batch * 1000
            if batch in changes:
                changes[batch](self.editor)
            return self.in_use.current

        return of
