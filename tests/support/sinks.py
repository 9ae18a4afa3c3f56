"""The indexer's sink on a real index."""

from __future__ import annotations

import random

from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.settings import OpenSearchSettings
from indexer.bulk import connect
from indexer.sink import Sink


def a_sink(url: str, clock: Clock = system_clock) -> Sink:
    client = connect(OpenSearchSettings(opensearch_url=url))
    return Sink(client, clock=clock, rng=random.Random(1), shards=1, replicas=0)
