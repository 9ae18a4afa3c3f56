"""Settings of the Flink job and of the supervisor that keeps it running."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from flink_job.checkpoints import is_local
from fraud.features.catalogue import LAYOUT_ID
from fraud.runtime.settings import EventTimeSettings, KafkaSettings, ModelSettings


class JobSettings(KafkaSettings, ModelSettings, EventTimeSettings):
    """Location of the job, and its trade-off of latency, safety and memory."""

    flink_url: str = Field(
        "http://127.0.0.1:8081", description="Address of Flink's JobManager (REST)."
    )
    flink_job_name: str = Field(
        "fraudstream",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the job; also of its consumer group and of its folder of checkpoints.",
    )
    flink_parallelism: int = Field(
        1,
        ge=1,
        description="Parallel instances of each step. More need more task slots and about 0.5 GB each.",
    )
    flink_delivery: Literal["at-least-once", "exactly-once"] = Field(
        "at-least-once",
        description="exactly-once publishes in transactions: readers need read_committed, and wait for a checkpoint.",
    )
    flink_transaction_timeout_s: int = Field(
        7 * 86_400,
        ge=60,
        le=2_000_000,
        description="exactly-once: seconds after which the broker aborts a transaction, and with it what no restart has committed by then; at most its transaction.max.timeout.ms.",
    )
    flink_checkpoint_interval_s: float = Field(
        10.0,
        gt=0,
        description="Seconds between checkpoints, which is the most that a restart repeats.",
    )
    flink_checkpoint_dir: str = Field(
        ".fraudstream/checkpoints",
        min_length=1,
        description="Folder of checkpoints, or address of an object store such as s3://bucket/path; the same for all Flink processes.",
    )
    flink_state_ttl_days: int = Field(
        90,
        ge=31,
        description="Days after which an idle key is forgotten; above the longest window.",
    )
    flink_state_backend: Literal["hashmap", "rocksdb"] = Field(
        "hashmap",
        description="hashmap keeps the history in the TaskManager's memory; rocksdb on its disk, slower. A change rebuilds it.",
    )
    flink_batch_rows: int = Field(1000, ge=1, description="Most rows passed to Python at once.")
    flink_batch_wait_ms: int = Field(
        10, ge=1, description="Longest wait for such a batch to fill, milliseconds."
    )
    flink_kafka_connector_jar: Path = Field(
        Path("flink-sql-connector-kafka.jar"),
        description="Jar of Flink's Kafka connector; devstack and the image set it.",
    )
    flink_zstd_jar: Path = Field(
        Path("zstd-jni.jar"),
        description="Jar of zstd for Kafka's batches; devstack and the image set it.",
    )
    flink_java_compiler_jar: Path = Field(
        Path("ecj.jar"),
        description="Jar of Eclipse's Java compiler; devstack and the image set it.",
    )
    flink_job_ops_port: int = Field(
        9102, ge=0, le=65535, description="Metrics and health of the supervisor."
    )
    flink_retry_s: float = Field(2.0, gt=0, description="Seconds between checks of the job.")  # fmt: skip

    @property
    def lists_checkpoints(self) -> bool:
        """Whether checkpoints are in a folder, and so can be listed and removed from here."""
        return is_local(self.flink_checkpoint_dir)

    @property
    def job_dir(self) -> Path:
        """Folder of this job's files: its checkpoints, unless an object store has them."""
        if self.lists_checkpoints:
            return Path(self.flink_checkpoint_dir.removeprefix("file://")) / self.flink_job_name
        return self.state_dir / "flink" / self.flink_job_name

    @property
    def layout_dir(self) -> Path:
        """Folder of the checkpoints whose history this version and its settings can read."""
        return self.job_dir / self._layout

    @property
    def layout_uri(self) -> str:
        """Address of those checkpoints, as Flink takes it."""
        if self.lists_checkpoints:
            return self.layout_dir.resolve().as_uri()
        return f"{self.flink_checkpoint_dir.rstrip('/')}/{self.flink_job_name}/{self._layout}"

    @property
    def _layout(self) -> str:
        backend = "" if self.flink_state_backend == "hashmap" else f"-{self.flink_state_backend}"
        return f"layout-{LAYOUT_ID}{backend}"
