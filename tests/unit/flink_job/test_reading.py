"""The reading function: what its own process does without, and the time it packs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd

from flink_job.reading import OWN_DTYPE_AND_TIME, ReadTransactions
from fraud.contracts.transaction import EventTime, EventTimeLimits
from fraud.features.catalogue import KEYS
from tests.support.builders import START_MS, a_value


def test_reading_loads_no_model() -> None:
    """Its worker would hold XGBoost for nothing, and start later."""
    script = """
import sys
import flink_job.reading
assert "xgboost" not in sys.modules, "imported"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_time_far_ahead_of_the_brokers_is_packed_as_the_brokers() -> None:
    """What the history keeps of it counts for the customer's next payment, not in 2090."""
    values = [
        a_value(event_time="2090-01-01T00:00:00Z"),
        a_value(event_time="2026-03-01T00:59:59Z"),
        a_value(event_time="1999-01-01T00:00:00Z"),
        a_value(event_time="2090-01-01T00:00:00Z"),
        b"{",
    ]
    timestamps = [START_MS, START_MS, START_MS, None, START_MS]
    read = ReadTransactions(EventTimeLimits(3_600_000, 86_400_000)).eval(
        pd.Series(values), pd.Series(timestamps)
    )
    key = KEYS[0]
    records = np.frombuffer(b"".join(read[f"{key.name}_record"][:4]), key.dtype)
    own = np.frombuffer(b"".join(read["own"][:4]), OWN_DTYPE_AND_TIME)
    assert own["event_time"].tolist() == [
        EventTime.AHEAD, EventTime.USUAL, EventTime.BEHIND, EventTime.USUAL,
    ]  # fmt: skip
    assert records["event_time_ms"].tolist() == [
        START_MS, START_MS + 3_599_000, 915_148_800_000, 3_786_912_000_000,
    ]  # fmt: skip
    assert read["error_code"][4] == "not_json"
