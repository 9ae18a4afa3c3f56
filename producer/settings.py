"""Settings of the producer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fraud.runtime.settings import KafkaSettings
from producer.arrivals import Disorder
from producer.simulation import DEFAULT_PREVALENCE, prevalence_of

Share = Annotated[float, Field(ge=0, le=1)]


def _prevalence(value: Any) -> Any:
    return prevalence_of(value) if isinstance(value, str) else value


Prevalence = Annotated[float, BeforeValidator(_prevalence)]
"""Fraudulent share of the transactions, or its name in `PREVALENCES`."""


class ProducerSettings(KafkaSettings):
    """Settings of `python -m producer`, from the environment."""

    producer_rate: float = Field(
        20.0,
        gt=0,
        le=1000,
        description="Transactions a second of the simulated world, on average over a week of its time.",
    )
    producer_seed: int = Field(7, description="Seed of the simulated world.")
    producer_customers: int = Field(0, ge=0, description="Customers of the simulated world; 0 = as many as the rate needs at a natural pace.")  # fmt: skip
    producer_prevalence: Prevalence = Field(
        DEFAULT_PREVALENCE,
        ge=0,
        lt=0.5,
        description="Fraudulent share of the transactions, 0-1; or low (0.001), default (0.005), high (0.02), extreme (0.06).",
    )
    producer_speed: float = Field(
        1.0,
        ge=1,
        le=1000,
        description="How much faster than the real one the simulated clock goes, 1-1000. Faster, the event times run ahead.",
    )
    producer_out_of_order_rate: Share = Field(
        0.0, description="Share of the records that are sent up to a minute after their time, 0-1."
    )
    producer_late_rate: Share = Field(
        0.0,
        description="Share of the records that are sent 5 minutes to 2 hours after their time, 0-1.",
    )
    producer_duplicate_rate: Share = Field(
        0.0, description="Share of the records that are sent twice, 0-1."
    )
    producer_malformed_rate: Share = Field(
        0.0, description="Share of the records that are broken on the way, 0-1: dead letters."
    )
    producer_ops_port: int = Field(
        9101, ge=0, le=65535, description="Port of the producer's health and metrics."
    )

    @property
    def disorder(self) -> Disorder:
        """Shares of records that are delayed, repeated or corrupted."""
        return Disorder(
            self.producer_out_of_order_rate, self.producer_late_rate,
            self.producer_duplicate_rate, self.producer_malformed_rate,
        )  # fmt: skip
