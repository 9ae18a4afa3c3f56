"""`python -m indexer` writes decisions to OpenSearch until SIGTERM."""

from __future__ import annotations

import logging
import sys

from fraud.runtime.lifecycle import load_settings, log_bugs, stop_event
from fraud.runtime.logs import configure_logs
from fraud.security.pseudonyms import Pseudonyms
from indexer.service import Settings, run


def main() -> None:
    """Run the indexer until SIGTERM."""
    settings = load_settings(Settings)
    configure_logs(settings, "indexer")
    # The client logs every request; what matters of it, the sink says.
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    with log_bugs("indexer"):
        try:
            pseudonyms = Pseudonyms.of(settings)
        except (ValueError, OSError) as problem:
            sys.stderr.write(f"indexer: {problem}\n")
            raise SystemExit(1) from None
        run(settings, pseudonyms, stop_event())


if __name__ == "__main__":
    main()
