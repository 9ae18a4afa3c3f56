"""Count transactions, their amounts, and how many of them labels call fraud or legitimate."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.past_decisions import FRAUD, LEGITIMATE
from fraud.backtest.resampling import Floats


class Tally(BaseModel):
    """Some transactions, counted. Amounts are in the base currency."""

    model_config = ConfigDict(frozen=True)

    transactions: int = 0
    amount: Annotated[
        float, Field(description="Sum of their amounts, those without a rate not counted.")
    ] = 0.0
    without_rate: Annotated[
        int, Field(description="How many have no amount in the base currency.")
    ] = 0
    fraud: Annotated[int, Field(description="How many are known to be fraud.")] = 0
    fraud_amount: float = 0.0
    legitimate: Annotated[int, Field(description="How many are known to be legitimate.")] = 0
    legitimate_amount: float = 0.0

    @property
    def precision(self) -> float | None:
        """Share of fraud among the transactions with a known label, None without any."""
        known = self.fraud + self.legitimate
        return self.fraud / known if known else None


_UNITS: Final = np.array([1, 100, 1, 1, 100, 1, 100])
"""Divisors of the sums for each field of `Tally`, in order: amounts are summed in cents. Cents are
whole numbers, so that the order of addition does not matter."""


def no_sums() -> Floats:
    """Return sums of zero, shape (7,): one for each field of `Tally`, with amounts in cents."""
    return np.zeros(len(_UNITS))


def sums_by_group(
    group: NDArray[np.int64], groups: int, amount: NDArray[Any], label: NDArray[np.int8]
) -> Floats:
    """Count the transactions of each group.

    Args:
        group: Group of each transaction, numbered from 0, shape (n,).
        groups: Number of groups.
        amount: Amounts in the base currency, NaN without a rate, shape (n,).
        label: Labels as `fraud.backtest.past_decisions.KnownLabels.of` returns them, shape (n,).

    Returns:
        Sums of each group, shape (groups, 7).
    """
    cents = np.rint(np.nan_to_num(amount.astype(np.float64)) * 100)
    fraud, legitimate = label == FRAUD, label == LEGITIMATE
    weights = (
        np.ones(len(group)), cents, np.isnan(amount),
        fraud, fraud * cents, legitimate, legitimate * cents,
    )  # fmt: skip
    return np.stack([np.bincount(group, weight, groups) for weight in weights], axis=1)


def tally(*sums: Floats) -> Tally:
    """Add up sums, and return them as a tally."""
    values = (sum(sums, no_sums()) / _UNITS).tolist()
    return Tally.model_validate(dict(zip(Tally.model_fields, values, strict=True)))
