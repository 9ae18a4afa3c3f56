"""`python -m scoring_api` answers `POST /v1/score` until SIGTERM."""

from __future__ import annotations

import logging
import sys

from fraud.runtime.lifecycle import load_settings, log_bugs, stop_event
from fraud.runtime.logs import configure_logs
from model.registry import ModelError
from scoring_api.service import run
from scoring_api.settings import Settings
from scoring_api.wiring import CannotStart


def main() -> None:
    """Run the API until SIGTERM; one line and exit code 2 when something must be changed first."""
    settings = load_settings(Settings)
    configure_logs(settings, "scoring_api")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # The client logs every failed request; what matters of it, the answers say.
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    with log_bugs("scoring_api"):
        try:
            run(settings, stop_event())
        except (CannotStart, ModelError) as problem:
            sys.stderr.write(f"scoring_api: {problem}\n")
            raise SystemExit(2) from None


if __name__ == "__main__":
    main()
