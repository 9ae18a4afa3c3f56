"""Settings of the API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fraud.kit.settings import KafkaSettings, ModelSettings


class Settings(KafkaSettings, ModelSettings):
    """What the API needs."""

    api_port: int = Field(8000, ge=0, le=65535, description="Port of the REST API.")
    api_history_keys: int = Field(
        100_000, ge=1, description="Most entities whose history the API keeps in memory, up to 2.5 KB each; the least recently seen go first."
    )  # fmt: skip
    api_snapshot_s: float = Field(
        60.0, gt=0, description="Seconds between snapshots of that history: what a restart reads again."
    )  # fmt: skip
    api_keys: Literal["on", "off"] = Field(
        "on", description="off lets anyone who reaches the API do anything; only on networks that you trust."
    )  # fmt: skip
    api_rate_limit: int = Field(
        1000, ge=0, description="Requests a second of one API key, beyond which it is answered 429; 0 = no limit."
    )  # fmt: skip
