"""`python -m notifier` notifies; `fraudstream alerts` has the commands on what it did."""

from __future__ import annotations

import logging
import sys

from fraud.runtime.lifecycle import log_bugs, stop_event
from fraud.runtime.logs import configure_logs
from notifier.commands import load
from notifier.ledger import LedgerInUse
from notifier.service import run


def main() -> None:
    """Run the notifier until SIGTERM."""
    settings, routing, wording = load()
    configure_logs(settings, "notifier")
    # It tells of every request with its address, which may be a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with log_bugs("notifier"):
        try:
            run(settings, routing, wording, stop_event())
        except LedgerInUse as error:
            sys.stderr.write(f"notifier: {error}; stop it first, or set another STATE_DIR\n")
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()
