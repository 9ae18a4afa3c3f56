"""Submits the job to the cluster and ends: `python -m flink_job.job [checkpoint]`."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from pyflink.table import EnvironmentSettings, TableEnvironment

from flink_job.input_topic import describe
from flink_job.java_functions import functions_jar, python_jar
from flink_job.pipeline import pipeline, register_functions
from flink_job.rebuild import start
from flink_job.settings import JobSettings
from flink_job.tables import SINK, SOURCE, sink_ddl, source_ddl
from flink_job.unreadable import gaps, one_at_a_time
from fraud.contracts.topics import Topic
from fraud.runtime.lifecycle import load_settings


def configuration(settings: JobSettings) -> dict[str, str]:
    """Return Flink's options for the job; the figures behind them are in docs/decisions/0004."""
    return {
        "pipeline.name": settings.flink_job_name,
        "parallelism.default": str(settings.flink_parallelism),
        "pipeline.object-reuse": "true",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # Each of the two functions gets a process of its own: in one they would wait for each
        # other's turn at its interpreter. (With managed memory Flink shares one within a slot.)
        "python.fn-execution.memory.managed": "false",
        # Latency: Flink's defaults hold rows back for up to a second (0 would silently mean that).
        "python.fn-execution.bundle.time": str(settings.flink_batch_wait_ms),
        "python.fn-execution.bundle.size": str(settings.flink_batch_rows),
        "python.fn-execution.arrow.batch.size": str(settings.flink_batch_rows),
        "execution.buffer-timeout.interval": "2 ms",
        "state.backend.type": settings.flink_state_backend,
        "execution.checkpointing.incremental": str(
            settings.flink_state_backend == "rocksdb"
        ).lower(),
        "table.exec.state.ttl": f"{settings.flink_state_ttl_days} d",
        "table.local-time-zone": "UTC",
        "execution.checkpointing.interval": f"{settings.flink_checkpoint_interval_s:g} s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.min-pause": "1 s",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.dir": settings.layout_uri,
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.tolerable-failed-checkpoints": "2147483647",
        # Restart for ever, soon at first: a record that could fail for ever is a dead letter.
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
    }


def submit(settings: JobSettings, checkpoint: str | None) -> None:
    """Submit the job, restored from a checkpoint when one is given, and return at once."""
    table_env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    java_jar = functions_jar(settings)
    address = urlsplit(settings.flink_url)
    options = configuration(settings) | {
        "execution.target": "remote",
        "execution.attached": "false",
        "rest.address": str(address.hostname),
        "rest.port": str(address.port),
        # Naming any jar here replaces the one of PyFlink that the client adds, so all are named.
        "pipeline.jars": ";".join(
            jar.resolve().as_uri()
            for jar in (
                settings.flink_kafka_connector_jar,
                settings.flink_zstd_jar,
                python_jar(),
                java_jar,
            )
        ),
    }
    if checkpoint:
        options["execution.state-recovery.path"] = checkpoint
    config = table_env.get_config()
    for name, value in options.items():
        config.set(name, value)
    register_functions(
        table_env,
        java_jar,
        settings.model_registry.resolve(),
        settings,
        settings.event_time_limits,
    )
    beginning = start(settings)
    topic_id, _ = describe(settings)
    table_env.execute_sql(
        source_ddl(
            settings,
            from_earliest=beginning.from_earliest,
            step_over=[
                f"{gap.partition}:{gap.first}-{gap.next}" for gap in gaps(settings, topic_id)
            ],
            one_at_a_time=one_at_a_time(settings),
        )
    )
    table_env.execute_sql(sink_ddl(settings))
    outputs = pipeline(
        table_env,
        table_env.from_path(SOURCE),
        output=settings.topic(Topic.PROCESSED),
        dead_letters=settings.topic(Topic.DEAD_LETTERS),
        publish_from=beginning.publish_from,
    )
    outputs.execute_insert(SINK)


def main() -> None:
    """Submit with the settings of the environment."""
    # Without it a plain Python client keeps the workers as threads of its own, for debugging.
    os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112 - PyFlink's own name
    submit(load_settings(JobSettings), sys.argv[1] if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    main()
