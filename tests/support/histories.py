"""Small labelled histories for the tests of this folder, as files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

from fraud.contracts.times import DAY_MS, HOUR_MS, utc_text
from model.datasets import ColumnMapping, Dataset
from model.examples import History, MappedDataset, read_history

START_MS = 1_772_323_200_000


def labelled_rows(
    count: int = 3000, *, seed: int = 1, delay_days: float = 0.0, labelled_share: float = 1.0
) -> list[dict[str, Any]]:
    """Make rows half an hour apart, 4 % of them fraud that amounts and IP addresses tell in part.

    Args:
        count: Rows, in event-time order.
        seed: Of all draws.
        delay_days: From the payment to its label.
        labelled_share: Part of the rows that have a label.
    """
    draw = random.Random(seed)
    rows = []
    for at in range(count):
        fraud = draw.random() < 0.04
        customer = draw.randrange(60)
        event_time_ms = START_MS + at * HOUR_MS // 2
        row: dict[str, Any] = {
            "event_id": f"e{at}",
            "entity_id": f"c{customer}",
            "event_time": utc_text(event_time_ms),
            "transaction_amt": round(draw.lognormvariate(4.2 if fraud else 3.0, 0.8), 2),
            "transaction_currency": "EUR",
            "ip_address": f"8.8.{draw.randrange(256) if fraud and at % 3 else customer}.1",
            "product_category": draw.choice(("gas", "travel", "shopping_net")),
        }
        if draw.random() < labelled_share:
            row["label"] = int(fraud)
            row["label_time"] = utc_text(event_time_ms + int(delay_days * DAY_MS))
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read_rows(path: Path, rows: list[dict[str, Any]]) -> History:
    dataset = Dataset(write_rows(path / "rows.jsonl", rows))
    mapping = ColumnMapping({name: name for name in dataset.columns()})
    return read_history([MappedDataset(dataset, mapping)])
