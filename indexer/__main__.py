"""Entry point of `python -m indexer`, which runs until SIGTERM."""

from __future__ import annotations

from fraud.runtime.lifecycle import run_service
from indexer.service import run
from indexer.settings import IndexerSettings

if __name__ == "__main__":
    raise SystemExit(run_service("indexer", IndexerSettings, run))
