"""100,000 records have the same features, bit for bit, in every way that computes them.

By the naive definition, in training's replay, over REST and from the running job. One partition and parallelism 1, so that the order of arrival is one, for IP addresses and merchants
as well. Ties, late, duplicate and out-of-order events, and event times on the edges of windows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.table.expressions import col
from rich.console import Console

from devstack import artifacts
from flink_job.java_functions import build_jar, python_jar
from flink_job.pipeline import pipeline, register_functions
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import Transaction, decode
from fraud.features.catalogue import KEYS
from fraud.features.packing import Packed, pack
from fraud.features.replay import replay
from fraud.features.vector import FEATURE_NAMES, vectors
from scoring_api.history import Processed, RecentHistory
from tests.support.builders import START_MS, a_registry
from tests.support.edges import EDGES_MS, VALUES, assert_same_bits
from tests.support.naive import NaiveStream

# 100,000 records take minutes on a slow day, in which nothing hangs.
pytestmark = [pytest.mark.flink, pytest.mark.slow, pytest.mark.timeout(1800)]

RECORDS = 100_000
ENTITIES, ADDRESSES, MERCHANTS = 9_000, 6_000, 3_000


def make_values() -> list[bytes]:
    """Draw the stream: event times advance, with ties, late ones, and steps of a window's edge."""
    draw = random.Random(20261124)
    values: list[bytes] = []
    last: dict[int, int] = {}
    for at in range(RECORDS):
        if values and draw.random() < 0.02:
            values.append(values[-draw.randint(1, min(len(values), 3000))])
            continue
        entity = int(ENTITIES * draw.random() ** 3)
        now_ms = START_MS + at // 3 * 900
        kind = draw.random()
        if kind < 0.3 and entity in last:
            now_ms = last[entity] + draw.choice(EDGES_MS)
        elif kind < 0.4:
            now_ms -= draw.randrange(3_600_000)
        last[entity] = now_ms
        record: dict[str, Any] = {
            "event_id": f"e{at}",
            "entity_id": f"c{entity}",
            "event_time": utc_text(now_ms),
            "transaction_amt": draw.choice((9.99, 24.9, 1, draw.randrange(1, 100_000) / 100)),
            "transaction_currency": draw.choice(("USD", "USD", "EUR", "JPY", "XXX")),
            "merchant_id": f"m{int(MERCHANTS * draw.random() ** 2)}",
        }
        octet = int(ADDRESSES * draw.random() ** 2)
        record["ip_address"] = f"8.8.{octet // 250}.{octet % 250}"
        for name, choices in VALUES.items():
            if name in record:
                if draw.random() < 0.05:
                    del record[name]
            elif draw.random() < 0.8:
                record[name] = draw.choice(choices)
        values.append(orjson.dumps(record))
    return values


@pytest.fixture(scope="module")
def values() -> list[bytes]:
    """The stream's raw values."""
    return make_values()


@pytest.fixture(scope="module")
def transactions(values: list[bytes]) -> list[Transaction]:
    """The same, read."""
    return [decode(value) for value in values]


@pytest.fixture(scope="module")
def naive(transactions: list[Transaction]) -> NDArray[np.float32]:
    """The naive definition's vectors."""
    stream = NaiveStream()
    matrix = np.empty((len(transactions), len(FEATURE_NAMES)), np.float32)
    for row, transaction in enumerate(transactions):
        vector = stream.vector(transaction)
        matrix[row] = [vector[name] for name in FEATURE_NAMES]
    return matrix


def test_training_replays_what_the_definition_says(
    transactions: list[Transaction], naive: NDArray[np.float32]
) -> None:
    replayed = np.concatenate(list(replay(pack(transactions))))
    assert_same_bits(replayed, naive, transactions)


def test_rest_is_asked_about_each_before_it_comes(
    transactions: list[Transaction], naive: NDArray[np.float32]
) -> None:
    """A look at the history as it would be, then the record itself."""
    history = RecentHistory(RECORDS)
    packed = pack(transactions)
    asked: dict[str, list[bytes]] = {key.name: [] for key in KEYS}
    duplicates = 0
    for row, transaction in enumerate(transactions):
        one = Packed(
            {key: values[row : row + 1] for key, values in packed.keys.items()},
            {key: records[row : row + 1] for key, records in packed.records.items()},
            packed.own[row : row + 1],
        )
        rings, known = history.rings_with(one)
        for key, (ring,) in rings.items():
            asked[key].append(ring)
        duplicates += known[0]
        if not known[0]:
            history.remember([Processed(transaction, 0, row, START_MS + row)])
    assert_same_bits(vectors(packed, asked)[0], naive, transactions)
    assert duplicates > 1000


@pytest.fixture(scope="module")
def table_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableEnvironment]:
    """A mini-cluster whose Python workers are processes, as in production."""
    folder = tmp_path_factory.mktemp("parity")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("_python_worker_execution_mode", "process")
    (compiler,) = artifacts.ensure("ecj", Console(stderr=True))
    (connector,) = artifacts.ensure("flink-connector", Console(stderr=True))
    jar = build_jar(compiler, connector, folder)
    env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    env.get_config().set("parallelism.default", "1")
    env.get_config().set("table.local-time-zone", "UTC")
    # A file is complete with the checkpoint after its last row.
    env.get_config().set("execution.checkpointing.interval", "30 s")
    env.get_config().set("execution.checkpointing.storage", "filesystem")
    env.get_config().set("execution.checkpointing.dir", (folder / "checkpoints").as_uri())
    env.get_config().set("restart-strategy.type", "none")
    env.get_config().set(
        "pipeline.jars", ";".join(path.as_uri() for path in (python_jar(), jar, connector))
    )
    register_functions(env, jar, a_registry(folder / "models"))
    yield env
    monkeypatch.undo()


def test_the_running_job_computes_what_the_definition_says(
    table_env: TableEnvironment,
    values: list[bytes],
    transactions: list[Transaction],
    naive: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    """The whole pipeline over all records, by their outputs."""
    source = tmp_path / "in.csv"
    source.write_bytes(b"".join(b"%d\t0\tin\t%b\n" % pair for pair in enumerate(values)))
    table_env.execute_sql(
        "CREATE TEMPORARY TABLE lines "
        "(source_offset BIGINT, source_partition INT, source_topic STRING, line STRING) WITH ("
        f"'connector' = 'filesystem', 'path' = '{source.as_uri()}', 'format' = 'csv', "
        "'csv.field-delimiter' = '\t', 'csv.disable-quote-character' = 'true')"
    )
    arrivals = table_env.sql_query(
        "SELECT CAST(NULL AS BYTES) AS record_key, CAST(line AS BYTES) AS record_value, "
        "CAST(NULL AS MAP<STRING, BYTES>) AS source_headers, "
        "source_topic, source_partition, source_offset, "
        # Flink would hand a constant to the function as one number instead of a column.
        "TO_TIMESTAMP_LTZ(1772323200000 + source_offset, 3) AS source_time, PROCTIME() AS arrival "
        "FROM lines"
    )
    # Collected row by row, each record would cost several calls between Python and Java.
    target = tmp_path / "out"
    table_env.execute_sql(
        "CREATE TEMPORARY TABLE decisions (record_value BYTES) WITH ("
        f"'connector' = 'filesystem', 'path' = '{target.as_uri()}', 'format' = 'raw')"
    )
    decided = pipeline(table_env, arrivals, output="out", dead_letters="dead")
    decided.select(col("record_value")).execute_insert("decisions").wait()
    streamed = np.full_like(naive, np.inf)
    for part in target.iterdir():
        with part.open("rb") as lines:
            for line in lines:
                fd = orjson.loads(line)["fd"]
                streamed[fd["source"]["offset"]] = [fd["features"][name] for name in FEATURE_NAMES]
    assert_same_bits(streamed, naive, transactions)
