"""The scorer on XGBoost: one booster, loaded once, for the stream, for REST and offline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale
from model.lean_xgboost import xgboost


class XGBoostScorer:
    """Gives probabilities and their reasons; see `fraud.decision.scorer.Scorer`.

    A row's result hangs on that row alone, to the last bit: XGBoost adds a row's leaves in the
    order of the trees, whatever else is in the batch (`tests/unit/model/test_scorer.py`).

    Args:
        booster: The trained trees, in XGBoost's own format, as `Booster.save_raw("ubj")` gives it.
        ref: Name and version, named in every decision.
        scale: The score scale that the training tied to the false-positive rate.
    """

    def __init__(self, booster: bytes, ref: ModelRef, scale: ScoreScale) -> None:
        # One thread: a batch is small, and the workers and requests around it are the parallelism.
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(bytearray(booster))
        self._booster.set_param({"nthread": 1})
        self._ref = ref
        self._scale = scale

    @property
    def ref(self) -> ModelRef:
        """Return the name and version of the model."""
        return self._ref

    @property
    def scale(self) -> ScoreScale:
        """The scale that its training tied to the false-positive rate."""
        return self._scale

    @property
    def width(self) -> int:
        """Features that a row must have."""
        return int(self._booster.num_features())

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of fraud, 0-1, of each row; a row's result hangs on it alone.

        Args:
            matrix: Shape (n, features), C-contiguous, in the order of `FEATURES`.

        Returns:
            Shape (n,): XGBoost's float32 in float64, so that the same bits travel as JSON.

        Raises:
            ValueError: The matrix has another shape, type or layout.
        """
        self._check(matrix)
        if not len(matrix):
            return np.empty(0)
        # The shape is checked above; XGBoost's own check would compare names that NumPy has not.
        probabilities = self._booster.inplace_predict(matrix, validate_features=False)
        return np.asarray(probabilities, np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each feature's part in the log odds of fraud (TreeSHAP), without the base value.

        Returns:
            Shape (n, features).

        Raises:
            ValueError: The matrix has another shape, type or layout.
        """
        self._check(matrix)
        if not len(matrix):
            return np.empty(matrix.shape)
        rows = xgboost.DMatrix(matrix, nthread=1)
        parts = self._booster.predict(rows, pred_contribs=True, validate_features=False)
        return np.asarray(parts[:, :-1], np.float64)

    def _check(self, matrix: NDArray[np.float32]) -> None:
        if (
            matrix.ndim != 2
            or matrix.shape[1] != self.width
            or matrix.dtype != np.float32
            or not matrix.flags.c_contiguous
        ):
            raise ValueError(
                f"expected C-contiguous float32 of shape (n, {self.width}), "
                f"got {matrix.dtype} of shape {matrix.shape}"
            )
