"""Platt calibration: turns what the trees predict into probabilities of fraud.

The calibrated log odds are `slope * log odds + intercept`. As the slope is positive, the order of
transactions, and everything that depends on it, stays the same. Both numbers are worked into the
trees themselves, so that every program that loads the model has calibrated probabilities, and the
parts of a score (TreeSHAP) add up to them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import xgboost
from numpy.typing import NDArray
from scipy.optimize import minimize

_SLOPES: Final = (0.05, 20.0)
"""Bounds of the slope."""


class Platt(NamedTuple):
    """Linear calibration of log odds.

    Attributes:
        slope: Positive factor.
        intercept: Added after the multiplication.
    """

    slope: float
    intercept: float


def fit(
    log_odds: NDArray[np.floating[Any]],
    label: NDArray[np.int8],
    weight: NDArray[np.float64] | None = None,
) -> Platt:
    """Fit the line to labels that training did not use.

    Targets are Platt's: slightly inside 0 and 1, depending on the number of examples, so that few of
    them cannot make anything certain.

    Args:
        log_odds: Uncalibrated log odds from the trees, shape (n,).
        label: 1 fraud, 0 legitimate, shape (n,); both occur.
        weight: Number of transactions that each example stands for, shape (n,); None means one.
    """
    margin = log_odds.astype(np.float64)
    frauds = int((label == 1).sum())
    target = np.where(label == 1, (frauds + 1) / (frauds + 2), 1 / (len(label) - frauds + 2))
    counts = np.ones(len(margin)) if weight is None else weight
    share = counts / counts.sum()

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        said = line[0] * margin + line[1]
        error = 1 / (1 + np.exp(-said)) - target
        total = (share * (np.logaddexp(0, said) - target * said)).sum()
        return total, np.array([(share * error * margin).sum(), (share * error).sum()])

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[_SLOPES, (-20, 20)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
    )
    # Further digits have no support in the data, and would depend on the order of a sum.
    slope, intercept = (float(f"{value:.5g}") for value in found.x)
    return Platt(slope, intercept)


def fold_in(booster: xgboost.Booster, line: Platt) -> bytes:
    """Work the line into the trees: leaves by the slope, the base score by slope and intercept.

    Returns:
        The model in XGBoost's own format (ubj).
    """
    model = orjson.loads(bytes(booster.save_raw("json")))
    learner = model["learner"]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        children = tree["left_children"]
        # XGBoost stores a leaf's value in the place of a node's threshold.
        tree["split_conditions"] = [
            value * line.slope if left == -1 else value
            for value, left in zip(tree["split_conditions"], children, strict=True)
        ]
        tree["base_weights"] = [value * line.slope for value in tree["base_weights"]]
    parameters = learner["learner_model_param"]
    base = float(parameters["base_score"].strip("[]"))
    said = line.slope * np.log(base / (1 - base)) + line.intercept
    parameters["base_score"] = f"[{1 / (1 + np.exp(-said)):.9E}]"
    calibrated = xgboost.Booster()
    calibrated.load_model(bytearray(orjson.dumps(model)))
    return bytes(calibrated.save_raw("ubj"))
