"""Transactions counted: how many, their amounts, and how many are fraud as far as labels are known."""

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
        """Share of fraud among those with a known label, None without any."""
        known = self.fraud + self.legitimate
        return self.fraud / known if known else None


_UNITS: Final = np.array([1, 100, 1, 1, 100, 1, 100])
"""What makes one of each field of `Tally`, in their order: transactions, or cents. Cents are whole
numbers, so that the order of addition does not matter."""


def no_sums() -> Floats:
    """Return sums of nothing, shape (7,): the fields of `Tally`, with money in cents."""
    return np.zeros(len(_UNITS))


def sums_by_group(
    group: NDArray[np.int64], groups: int, amount: NDArray[Any], label: NDArray[np.int8]
) -> Floats:
    """Count the transactions of each group.

    Args:
        group: Number of the group of each, from 0, shape (n,).
        groups: How many groups there are.
        amount: In the base currency, NaN without a rate, shape (n,).
        label: What `fraud.backtest.past_decisions.KnownLabels.of` returns, shape (n,).

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
    """Return the tally of sums that are added up."""
    values = (sum(sums, no_sums()) / _UNITS).tolist()
    return Tally.model_validate(dict(zip(Tally.model_fields, values, strict=True)))
