"""Records with defaults: each test names only what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from fraud.features.catalogue import KEYS
from fraud.features.history import Histories
from fraud.features.packing import Packed

START_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""


def a_record(**changes: Any) -> dict[str, Any]:
    """Make a valid record of `transactions`; a change to None takes the field out."""
    record: dict[str, Any] = {
        "event_id": "evt-1",
        "entity_id": "070-69-2161",
        "event_time": "2026-03-01T00:00:00Z",
        "transaction_amt": 24.9,
        "transaction_currency": "usd",
        "email_address": "jasonsnyder@lynch.org",
        "ip_address": "203.0.113.7",
        "customer_name": "Dennis Example",
        "billing_street": "4900 Zachary Field",
        "billing_city": "Stockton",
        "billing_state": "NY",
        "billing_latitude": 42.3182,
        "billing_longitude": -79.3758,
        "phone": "+1-021-436-2616",
        "user_agent": "Opera/9.84",
        "product_category": "shopping_net",
        "merchant_id": "m-7",
    }
    record |= changes
    return {name: value for name, value in record.items() if value is not None}


def a_decision(**changes: Any) -> dict[str, Any]:
    """Make a decision: a block, unless told otherwise."""
    decision: dict[str, Any] = {
        "outcome": "block",
        "outcomes": ["review", "block"],
        "score": 973,
        "probability": 0.91,
        "reasons": [
            {"code": "entity_count_1h", "text": "Many payments within an hour", "contribution": 1.5}
        ],
        "rules": [{"id": "R002_block", "version": 1, "outcome": "block"}],
        "model": {"name": "champion", "version": "abc123"},
        "policy_version": "p-1",
        "features": {"amount_base": 24.9, "entity_tx_count_1h": 3.0, "unknown": None},
        "history": {"entity": 3},
        "duplicate": False,
        "marks": [],
        "scored_at": "2026-03-01T00:00:00.123Z",
        "frauddetector_time": 2.5,
        "proc_time": 20.0,
        "ttdf": 22.5,
        "source": {
            "topic": "transactions",
            "partition": 0,
            "offset": 0,
            "timestamp_ms": START_MS,
        },
    }
    return decision | changes


def a_processed(
    record: dict[str, Any] | None = None,
    decision: dict[str, Any] | None = None,
    *,
    offset: int | None = None,
) -> bytes:
    """Make the value of a record of `processed_transactions`.

    Args:
        record: Changes to `a_record`.
        decision: Changes to `a_decision`.
        offset: The input's offset.
    """
    fd = a_decision(**(decision or {}))
    if offset is not None:
        fd["source"] = fd["source"] | {"offset": offset}
    return orjson.dumps(a_record(**(record or {})) | {"fd": fd})


def a_value(**changes: Any) -> bytes:
    """Make the value of a record of `transactions`; see `a_record`."""
    return orjson.dumps(a_record(**changes))


class Memory:
    """The rings of all keys as the stream remembers them, one transaction after the other."""

    def __init__(self) -> None:
        self._histories = {key.name: Histories(key) for key in KEYS}

    def remember(self, packed: Packed) -> tuple[dict[str, list[bytes]], list[bool]]:
        """Remember transactions; give per key each one's ring then, and who is a duplicate."""
        rings: dict[str, list[bytes]] = {key.name: [] for key in KEYS}
        duplicates = [False] * len(packed)
        for key in KEYS:
            histories = self._histories[key.name]
            for at, value in enumerate(packed.keys[key.name]):
                if value is not None and not duplicates[at]:
                    known = histories.remember(value, packed.records[key.name][at].tobytes())
                    duplicates[at] = known and key is KEYS[0]
                rings[key.name].append(b"" if value is None else histories.ring(value))
        return rings, duplicates


def an_amount_booster(seed: int = 7) -> bytes:
    """Train trees that go by the first feature, the amount, and give every probability."""
    # Imported here: most tests need no model.
    import numpy as np
    import xgboost

    from fraud.features.vector import FEATURES

    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 100, (4000, len(FEATURES))).astype(np.float32)
    labels = (matrix[:, 0] + rng.normal(0, 10, 4000) > 85).astype(int)
    booster = xgboost.train(
        {"objective": "binary:logistic", "base_score": 0.5, "nthread": 1, "seed": 7},
        xgboost.DMatrix(matrix, labels),
        num_boost_round=20,
    )
    return bytes(booster.save_raw("ubj"))


def a_registry(folder: Path) -> Path:
    """Make a registry whose champion gives every outcome, without anything to learn from."""
    from fraud.decision.scale import ScoreScale
    from model.registry import Registry

    registry = Registry(folder)
    manifest = registry.add(
        "test",
        an_amount_booster(),
        ScoreScale([0, 0.5, 1], [0, 950, 1000]),
        metrics={},
        training={},
    )
    registry.promote(manifest.name, manifest.version)
    return folder
