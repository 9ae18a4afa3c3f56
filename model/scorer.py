"""The XGBoost scorer: one booster, loaded once, for the stream, the REST API and offline scoring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.decision.scale import ScoreScale
from model.lean_xgboost import xgboost


class XGBoostScorer:
    """Computes probabilities and their reasons; see `fraud.decision.scorer.Scorer`.

    A row's result depends on that row alone, to the last bit: XGBoost adds a row's leaves in the
    order of the trees, whatever else is in the batch (`tests/unit/model/test_scorer.py`).

    Args:
        booster: Trained trees in XGBoost's own format, from `Booster.save_raw("ubj")`.
        ref: Name and version, which every decision names.
        scale: Score scale, tied to the false-positive rate in training.
    """

    def __init__(self, booster: bytes, ref: ModelRef, scale: ScoreScale) -> None:
        # One thread: batches are small, and workers and requests already run in parallel.
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(bytearray(booster))
        self._booster.set_param({"nthread": 1})
        self._ref = ref
        self._scale = scale

    @property
    def ref(self) -> ModelRef:
        """Name and version of the model."""
        return self._ref

    @property
    def scale(self) -> ScoreScale:
        """Score scale, tied to the false-positive rate in training."""
        return self._scale

    @property
    def width(self) -> int:
        """Number of features that a row must have."""
        return int(self._booster.num_features())

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of fraud, 0-1, of each row; a row's result depends on that row alone.

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
        # The shape is checked above; XGBoost's own check compares column names, which NumPy lacks.
        probabilities = self._booster.inplace_predict(matrix, validate_features=False)
        return np.asarray(probabilities, np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each feature's contribution to the log odds of fraud (TreeSHAP), without the base value.

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
