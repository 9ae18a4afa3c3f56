"""Settings of training and of offline scoring."""

from __future__ import annotations

from pathlib import Path

from fraud.kit.settings import ModelSettings


class TrainSettings(ModelSettings):
    """What `python -m model` reads from the environment."""

    @property
    def history_folder(self) -> Path:
        """Where training finds simulated history when it is given no file."""
        return self.state_dir / "history"
