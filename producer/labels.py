"""Labels: what transactions are reported to have been, by whom, and how much later.

Labels are not the truth: some fraud is never reported, and a few honest payments are disputed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import DAY_MS
from producer.events import Campaign, Events
from producer.randomness import Draws, Ints, Purpose, normal

MAX_DELAY_DAYS: Final = 120.0
"""Longest delay of a label: card schemes end the right to dispute after about four months."""
SETTLED_DAYS: Final = 3.0
"""Median days until an undisputed payment counts as legitimate."""
FALSE_DISPUTE_SHARE: Final = 0.0002
"""Share of the legitimate payments that are labelled fraud."""
_DELAY_SIGMA: Final = 0.8

_DELAY_DAYS: Final[Mapping[Campaign, float]] = MappingProxyType(
    {
        Campaign.LEGITIMATE: SETTLED_DAYS,
        Campaign.CARD_TESTING: 4.0,
        Campaign.CARD_NOT_PRESENT: 8.0,
        Campaign.ACCOUNT_TAKEOVER: 3.0,
        Campaign.STOLEN_CARD: 1.0,
        Campaign.MERCHANT_COMPROMISE: 10.0,
        Campaign.FRIENDLY_FRAUD: 20.0,
        Campaign.BUST_OUT: 15.0,
        Campaign.MULE_RING: 12.0,
    }
)
"""Median days from the payment to its label."""
_UNREPORTED: Final[Mapping[Campaign, float]] = MappingProxyType(
    {Campaign.CARD_TESTING: 0.15, Campaign.MULE_RING: 0.15, Campaign.CARD_NOT_PRESENT: 0.05}
)
"""Share of the fraud that nobody notices; it is labelled legitimate."""

_MEDIAN: Final = np.array([_DELAY_DAYS[campaign] for campaign in Campaign])
_MISSED: Final = np.array([_UNREPORTED.get(campaign, 0.0) for campaign in Campaign])

SOURCES: Final = ("settlement", "chargeback", "customer", "analyst")


@dataclass(frozen=True)
class SimulatedLabels:
    """Labels of transactions, in the order of these.

    Attributes:
        fraud: Whether the label is fraud.
        time_ms: Time at which the label becomes known, UTC epoch milliseconds.
        source: Source of the label, an index into `SOURCES`.
    """

    fraud: NDArray[np.bool_]
    time_ms: Ints
    source: Ints

    @classmethod
    def joined(cls, parts: Sequence[SimulatedLabels]) -> SimulatedLabels:
        """Concatenate labels in the given order."""
        return cls(
            np.concatenate([part.fraud for part in parts]),
            np.concatenate([part.time_ms for part in parts]),
            np.concatenate([part.source for part in parts]),
        )

    def part(self, rows: Any) -> SimulatedLabels:
        """Return a selection of the rows."""
        return SimulatedLabels(self.fraud[rows], self.time_ms[rows], self.source[rows])


def label(draws: Draws, events: Events) -> SimulatedLabels:
    """Draw the label of each transaction, and when it becomes known."""
    ids = events["id"].astype(np.int64)
    u = draws.uniforms(Purpose.LABEL, ids[:, 0], ids[:, 1], ids[:, 2], ids[:, 3])
    campaign = events["campaign"].astype(np.int64)
    true_fraud = campaign != Campaign.LEGITIMATE
    fraud = np.where(true_fraud, u[0] >= _MISSED[campaign], u[0] < FALSE_DISPUTE_SHARE)
    # False disputes come as late as those of friendly fraud.
    median = np.where(
        fraud,
        np.where(true_fraud, _MEDIAN[campaign], _MEDIAN[Campaign.FRIENDLY_FRAUD]),
        SETTLED_DAYS,
    )
    days = np.minimum(median * np.exp(_DELAY_SIGMA * normal(u[1], u[2])), MAX_DELAY_DAYS)
    said_by = np.where(u[3] < 0.7, 1, np.where(u[3] < 0.9, 2, 3))
    return SimulatedLabels(
        fraud,
        events["time_ms"] + (days * DAY_MS).astype(np.int64),
        np.where(fraud, said_by, 0),
    )
