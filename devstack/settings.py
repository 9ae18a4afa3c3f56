"""Settings of devstack: folders, ports, memory, and servers that the user brings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from devstack.errors import DevstackError
from fraud.runtime.settings import PlaceSettings, complain

ENV_FILE: Final = ".env"

Port = Annotated[int, Field(ge=1, le=65535)]
Dispensable = Literal["kafka", "opensearch", "mail", "producer"]


class DevstackSettings(PlaceSettings):
    """Read from the environment and from `.env` in the current folder; the environment wins."""

    model_config = SettingsConfigDict(env_file=ENV_FILE)

    advertised_host: str = Field("", description="Host name that the local Kafka tells its clients; empty = BIND_HOST, or 127.0.0.1 if that is every address.")  # fmt: skip
    devstack_without: Annotated[frozenset[Dispensable], NoDecode] = Field(frozenset(), description="What to leave out, comma-separated: kafka, opensearch and mail in favour of your own servers, producer for no simulated traffic.")  # fmt: skip

    kafka_port: Port = Field(9092, description="Port of the local Kafka.")
    opensearch_port: Port = Field(9200, description="Port of the local OpenSearch.")
    api_port: Port = Field(8000, description="Port of the REST API.")
    flink_port: Port = Field(8081, description="Port of Flink's web interface.")
    smtp_port: Port = Field(1025, description="Port of the mail server.")
    mail_ui_port: Port = Field(8025, description="Port of the mail catcher's page and API.")
    producer_ops_port: Port = Field(9101, description="Port of the producer's metrics and health.")
    flink_job_ops_port: Port = Field(
        9102, description="Port of the job supervisor's metrics and health."
    )
    notifier_ops_port: Port = Field(9103, description="Port of the notifier's metrics and health.")
    indexer_ops_port: Port = Field(9104, description="Port of the indexer's metrics and health.")

    kafka_bootstrap_servers: str = Field("", description="Your own brokers, used with DEVSTACK_WITHOUT=kafka.")  # fmt: skip
    opensearch_url: str = Field("", description="Your own OpenSearch, used with DEVSTACK_WITHOUT=opensearch.")  # fmt: skip
    smtp_host: str = Field("", description="Your own mail server, used with DEVSTACK_WITHOUT=mail.")

    kafka_heap: str = Field("384m", pattern=r"^\d+[mg]$", description="Heap of the local Kafka.")
    opensearch_heap: str = Field("512m", pattern=r"^\d+[mg]$", description="Heap of the local OpenSearch.")  # fmt: skip
    flink_jobmanager_memory: str = Field("1024m", pattern=r"^\d+[mg]$", description="Memory of Flink's JobManager, all told.")  # fmt: skip
    flink_taskmanager_memory: str = Field("1600m", pattern=r"^\d+[mg]$", description="Memory of Flink's TaskManager, all told, without its Python workers.")  # fmt: skip
    flink_task_slots: int = Field(4, ge=1, le=256, description="Slots of Flink's TaskManager.")
    flink_jobmanager_host: str = Field("", description="Host of Flink's JobManager when it is another machine or container; Compose sets it.")  # fmt: skip
    opensearch_run_as: str = Field("nobody", description="Whom the local OpenSearch runs as when the stack is started by root, which it refuses.")  # fmt: skip

    min_memory_gb: float = Field(6.0, ge=0, description="Free memory without which the stack does not start, GB.")  # fmt: skip
    min_disk_gb: float = Field(5.0, ge=0, description="Free disk without which the stack does not start, GB.")  # fmt: skip
    start_timeout_s: int = Field(600, ge=1, description="How long `up` waits for the first scored transaction, seconds.")  # fmt: skip
    log_file_mb: int = Field(50, ge=1, description="Size at which a log file is set aside as .1, MB.")  # fmt: skip
    maven_repository_url: str = Field("", description="Maven repository to fetch the JVM parts from; empty = Maven Central.")  # fmt: skip

    @field_validator("devstack_without", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def without(self, name: Dispensable) -> bool:
        """Return whether `DEVSTACK_WITHOUT` names a server or the producer."""
        return name in self.devstack_without

    def ports(self) -> frozenset[int]:
        """Return the values of all port settings."""
        names = (name for name in type(self).model_fields if name.endswith("_port"))
        return frozenset(getattr(self, name) for name in names)

    def places(self) -> dict[str, str]:
        """Return default values of settings that follow from folders and ports."""
        return {
            "MODEL_REGISTRY": str(self.state_dir / "models"),
            "PUBLIC_URL": f"http://{self.reach_host}:{self.api_port}",
        }

    def addresses(self) -> dict[str, str]:
        """Return the settings with the addresses of the local servers, without those left out."""
        found: dict[str, str] = {}
        if not self.without("kafka"):
            found["KAFKA_BOOTSTRAP_SERVERS"] = f"{self.kafka_host}:{self.kafka_port}"
        if not self.without("opensearch"):
            found["OPENSEARCH_URL"] = f"http://{self.reach_host}:{self.opensearch_port}"
        if not self.without("mail"):
            found |= {"SMTP_HOST": self.reach_host, "SMTP_PORT": str(self.smtp_port)}
        return found

    @property
    def kafka_host(self) -> str:
        """Host name at which clients reach the local Kafka."""
        return self.advertised_host or self.reach_host

    @property
    def reach_host(self) -> str:
        """Address at which this machine reaches its own servers."""
        return "127.0.0.1" if self.bind_host in ("0.0.0.0", "::", "") else self.bind_host  # noqa: S104 - compared, not bound


class ComposeSettings(BaseSettings):
    """Variables of `.env` that only docker-compose.yml reads, declared here to be documented."""

    fraudstream_tag: str = Field("local", description="Tag of our images.")
    kafka_replicas: int = Field(1, description="0 leaves out the local Kafka in favour of KAFKA_BOOTSTRAP_SERVERS.")  # fmt: skip
    opensearch_replicas: int = Field(1, description="0 leaves out the local OpenSearch in favour of OPENSEARCH_URL.")  # fmt: skip
    mail_replicas: int = Field(1, description="0 leaves out the mail catcher in favour of SMTP_HOST.")  # fmt: skip
    dashboards_replicas: int = Field(1, description="0 leaves out OpenSearch Dashboards.")
    producer_replicas: int = Field(1, description="0 leaves out the simulated traffic.")
    dashboards_port: Port = Field(5601, description="Port of OpenSearch Dashboards.")
    prometheus_port: Port = Field(9090, description="Port of Prometheus.")
    grafana_port: Port = Field(3000, description="Port of Grafana.")
    kafka_memory_limit: str = Field("1g", description="Memory of Kafka's container; more than KAFKA_HEAP.")  # fmt: skip
    opensearch_memory_limit: str = Field("1536m", description="Memory of OpenSearch's container; twice OPENSEARCH_HEAP and some.")  # fmt: skip
    jobmanager_memory_limit: str = Field("1280m", description="Memory of the JobManager's container; more than FLINK_JOBMANAGER_MEMORY.")  # fmt: skip
    taskmanager_memory_limit: str = Field("4g", description="Memory of each TaskManager's container: FLINK_TASKMANAGER_MEMORY and its Python workers.")  # fmt: skip


def load() -> DevstackSettings:
    """Load the settings of devstack.

    Raises:
        DevstackError: A setting is invalid; the message names it.
    """
    try:
        return DevstackSettings()
    except ValidationError as error:
        raise DevstackError(complain(error)) from None


def env_file_values() -> dict[str, str]:
    """Return the variables in `.env`, for the processes that devstack starts."""
    return {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None}


PYTHON: Final = sys.executable
