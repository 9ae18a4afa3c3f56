"""`python -m scoring_api` serves the API until SIGTERM."""

from __future__ import annotations

from fraud.runtime.lifecycle import run_service
from scoring_api.service import run
from scoring_api.settings import Settings

if __name__ == "__main__":
    raise SystemExit(run_service("scoring_api", Settings, run))
