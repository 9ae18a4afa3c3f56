"""`python -m flink_job`: submits the job, and again whenever none runs, until it is stopped."""

from __future__ import annotations

from flink_job.cluster import Cluster
from flink_job.settings import JobSettings
from flink_job.supervisor import Supervisor
from fraud.runtime.lifecycle import OpsServer, load_settings, log_bugs, stop_event
from fraud.runtime.logs import configure_logs
from model.registry import ModelError, Registry


def main() -> None:
    """Supervise the job with the settings of the environment."""
    settings = load_settings(JobSettings)
    configure_logs(settings, "flink_job")
    stop = stop_event()
    registry = Registry(settings.model_registry)

    def model_missing() -> str | None:
        try:
            registry.champion()
        except ModelError as error:
            return str(error)
        return None

    with log_bugs("flink_job"):
        supervisor = Supervisor(settings, Cluster(settings.flink_url), model_missing)
        with OpsServer(settings.bind_host, settings.flink_job_ops_port, supervisor.ready):
            supervisor.run(stop)


if __name__ == "__main__":
    main()
