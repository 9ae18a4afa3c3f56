"""The real pipeline on a mini-cluster: rows in, rows out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pytest
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from rich.console import Console

from devstack import artifacts
from flink_job.java_functions import build_jar, python_jar
from flink_job.pipeline import pipeline, register_functions
from flink_job.tables import LARGEST_REQUEST_BYTES
from fraud.contracts import dead_letter
from fraud.contracts.times import DAY_MS
from fraud.contracts.transaction import EventTimeLimits, decode
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.policy import Policy
from fraud.decision.rule_sets import shipped
from fraud.features.packing import pack
from model.registry import Registry
from tests.support.builders import Memory, a_record, a_registry, a_value
from tests.support.refused import REFUSED

pytestmark = [pytest.mark.flink, pytest.mark.slow]

Row = tuple[bytes | None, bytes | None, str, int, int, datetime]
ARRIVED = datetime(2026, 3, 1, 0, 0, 0, 123_000, tzinfo=UTC)
LIMITS = EventTimeLimits(2 * DAY_MS, DAY_MS)


class Output(NamedTuple):
    """One record of the sink."""

    record_key: bytes
    record_value: bytes
    topic: str
    headers: dict[str, bytes] | None


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion."""
    return a_registry(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def table_env(
    registry: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TableEnvironment]:
    """A mini-cluster with our functions, its Python workers as processes as in production."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("_python_worker_execution_mode", "process")
    (compiler,) = artifacts.ensure("ecj", Console(stderr=True))
    (connector,) = artifacts.ensure("flink-connector", Console(stderr=True))
    jar = build_jar(compiler, connector, tmp_path_factory.mktemp("jars"))
    env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    env.get_config().set("parallelism.default", "1")
    env.get_config().set("table.local-time-zone", "UTC")
    env.get_config().set(
        "pipeline.jars", ";".join(path.as_uri() for path in (python_jar(), jar, connector))
    )
    register_functions(env, jar, registry, limits=LIMITS)
    yield env
    monkeypatch.undo()


def outputs(
    table_env: TableEnvironment,
    rows: Sequence[Row],
    headers: Sequence[Mapping[str, bytes | None] | None] = (),
) -> list[Output]:
    """Run rows through the pipeline, each with its headers: rows as the sink gets them."""
    columns = [
        ("record_key", DataTypes.BYTES()),
        ("record_value", DataTypes.BYTES()),
        ("source_topic", DataTypes.STRING()),
        ("source_partition", DataTypes.INT()),
        ("source_offset", DataTypes.BIGINT()),
        ("source_time", DataTypes.TIMESTAMP_LTZ(3)),
        ("source_headers", DataTypes.MAP(DataTypes.STRING(), DataTypes.BYTES())),
    ]
    # PyFlink takes bytes as bytearray here.
    elements = [
        (
            *(bytearray(cell) if isinstance(cell, bytes) else cell for cell in row),
            None
            if of_row is None
            else {name: None if text is None else bytearray(text) for name, text in of_row.items()},
        )
        for row, of_row in zip(rows, headers or [{}] * len(rows), strict=True)
    ]
    source = table_env.from_elements(
        elements, DataTypes.ROW([DataTypes.FIELD(name, kind) for name, kind in columns])
    )
    table_env.create_temporary_view("arrivals", source)
    try:
        transactions = table_env.sql_query("SELECT *, PROCTIME() AS arrival FROM arrivals")
        result = pipeline(table_env, transactions, output="out", dead_letters="dead")
        with result.execute().collect() as collected:
            return [Output(*row) for row in collected]
    finally:
        table_env.drop_temporary_view("arrivals")


def rows_of(values: Sequence[bytes | None]) -> list[Row]:
    return [(b"key", value, "in", 2, offset, ARRIVED) for offset, value in enumerate(values)]


def test_each_record_ends_in_exactly_one_topic(table_env: TableEnvironment) -> None:
    """Good ones decided, bad ones untouched with their reason, in whatever order they come."""
    bad = [raw for raw, _, _ in REFUSED]
    good = [a_value(event_id=f"e{n}", entity_id=f"c{n % 3}") for n in range(len(bad))]
    values = [value for pair in zip(bad, good, strict=True) for value in pair]
    decided, dead = {}, {}
    for row in outputs(table_env, rows_of(values)):
        if row.topic == "out":
            offset = orjson.loads(row.record_value)["fd"]["source"]["offset"]
            assert offset not in decided
            decided[offset] = row
        else:
            assert row.headers is not None
            offset = int(bytes(row.headers["source_offset"]))
            assert offset not in dead
            dead[offset] = row
    assert sorted(dead) == list(range(0, len(values), 2))
    assert sorted(decided) == list(range(1, len(values), 2))
    for offset, (raw, reason, field) in zip(sorted(dead), REFUSED, strict=True):
        row = dead[offset]
        value = None if row.record_value is None else bytes(row.record_value)
        assert value == raw
        assert bytes(row.record_key) == b"key"
        headers = {name: bytes(text).decode() for name, text in (row.headers or {}).items()}
        assert headers["error_code"] == reason
        assert (field or "") in headers["error_message"]
        assert (headers["source_topic"], headers["source_partition"]) == ("in", "2")
        assert headers["failed_at"].endswith("Z")


def test_the_stream_decides_as_the_engine_does(table_env: TableEnvironment, registry: Path) -> None:
    """Ties, late and repeated events, unknown currencies, full rings: bit for bit the same."""
    rng = np.random.default_rng(3)
    values = [
        a_value(
            event_id=f"e{rng.integers(0, 1500)}",
            entity_id=f"c{rng.integers(0, 12)}",
            event_time=f"2026-03-{rng.integers(1, 4):02}T{rng.integers(0, 24):02}:00:00Z",
            transaction_amt=float(np.round(rng.uniform(0, 120), 2)),
            transaction_currency=str(rng.choice(["USD", "EUR", "ZWD"])),
            ip_address=str(rng.choice(["203.0.113.7", "198.51.100.9", "10.0.0.1"])),
            merchant_id=str(rng.choice(["m-1", "m-2", ""])),
            product_category=str(rng.choice(["a", "b", ""])),
            billing_latitude=float(rng.integers(-80, 80)),
        )
        for _ in range(2000)
    ]
    # Retries: of an earlier payment, at another time.
    values += [
        orjson.dumps(orjson.loads(value) | {"event_time": "2026-03-03T00:00:00Z"})
        for value in values[-200::5]
    ]
    streamed = [orjson.loads(row.record_value)["fd"] for row in outputs(table_env, rows_of(values))]

    transactions = [LIMITS.apply(decode(value), 1_772_323_200_123) for value in values]
    packed = pack(transactions)
    rings, duplicates = Memory().remember(packed)
    sources = [
        {"topic": "in", "partition": 2, "offset": offset, "timestamp_ms": 1_772_323_200_123}
        for offset in range(len(values))
    ]
    scorer = Registry(registry).champion()
    engine = Engine(scorer, Policy(shipped(), scorer.ref), clock=lambda: 0)
    expected = [
        orjson.loads(decided.json)
        for decided in engine.decide(
            TransactionBatch(packed, FieldsOfTransactions(transactions), rings, duplicates, sources)
        )
    ]
    for decision in (*streamed, *expected):
        for clocked in ("scored_at", "frauddetector_time", "proc_time", "ttdf"):
            del decision[clocked]
    by_offset = sorted(streamed, key=lambda decision: decision["source"]["offset"])
    assert by_offset == expected
    assert any(duplicates)
    marks = {mark for decision in expected for mark in decision["marks"]}
    assert marks == {"EVENT_ID_REUSED", "EVENT_TIME_AHEAD"}
    assert {decision["outcome"] for decision in expected} == {"approve", "review", "block"}


def test_the_output_keeps_the_inputs_bytes_and_is_keyed_by_entity(
    table_env: TableEnvironment,
) -> None:
    """Whatever key and spacing the input came with."""
    raw = orjson.dumps(a_record(entity_id="c-9"), option=orjson.OPT_INDENT_2) + b" \n"
    (row,) = outputs(table_env, [(None, raw, "in", 0, 0, ARRIVED)])
    assert bytes(row.record_key) == b"c-9"
    assert bytes(row.record_value).startswith(raw.rstrip()[:-1] + b',"fd":{')
    assert row.headers == {}


def test_the_inputs_headers_pass_on_and_ours_win_on_a_dead_letter(
    table_env: TableEnvironment,
) -> None:
    """An input cannot pass for one that was refused elsewhere, or cut."""
    given = {"traceparent": b"00-ab", "blob": b"\xff\x00", "error_code": b"mine", "empty": b"", "original_value_bytes": b"5"}  # fmt: skip
    rows = [(b"k", a_value(), "in", 0, 0, ARRIVED), (b"k", b"{", "in", 0, 1, ARRIVED)]
    by_topic = {row.topic: row.headers for row in outputs(table_env, rows, [given, given])}
    assert {name: bytes(value) for name, value in (by_topic["out"] or {}).items()} == given
    dead = {name: bytes(value) for name, value in (by_topic["dead"] or {}).items()}
    assert dead["error_code"] == b"not_json"
    assert dead["source_offset"] == b"1"
    assert "original_value_bytes" not in dead
    assert {name: dead[name] for name in ("traceparent", "blob", "empty")} == {
        name: given[name] for name in ("traceparent", "blob", "empty")
    }


def test_headers_may_be_missing(table_env: TableEnvironment) -> None:
    """A connector may have none."""
    (row,) = outputs(table_env, [(None, b"{", "in", 0, 0, ARRIVED)], [None])
    assert (row.headers or {}).keys() == dead_letter.HEADERS.keys()


def test_the_sink_never_gets_more_than_the_broker_takes(table_env: TableEnvironment) -> None:
    """Sizes around every limit, in all combinations: exactly those over one are cut, and say so."""
    steps = (-1, 0, 1)
    filler = a_value(note="")
    rows, headers, too_large = [], [], set()
    for offset, (key, value, header) in enumerate(itertools.product(steps, steps, steps)):
        note = "x" * (dead_letter.MAX_VALUE_BYTES - len(filler) + value)
        rows.append((
            b"k" * (dead_letter.MAX_KEY_BYTES + key), a_value(note=note), "in", 0, offset, ARRIVED,
        ))  # fmt: skip
        half = dead_letter.MAX_HEADERS_BYTES // 2
        headers.append({"a": b"h" * (half - 1), "b": b"h" * (half - 1 + header)})
        if max(key, value, header) > 0:
            too_large.add(offset)
    seen = set()
    for row in outputs(table_env, rows, headers):
        given = row.headers or {}
        size = len(row.record_key) + len(row.record_value)
        size += sum(len(name) + len(text) for name, text in given.items())
        assert size < LARGEST_REQUEST_BYTES - 1024
        if row.topic == "dead":
            offset = int(bytes(given["source_offset"]))
            assert bytes(given["error_code"]) == b"too_large"
            assert int(bytes(given["original_key_bytes"])) == len(rows[offset][0] or b"")
            value = rows[offset][1] or b""
            assert int(bytes(given["original_value_bytes"])) == len(value)
            assert bytes(given["original_value_sha256"]).decode() == sha256(value).hexdigest()
            assert int(bytes(given["original_headers_bytes"])) == sum(
                len(name) + len(text) for name, text in headers[offset].items()
            )
            assert value.startswith(bytes(row.record_value))
            seen.add(offset)
        else:
            assert orjson.loads(row.record_value)["fd"]["source"]["offset"] not in too_large
    assert seen == too_large
