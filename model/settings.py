"""Settings of training and of offline scoring."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fraud.runtime.settings import KafkaSettings, ModelSettings


class PromoteSettings(KafkaSettings, ModelSettings):
    """Settings for telling running services which model decides."""


class TrainSettings(ModelSettings):
    """Settings of `python -m model`, from the environment."""

    train_history_days: int = Field(45, ge=10, description="Days of history that are simulated for the first model.")  # fmt: skip
    train_history_customers: int = Field(
        5000, ge=100, description="Customers in that history: enough for about a thousand frauds."
    )
    train_history_seed: int = Field(7, description="Seed of that history.")

    @property
    def history_folder(self) -> Path:
        """Folder with the simulated history, used when training is given no file."""
        return self.state_dir / "history"
