"""Interface of the models that the engine uses."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale


class Scorer(Protocol):
    """A trained model; `model.scorer` implements it with XGBoost."""

    @property
    def ref(self) -> ModelRef:
        """Name and version of the model."""

    @property
    def scale(self) -> ScoreScale:
        """Score scale, fitted in training to the false-positive rate."""

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of fraud, 0-1, of each row, independent of other rows.

        Args:
            matrix: Shape (n, features), C-contiguous, in the order of `FEATURES`.

        Returns:
            Shape (n,).
        """

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each feature's contribution to the log odds of fraud (TreeSHAP), without the base value.

        Returns:
            Shape (n, features).
        """
