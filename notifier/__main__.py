"""`python -m notifier` notifies; `python -m notifier --retry-failed` makes refused mails due again."""

from __future__ import annotations

import argparse
import sys

from fraud.kit.clock import system_clock
from fraud.kit.lifecycle import load_settings, log_bugs, stop_event
from fraud.kit.logs import configure_logs
from notifier.ledger import Ledger, LedgerInUse
from notifier.service import Settings, run


def main() -> None:
    """Run the notifier until SIGTERM."""
    arguments = argparse.ArgumentParser(prog="python -m notifier", description=__doc__)
    arguments.add_argument(
        "--retry-failed",
        action="store_true",
        help="make alerts whose mail was refused for good due again, and end",
    )
    retry_failed = arguments.parse_args().retry_failed
    settings = load_settings(Settings)
    if retry_failed:
        with Ledger(settings.state_dir / "notifier.db") as ledger:
            count = ledger.retry_failed(now_ms=system_clock())
        sys.stdout.write(f"{count} alerts are due again\n")
        return
    configure_logs(settings, "notifier")
    with log_bugs("notifier"):
        try:
            run(settings, stop_event())
        except LedgerInUse as error:
            sys.stderr.write(f"notifier: {error}; stop it first, or set another STATE_DIR\n")
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()
