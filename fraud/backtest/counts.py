"""Transactions counted: how many, how much, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud.backtest.past_decisions import FRAUD, LEGITIMATE


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
        """Share of fraud among those whose label is known, None when none is."""
        known = self.fraud + self.legitimate
        return self.fraud / known if known else None


@dataclass(slots=True)
class Sums:
    """A tally while it is made. Money is in cents: whole numbers, so that no order of addition matters."""

    transactions: int = 0
    cents: float = 0.0
    without_rate: int = 0
    fraud: int = 0
    fraud_cents: float = 0.0
    legitimate: int = 0
    legitimate_cents: float = 0.0

    def add(self, other: Sums) -> None:
        """Add those of other transactions."""
        self.transactions += other.transactions
        self.cents += other.cents
        self.without_rate += other.without_rate
        self.fraud += other.fraud
        self.fraud_cents += other.fraud_cents
        self.legitimate += other.legitimate
        self.legitimate_cents += other.legitimate_cents

    def tally(self) -> Tally:
        """Return the tally."""
        return Tally(
            transactions=self.transactions,
            amount=self.cents / 100,
            without_rate=self.without_rate,
            fraud=self.fraud,
            fraud_amount=self.fraud_cents / 100,
            legitimate=self.legitimate,
            legitimate_amount=self.legitimate_cents / 100,
        )


def sums_by_group(
    group: NDArray[np.int64], groups: int, amount: NDArray[Any], label: NDArray[np.int8]
) -> list[Sums]:
    """Count the transactions of each group.

    Args:
        group: Number of the group of each, 0 up, shape (n,).
        groups: How many groups there are.
        amount: In the base currency, NaN without a rate, shape (n,).
        label: As `fraud.backtest.past_decisions.Labels.of` gives it, shape (n,).
    """
    cents = np.rint(np.nan_to_num(amount.astype(np.float64)) * 100)
    fraud, legitimate = label == FRAUD, label == LEGITIMATE

    def sums(weight: NDArray[Any]) -> list[float]:
        counted: list[float] = np.bincount(group, weight, groups).tolist()
        return counted

    columns = (
        sums(np.ones(len(group))), sums(cents), sums(np.isnan(amount)),
        sums(fraud), sums(fraud * cents), sums(legitimate), sums(legitimate * cents),
    )  # fmt: skip
    return [
        Sums(int(count), money, int(rates), int(frauds), fraud_money, int(legit), legit_money)
        for count, money, rates, frauds, fraud_money, legit, legit_money in zip(
            *columns, strict=True
        )
    ]


def total(sums: Iterable[Sums]) -> Tally:
    """Return the tally of all."""
    added = Sums()
    for one in sums:
        added.add(one)
    return added.tally()
