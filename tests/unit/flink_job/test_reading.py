"""The reading function: what its own process does without."""

from __future__ import annotations

import subprocess
import sys


def test_reading_loads_no_model() -> None:
    """Its worker would hold XGBoost for nothing, and start later."""
    script = """
import sys
import flink_job.reading
assert "xgboost" not in sys.modules, "imported"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
