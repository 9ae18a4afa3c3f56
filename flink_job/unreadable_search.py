"""Search for a record that the Kafka client cannot read, in a JVM of little memory."""

from __future__ import annotations

import subprocess
from typing import Final

from flink_job.input_topic import committed_offsets, describe
from flink_job.java_functions import FIND_UNREADABLE, flink_jars, functions_jar, java
from flink_job.settings import JobSettings
from flink_job.unreadable import Found, Gap, gaps, note
from fraud.contracts.topics import Topic

_HEAP: Final = ("-Xmx256m", "-Xmn16m", "-XX:+UseSerialGC")
"""Holds a record of `MAX_UNPACKED_BYTES` twice, as the client does."""

_SEARCH_S: Final = 600


def find(settings: JobSettings) -> Found | None:
    """Read on from the committed offsets, and note the first record that cannot be read.

    Returns:
        What was found, None if all can be read.

    Raises:
        KafkaException: The broker does not answer.
        OSError: The search cannot be started.
        RuntimeError: The search failed; the message has the reason.
    """
    topic_id, partitions = describe(settings)
    known = gaps(settings, topic_id)
    starts = committed_offsets(settings, partitions)
    while unreadable := _search(settings, starts):
        for gap, error in unreadable:
            if gap not in known:
                stop = Found(topic_id=topic_id, gap=gap, error=error)
                note(settings, stop)
                return stop
        starts = {gap.partition: gap.next for gap, _ in unreadable}
    return None


def _search(settings: JobSettings, starts: dict[int, int]) -> list[tuple[Gap, str]]:
    command = [
        str(java()),
        *_HEAP,
        "-cp",
        ":".join(
            map(
                str,
                [
                    functions_jar(settings),
                    settings.flink_kafka_connector_jar,
                    settings.flink_zstd_jar,
                    *flink_jars(),
                ],
            )
        ),
        FIND_UNREADABLE,
        settings.topic(Topic.TRANSACTIONS),
        *(f"{partition}:{offset}" for partition, offset in starts.items()),
    ]
    # The settings hold a password, so they are no arguments.
    properties = "".join(
        f"{name}={_escaped(value)}\n" for name, value in settings.java_client().items()
    )
    try:
        result = subprocess.run(
            command,
            input=properties,
            capture_output=True,
            text=True,
            timeout=_SEARCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the search took over {_SEARCH_S} s") from None
    if result.returncode:
        raise RuntimeError(f"the search failed: {result.stderr[-500:]}")
    rows = [line.split(" ", 3) for line in result.stdout.splitlines()]
    return [
        (Gap(partition=int(partition), first=int(first), next=int(following)), error)
        for partition, first, following, error in rows
    ]


def _escaped(value: str) -> str:
    """Return a value as Java's properties have it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
