"""Settings of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from fraud.runtime.settings import (
    EventTimeSettings,
    KafkaSettings,
    LabelSettings,
    ModelSettings,
    OpenSearchSettings,
)
from fraud.security.pseudonyms import PersonalDataSettings


class Settings(
    EventTimeSettings,
    KafkaSettings,
    LabelSettings,
    ModelSettings,
    OpenSearchSettings,
    PersonalDataSettings,
):
    """Settings of the REST API and the AFD protocol."""

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
    afd_publish_events: bool = Field(
        True, description="Whether GetEventPrediction and SendEvent of Amazon Fraud Detector's protocol send the event to the topic transactions too."
    )  # fmt: skip
    afd_mapping: Path | None = Field(
        None, description="Mapping file (TOML) of that protocol's variables and labels, as fraudstream replay takes it; empty = names equal to ours, and declared variables' types."
    )  # fmt: skip
    afd_model_id: str = Field(
        "", pattern=r"^[0-9a-z_]{0,64}$", description="Name under which that protocol's clients know the model: scores are called <name>_insightscore; empty = the model's own."
    )  # fmt: skip
    afd_outcomes: str = Field(
        "", description="What outcomes of that protocol's rules mean where their names do not say it: name=approve, name=review or name=block, separated by commas."
    )  # fmt: skip
