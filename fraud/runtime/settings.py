"""Settings that several services share. The environment is read only in `main()`.

Each service's own `Settings` inherits the groups it needs; `.env.example` lists all settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud.contracts.topics import Topic
from fraud.contracts.transaction import EventTimeLimits

MIN_KEY: Final = 32
"""Minimum length of a secret key, characters."""


def _long_enough(key: SecretStr) -> SecretStr:
    if 0 < len(key.get_secret_value()) < MIN_KEY:
        raise ValueError(f"expected at least {MIN_KEY} characters, or nothing")
    return key


SecretKey = Annotated[SecretStr, AfterValidator(_long_enough)]
"""A secret key from the environment; empty where it is made and kept in a file."""


class PlaceSettings(BaseSettings):
    """Settings of services and the local stack; names are those of the environment, in any case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    state_dir: Path = Field(Path(".fraudstream"), description="Folder for everything that is kept.")
    bind_host: str = Field("127.0.0.1", description="Address that servers listen on.")


class ServiceSettings(PlaceSettings):
    """Settings that every service has."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto is text on a terminal and JSON elsewhere.")  # fmt: skip


class KafkaSettings(ServiceSettings):
    """How to reach Kafka."""

    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="Brokers, host:port, comma-separated."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Used with SASL_PLAINTEXT and SASL_SSL."
    )
    kafka_sasl_username: str = Field("", description="User name at the brokers.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Password at the brokers.")
    kafka_ssl_ca_location: str = Field(
        "", description="PEM file of the brokers' certificate authority; empty = the system's."
    )
    topic_transactions: str = Field(
        Topic.TRANSACTIONS.value, description="Physical name of the input topic."
    )
    topic_processed_transactions: str = Field(
        Topic.PROCESSED.value, description="Physical name of the output topic."
    )
    topic_transactions_dlq: str = Field(
        Topic.DEAD_LETTERS.value, description="Physical name of the dead-letter topic."
    )
    topic_labels: str = Field(Topic.LABELS.value, description="Physical name of the label topic.")
    topic_fraud_control: str = Field(Topic.CONTROL.value, description="Physical name of the control topic.")  # fmt: skip
    control_key: SecretKey = Field(
        SecretStr(""), description=f"Key that signs rules, lists and models on the control topic, at least {MIN_KEY} characters, the same for all services and commands; empty = made at first start and kept in STATE_DIR/control-key."
    )  # fmt: skip

    def topic(self, topic: Topic) -> str:
        """Return the physical name of a topic."""
        return str(getattr(self, "topic_" + topic.value.replace(".", "_")))

    def librdkafka(self) -> dict[str, str]:
        """Return connection settings for librdkafka, and so for confluent-kafka."""
        config = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.startswith("SASL"):
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
            config["sasl.username"] = self.kafka_sasl_username
            config["sasl.password"] = self.kafka_sasl_password.get_secret_value()
        if self.kafka_security_protocol.endswith("SSL") and self.kafka_ssl_ca_location:
            config["ssl.ca.location"] = self.kafka_ssl_ca_location
        return config

    def java_client(self) -> dict[str, str]:
        """Return connection settings for Kafka's Java client inside Flink's connector.

        The connector's jar has its classes under a name of their own.
        """
        config = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.startswith("SASL"):
            module = (
                "plain.PlainLoginModule"
                if self.kafka_sasl_mechanism == "PLAIN"
                else "scram.ScramLoginModule"
            )
            # In a JAAS configuration, a quoted text escapes quotes and backslashes.
            quoted = [
                '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
                for text in (self.kafka_sasl_username, self.kafka_sasl_password.get_secret_value())
            ]
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
            config["sasl.jaas.config"] = (
                "org.apache.flink.kafka.shaded.org.apache.kafka.common.security."
                f"{module} required "
                f"username={quoted[0]} password={quoted[1]};"
            )
        if self.kafka_security_protocol.endswith("SSL") and self.kafka_ssl_ca_location:
            config["ssl.truststore.type"] = "PEM"
            config["ssl.truststore.location"] = self.kafka_ssl_ca_location
        return config


class EventTimeSettings(ServiceSettings):
    """How far an event_time may be from the arrival of its record."""

    event_time_ahead_s: int = Field(
        3600,
        ge=0,
        description="Seconds that an event_time may be ahead of the record's arrival; beyond, the transaction is scored as of its arrival. 0 = any, as a simulated clock needs that runs ahead.",
    )
    event_time_behind_s: int = Field(
        86_400,
        ge=0,
        description="Seconds from which on an event_time is far behind the record's arrival: scored as it says, marked and counted. 0 = never.",
    )

    @property
    def event_time_limits(self) -> EventTimeLimits:
        """Both limits, for `EventTimeLimits.apply`."""
        return EventTimeLimits(self.event_time_ahead_s * 1000, self.event_time_behind_s * 1000)


class LabelSettings(ServiceSettings):
    """Which labels are accepted."""

    label_ahead_s: int = Field(
        300,
        ge=0,
        description="How far a label_time may lie after the label's arrival, seconds; 0 accepts any, as a simulated clock needs that runs ahead.",
    )


class OpenSearchSettings(ServiceSettings):
    """How to reach OpenSearch."""

    opensearch_url: str = Field("http://127.0.0.1:9200", description="Address of OpenSearch.")
    opensearch_username: str = Field("", description="User name at OpenSearch.")
    opensearch_password: SecretStr = Field(SecretStr(""), description="Password at OpenSearch.")
    opensearch_ca_certs: str = Field("", description="PEM file of its certificate authority; empty = the system's.")  # fmt: skip


class SmtpSettings(ServiceSettings):
    """How to reach the mail server."""

    smtp_host: str = Field("127.0.0.1", description="Mail server.")
    smtp_port: int = Field(1025, ge=1, le=65535, description="Port of the mail server.")
    smtp_username: str = Field("", description="User name at the mail server; empty = no sign-in.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password at the mail server.")
    smtp_security: Literal["none", "starttls", "tls"] = Field("none", description="Encryption of the connection.")  # fmt: skip
    smtp_ca_certs: str = Field("", description="PEM file of its certificate authority; empty = the system's.")  # fmt: skip


class LinkSettings(ServiceSettings):
    """Public addresses of the web pages, for links in messages."""

    public_url: str = Field("", description="Address under which people reach the live page (that of the API), for links; empty = no links, the local stack sets its own.")  # fmt: skip
    dashboards_public_url: str = Field("", description="Address under which people reach OpenSearch Dashboards, for links; empty = no links, Compose sets its own.")  # fmt: skip

    @field_validator("public_url", "dashboards_public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("expected an address that starts with http:// or https://")
        return value.rstrip("/")


class ModelSettings(ServiceSettings):
    """Where models are kept."""

    model_registry: Path = Field(Path(".fraudstream/models"), description="Folder of the model registry.")  # fmt: skip


def complain(error: ValidationError) -> str:
    """Return one line for each wrong setting, without its value, which may be secret."""
    return "\n".join(
        f"setting {'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    )
