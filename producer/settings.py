"""Settings of the producer."""

from __future__ import annotations

from pydantic import Field

from fraud.kit.settings import KafkaSettings
from producer.simulation import DEFAULT_FRAUD_RATE


class ProducerSettings(KafkaSettings):
    """What `python -m producer` reads from the environment."""

    producer_rate: float = Field(
        20.0, gt=0, le=1000, description="Transactions a second of the simulated world."
    )
    producer_seed: int = Field(7, description="Seed of the simulated world.")
    producer_customers: int = Field(0, ge=0, description="Customers of the simulated world; 0 = as many as the rate needs at a natural pace.")  # fmt: skip
    producer_fraud_rate: float = Field(
        DEFAULT_FRAUD_RATE, ge=0, lt=0.5, description="Fraudulent share of the transactions, 0-1."
    )
    producer_ops_port: int = Field(
        9101, ge=0, le=65535, description="Port of the producer's health and metrics."
    )
