"""The supervisor of the job as a process: wiring and shutdown."""

from __future__ import annotations

import threading

from flink_job.cluster import Cluster
from flink_job.settings import JobSettings
from flink_job.supervisor import Supervisor
from fraud.runtime.lifecycle import OpsServer
from model.registry import ModelError, Registry


def run(settings: JobSettings, stop: threading.Event) -> None:
    """Keep the job running until `stop` is set."""
    registry = Registry(settings.model_registry)

    def model_missing() -> str | None:
        try:
            registry.champion()
        except ModelError as error:
            return str(error)
        return None

    supervisor = Supervisor(settings, Cluster(settings.flink_url), model_missing)
    with OpsServer(settings.bind_host, settings.flink_job_ops_port, supervisor.ready):
        supervisor.run(stop)
