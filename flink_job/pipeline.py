"""The pipeline, Table to Table: read, remember, decide, route.

It contains no connector: the job connects it to Kafka, tests to rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pyflink.table import DataTypes, Table, TableEnvironment
from pyflink.table.udf import udf

from flink_job.deciding import DecideTransactions
from flink_job.java_functions import (
    EPOCH_MS,
    FIRST_BYTES,
    FIRST_HEADERS,
    LAST_N,
    ORIGINAL_SIZE,
    TO_READ,
    UNLESS_KNOWN,
    WITH_HEADERS,
)
from flink_job.reading import ReadTransactions, read_type
from fraud.contracts import dead_letter
from fraud.contracts.errors import ErrorCode
from fraud.contracts.transaction import EventTimeLimits
from fraud.features.catalogue import KEYS
from fraud.runtime.settings import KafkaSettings

_SOURCE_COLUMNS: Final = (
    "record_key",
    "record_value",
    "source_headers",
    "source_topic",
    "source_partition",
    "source_offset",
    "source_ms",
)
_ANY_EVENT_TIME: Final = EventTimeLimits()
_EVERYTHING: Final[Mapping[int, int]] = MappingProxyType({})
_NOW: Final = "DATE_FORMAT(CURRENT_ROW_TIMESTAMP(), 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')"
_ERROR_COLUMNS: Final = ("original_size", "error_code", "error_message", "failed_at")


def register_functions(
    table_env: TableEnvironment,
    java_jar: Path,
    registry: Path,
    control: KafkaSettings | None = None,
    limits: EventTimeLimits = _ANY_EVENT_TIME,
) -> None:
    """Register the Java and Python functions under the names that the pipeline uses.

    Args:
        table_env: Environment of the tables.
        java_jar: The Java functions.
        registry: Folder of the model registry.
        control: See `DecideTransactions`.
        limits: How far an event_time may be from Kafka's timestamp.
    """
    register_java_functions(table_env, java_jar)
    table_env.create_temporary_system_function(
        "read_transaction",
        udf(ReadTransactions(limits), result_type=read_type(), func_type="pandas"),
    )
    table_env.create_temporary_system_function(
        "decide_transaction",
        udf(
            DecideTransactions(registry, control), result_type=DataTypes.BYTES(), func_type="pandas"
        ),
    )


def register_java_functions(table_env: TableEnvironment, java_jar: Path) -> None:
    """Register the Java functions under the names that the pipeline uses."""
    for name, java_class in (
        ("last_n", LAST_N),
        ("unless_known", UNLESS_KNOWN),
        ("epoch_ms", EPOCH_MS),
        ("first_bytes", FIRST_BYTES),
        ("first_headers", FIRST_HEADERS),
        ("original_size", ORIGINAL_SIZE),
        ("to_read", TO_READ),
        ("with_headers", WITH_HEADERS),
    ):
        table_env.execute_sql(
            f"CREATE TEMPORARY SYSTEM FUNCTION {name} AS '{java_class}' "
            f"LANGUAGE JAVA USING JAR '{java_jar.resolve().as_uri()}'"
        )


def read(table_env: TableEnvironment, transactions: Table) -> Table:
    """Read, check and pack each record; add the columns of `read_type`.

    A compressed batch may hold records above the broker's limit, which the sink could not send. Of
    such a record the beginning of each part goes on, with `original_size`.
    """
    packed = [field.name for field in read_type().fields]
    most_key, most_value = dead_letter.MAX_KEY_BYTES, dead_letter.MAX_VALUE_BYTES
    most_headers = dead_letter.MAX_HEADERS_BYTES
    measured = (
        "SELECT *, original_size(record_key, record_value, source_headers, "
        f"{most_key}, {most_value}, {most_headers}) AS original_size FROM {transactions}"
    )
    return table_env.sql_query(
        f"SELECT {', '.join(_SOURCE_COLUMNS)}, original_size, arrival, "
        + ", ".join(f"packed.{name} AS {name}" for name in packed)
        + f" FROM (SELECT first_bytes(record_key, {most_key}) AS record_key, "
        f"first_bytes(record_value, {most_value}) AS record_value, "
        f"first_headers(source_headers, {most_headers}) AS source_headers, "
        "source_topic, source_partition, source_offset, epoch_ms(source_time) AS source_ms, "
        f"original_size, read_transaction(to_read(record_value, original_size, {most_value}), "
        f"epoch_ms(source_time)) AS packed, arrival FROM ({measured}))"
    )


def remember(table_env: TableEnvironment, records: Table) -> Table:
    """Attach to each record the ring of each of its keys, one pass of Flink's state per key.

    Processing time without a lower bound: a row is emitted on arrival, no row is late, and the
    state of a key is its ring alone (docs/decisions/0003). The first key is the entity: duplicates
    in its ring are remembered under no other key.
    """
    columns = [*_SOURCE_COLUMNS, *_ERROR_COLUMNS, "own"]
    columns += [f"{key.name}_{part}" for key in KEYS for part in ("key", "record")]
    first = KEYS[0].name
    for key in KEYS:
        record = f"{key.name}_record"
        if key.name != first:
            record = f"unless_known({first}_ring, {record})"
        records = table_env.sql_query(
            f"SELECT {', '.join(columns)}, arrival, "
            f"last_n({key.rows}, {record}) OVER "
            f"(PARTITION BY {key.name}_key ORDER BY arrival) AS {key.name}_ring "
            f"FROM {records}"
        )
        columns.append(f"{key.name}_ring")
    return records


def decide(table_env: TableEnvironment, records: Table) -> Table:
    """Decide each valid record; `decided` is null for the others."""
    arguments = [
        "record_value",
        "source_topic",
        "source_partition",
        "source_offset",
        "source_ms",
        "own",
    ]
    arguments += [f"{key.name}_{part}" for key in KEYS for part in ("record", "ring")]
    return table_env.sql_query(
        f"SELECT {', '.join([*_SOURCE_COLUMNS, *_ERROR_COLUMNS])}, "
        f"{KEYS[0].name}_key, decide_transaction({', '.join(arguments)}) AS decided FROM {records}"
    )


def route(table_env: TableEnvironment, decided: Table, *, output: str, dead_letters: str) -> Table:
    """Turn each row into one record of either topic, with the columns of the sink.

    Args:
        table_env: Environment of the tables.
        decided: Result of `decide`.
        output: Physical name of `processed_transactions`.
        dead_letters: Physical name of `transactions.dlq`.
    """

    def text(expression: str) -> str:
        return f"CAST({expression} AS BYTES)"

    def quoted(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    # A valid record without a decision is one that made `decide_transaction` fail.
    ours = {
        dead_letter.ERROR_CODE: f"COALESCE(error_code, {quoted(ErrorCode.INTERNAL)})",
        dead_letter.ERROR_MESSAGE: (
            f"CASE WHEN original_size IS NOT NULL THEN {quoted(dead_letter.TOO_LARGE)} "
            f"ELSE COALESCE(error_message, {quoted(dead_letter.INTERNAL)}) END"
        ),
        dead_letter.SOURCE_TOPIC: "source_topic",
        dead_letter.SOURCE_PARTITION: "CAST(source_partition AS STRING)",
        dead_letter.SOURCE_OFFSET: "CAST(source_offset AS STRING)",
        dead_letter.FAILED_AT: f"COALESCE(failed_at, {_NOW})",
    } | {
        name: f"SPLIT_INDEX(original_size, ' ', {place})"
        for place, name in enumerate(dead_letter.CUT_HEADERS)
    }
    headers = ", ".join(f"'{name}', {text(value)}" for name, value in ours.items())
    return table_env.sql_query(
        f"SELECT IF(decided IS NULL, record_key, {text(f'{KEYS[0].name}_key')}) AS record_key, "
        "IF(decided IS NULL, record_value, decided) AS record_value, "
        f"IF(decided IS NULL, '{dead_letters}', '{output}') AS topic, "
        "CASE WHEN decided IS NOT NULL THEN source_headers "
        f"ELSE with_headers(source_headers, CAST(MAP[{headers}] AS MAP<STRING, BYTES>)) END "
        "AS headers "
        f"FROM {decided}"
    )


def to_publish(
    table_env: TableEnvironment, records: Table, publish_from: Mapping[int, int]
) -> Table:
    """Drop the records that were published before; see `flink_job.rebuild`.

    The condition is always part of the plan, because Flink finds the state of operators by the shape
    of the job.
    """
    lines = "".join(
        f" WHEN {partition} THEN CAST({offset} AS BIGINT)"
        for partition, offset in sorted(publish_from.items())
    )
    return table_env.sql_query(
        f"SELECT * FROM {records} WHERE source_offset >= "
        f"CASE source_partition WHEN -1 THEN CAST(0 AS BIGINT){lines} ELSE CAST(0 AS BIGINT) END"
    )


def pipeline(
    table_env: TableEnvironment,
    transactions: Table,
    *,
    output: str,
    dead_letters: str,
    publish_from: Mapping[int, int] = _EVERYTHING,
) -> Table:
    """Return the table of all output records of an input table.

    Args:
        table_env: Environment of the tables.
        transactions: The input.
        output: See `route`.
        dead_letters: See `route`.
        publish_from: First offset to be published, by input partition (default 0).
            Records below it are only remembered.
    """
    records = remember(table_env, read(table_env, transactions))
    decided = decide(table_env, to_publish(table_env, records, publish_from))
    return route(table_env, decided, output=output, dead_letters=dead_letters)
