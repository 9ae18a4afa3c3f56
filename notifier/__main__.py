"""Entry point of `python -m notifier`; `fraudstream alerts` has commands on its alerts."""

from __future__ import annotations

from fraud.runtime.lifecycle import run_service
from notifier.service import run
from notifier.settings import Settings

if __name__ == "__main__":
    raise SystemExit(run_service("notifier", Settings, run))
