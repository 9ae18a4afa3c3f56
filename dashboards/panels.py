"""Declares the panels of the dashboard. No I/O.

Each declaration produces a saved object for OpenSearch Dashboards (`saved_objects.py`) and a request
to OpenSearch (`requests.py`), which the live page uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fraud.contracts.decision import Outcome
from fraud.contracts.label import LabelValue

AMOUNT: Final = "fd.features.amount_base"
"""Amount in the base currency, US dollars; missing for currencies without a known exchange rate."""

_OUTCOME: Final = "fd.outcome"
_SHADOW_OUTCOME: Final = "fd.shadow.outcome"


class Index(StrEnum):
    """Indexes that a panel can search; the value is the alias in OpenSearch."""

    DECISIONS = "processed_transactions"
    DEAD_LETTERS = "dead_letters"

    @property
    def pattern(self) -> str:
        """Index pattern that matches the indexes behind the alias, but no similarly named ones."""
        return f"{self.value}-*"

    @property
    def time_field(self) -> str:
        """Field that time ranges apply to: the time of arrival or failure, not of the payment.

        So "the last hour" during a replay shows what was replayed in the last hour, and days match
        those of the indexes.
        """
        return "fd.source.timestamp_ms" if self is Index.DECISIONS else "failed_at"


class Chart(StrEnum):
    """How a panel is drawn."""

    METRIC = "metric"
    BARS = "bars"
    LINES = "lines"
    RANKING = "ranking"
    DONUT = "donut"
    TABLE = "table"
    MAP = "map"


class Unit(StrEnum):
    """Unit of a number, which decides its format."""

    COUNT = "count"
    MONEY = "money"
    SHARE = "share"
    MILLISECONDS = "milliseconds"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Match:
    """A condition: the field has one of `values`, or any value if `values` is empty."""

    field: str
    values: tuple[str, ...] = ()


BLOCKED: Final = Match(_OUTCOME, (Outcome.BLOCK,))
NOT_APPROVED: Final = Match(_OUTCOME, (Outcome.REVIEW, Outcome.BLOCK))


@dataclass(frozen=True, slots=True)
class Script:
    """A number that OpenSearch computes from other fields by a script in the index pattern."""

    name: str
    source: str


IS_BLOCKED: Final = Script("is_blocked", "doc['fd.outcome'].value == 'block' ? 1 : 0")
AGREES: Final = Script("challenger_agrees", "doc['shadow_agrees'].value ? 1 : 0")
SCRIPTS: Final = (IS_BLOCKED, AGREES)


@dataclass(frozen=True, slots=True)
class Count:
    """Count of the matching documents."""

    label: str
    unit: Unit = Unit.COUNT


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum of a field's values."""

    label: str
    field: str
    unit: Unit


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of a field or of a script's results."""

    label: str
    field: str | Script
    unit: Unit


@dataclass(frozen=True, slots=True)
class Maximum:
    """Largest value of a field."""

    label: str
    field: str
    unit: Unit


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of a field, with a column for each."""

    label: str
    field: str
    unit: Unit
    percents: tuple[float, ...] = (50, 95, 99)


Metric = Count | Sum | Mean | Maximum | Percentiles


@dataclass(frozen=True, slots=True)
class OverTime:
    """Split by time, in intervals that depend on the time range shown."""

    label: str = "Time"


@dataclass(frozen=True, slots=True)
class Values:
    """Split by the values of a field, the most frequent first.

    Attributes:
        label: Name of the values, for people.
        field: Field whose values are counted.
        size: Maximum number of values shown.
    """

    label: str
    field: str
    size: int


@dataclass(frozen=True, slots=True)
class Steps:
    """Split by a number, in steps of equal width."""

    label: str
    field: str
    width: int


@dataclass(frozen=True, slots=True)
class Places:
    """Split by a geo_point, in geohash cells; each reports the centroid of its points."""

    label: str
    field: str
    precision: int


Bucket = OverTime | Values | Steps | Places


@dataclass(frozen=True, slots=True)
class Placement:
    """Position and size of a panel in the dashboard's grid, which has 48 columns."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of the dashboard.

    Attributes:
        id: Stable id; part of the saved object's id.
        title: Title of the panel.
        text: Description in one sentence.
        chart: Kind of chart.
        metrics: Numbers to compute; the first orders the values of a bucket.
        buckets: Splits, outermost first; at most two. In a chart the first is the axis and the
            second the series.
        place: Position on the dashboard.
        where: Conditions that documents must meet.
        index: Index to search.
    """

    id: str
    title: str
    text: str
    chart: Chart
    metrics: tuple[Metric, ...]
    buckets: tuple[Bucket, ...]
    place: Placement
    where: tuple[Match, ...] = ()
    index: Index = Index.DECISIONS


@dataclass(frozen=True, slots=True)
class Listing:
    """A saved search: documents, newest first.

    Attributes:
        id: Stable id; part of the saved object's id.
        title: Title of the listing.
        text: Description in one sentence.
        columns: Fields shown beside the time.
        place: Position on the dashboard.
        where: Conditions that documents must meet.
        index: Index to search.
    """

    id: str
    title: str
    text: str
    columns: tuple[str, ...]
    place: Placement
    where: tuple[Match, ...] = ()
    index: Index = Index.DECISIONS


_OUTCOMES: Final = Values("Outcome", _OUTCOME, len(Outcome))
_TRANSACTIONS: Final = Count("Transactions")
_BLOCKED: Final = Count("Blocked")
_AMOUNT: Final = Sum("Amount (USD)", AMOUNT, Unit.MONEY)
_HIGHEST_SCORE: Final = Maximum("Highest score", "fd.score", Unit.SCORE)

PANELS: Final[tuple[Panel, ...]] = (
    # --- At a glance ---
    Panel("transactions", "Transactions", "How many transactions were decided.",
          Chart.METRIC, (_TRANSACTIONS,), (), Placement(0, 0, 8, 7)),
    Panel("amount", "Total amount", "Sum of all amounts, in US dollars.",
          Chart.METRIC, (_AMOUNT,), (), Placement(8, 0, 8, 7)),
    Panel("blocked", "Blocked", "How many transactions were blocked.",
          Chart.METRIC, (_BLOCKED,), (), Placement(16, 0, 8, 7), (BLOCKED,)),
    Panel("block_rate", "Block rate", "Share of the transactions that were blocked.",
          Chart.METRIC, (Mean("Block rate", IS_BLOCKED, Unit.SHARE),), (), Placement(24, 0, 8, 7)),
    Panel("blocked_amount", "Blocked amount", "Sum of the amounts that were blocked, in US dollars.",
          Chart.METRIC, (Sum("Blocked amount (USD)", AMOUNT, Unit.MONEY),), (), Placement(32, 0, 8, 7), (BLOCKED,)),
    Panel("dead_letters", "Dead letters", "How many records could not be read.",
          Chart.METRIC, (Count("Dead letters"),), (), Placement(40, 0, 8, 7), index=Index.DEAD_LETTERS),
    # --- Outcomes and money ---
    Panel("outcomes_over_time", "Outcomes over time", "Transactions by what was decided.",
          Chart.BARS, (_TRANSACTIONS,), (OverTime(), _OUTCOMES), Placement(0, 7, 32, 13)),
    Panel("outcomes", "Outcomes", "Shares of what was decided.",
          Chart.DONUT, (_TRANSACTIONS,), (_OUTCOMES,), Placement(32, 7, 16, 13)),
    Panel("amount_over_time", "Amount over time", "Sum of the amounts by what was decided, in US dollars.",
          Chart.BARS, (_AMOUNT,), (OverTime(), _OUTCOMES), Placement(0, 20, 24, 13)),
    Panel("scores", "Scores", "Transactions by score; from 900 people look, from 950 they are blocked, unless rules say otherwise.",
          Chart.BARS, (_TRANSACTIONS,), (Steps("Score", "fd.score", 50), _OUTCOMES), Placement(24, 20, 24, 13)),
    # --- Where ---
    Panel("blocked_map", "Blocked on the map", "Billing places of blocked transactions.",
          Chart.MAP, (_BLOCKED,), (Places("Place", "billing_location", 4),), Placement(0, 33, 24, 16), (BLOCKED,)),
    Panel("blocked_by_state", "Blocked by state", "Billing states with the most blocked transactions.",
          Chart.RANKING, (_BLOCKED,), (Values("State", "billing_state", 10),), Placement(24, 33, 12, 16), (BLOCKED,)),
    Panel("blocked_by_currency", "Blocked by currency", "Currencies with the most blocked transactions.",
          Chart.RANKING, (_BLOCKED,), (Values("Currency", "transaction_currency", 10),), Placement(36, 33, 12, 16), (BLOCKED,)),
    # --- Why ---
    Panel("top_reasons", "Top reasons", "What most often raised the score of transactions that were not approved.",
          Chart.RANKING, (Count("Transactions"),), (Values("Reason", "fd.reasons.code", 12),), Placement(0, 49, 16, 16), (NOT_APPROVED,)),
    Panel("top_rules", "Top rules", "Rules that matched most often.",
          Chart.RANKING, (Count("Transactions"),), (Values("Rule", "fd.rules.id", 12),), Placement(16, 49, 16, 16)),
    Panel("labels", "What it turned out to be", "Labels that came in, by what had been decided.",
          Chart.BARS, (_TRANSACTIONS,), (_OUTCOMES, Values("Label", "label.label", len(LabelValue))), Placement(32, 49, 16, 16), (Match("label.label"),)),
    # --- Who ---
    Panel("top_entities", "Entities by risk", "Entities with the most transactions that were not approved.",
          Chart.TABLE, (Count("Not approved"), _AMOUNT, _HIGHEST_SCORE), (Values("Entity", "entity_id", 10),), Placement(0, 65, 24, 15), (NOT_APPROVED,)),
    Panel("top_ips", "IP addresses by risk", "IP addresses with the most transactions that were not approved.",
          Chart.TABLE, (Count("Not approved"), _AMOUNT, _HIGHEST_SCORE), (Values("IP address", "ip_address", 10),), Placement(24, 65, 24, 15), (NOT_APPROVED,)),
    # --- Models ---
    Panel("models", "Models", "Which model versions decided, and how they scored.",
          Chart.TABLE, (_TRANSACTIONS, Mean("Mean score", "fd.score", Unit.SCORE)), (Values("Model", "fd.model.version", 10),), Placement(0, 80, 16, 10)),
    Panel("challenger_agreement", "Challenger agrees", "Share of the transactions on which the challenger would have decided the same.",
          Chart.METRIC, (Mean("Agreement", AGREES, Unit.SHARE),), (), Placement(16, 80, 8, 10), (Match("shadow_agrees"),)),
    Panel("challenger_outcomes", "Champion and challenger", "What was decided, and what the challenger would have decided.",
          Chart.TABLE, (_TRANSACTIONS,), (Values("Decided", _OUTCOME, len(Outcome)), Values("Challenger", _SHADOW_OUTCOME, len(Outcome))), Placement(24, 80, 24, 10), (Match(_SHADOW_OUTCOME),)),
    # --- How fast ---
    Panel("decision_latency", "Decision latency", "Milliseconds from a transaction's arrival on Kafka to the decision.",
          Chart.LINES, (Percentiles("Latency (ms)", "decision_ms", Unit.MILLISECONDS),), (OverTime(),), Placement(0, 90, 24, 12)),
    Panel("scoring_time", "Scoring time", "Milliseconds in scoring, of each transaction's whole batch.",
          Chart.LINES, (Percentiles("Scoring (ms)", "fd.frauddetector_time", Unit.MILLISECONDS),), (OverTime(),), Placement(24, 90, 24, 12)),
    # --- What could not be read ---
    Panel("dead_letters_over_time", "Dead letters over time", "Records that could not be read, by the error's code.",
          Chart.BARS, (Count("Dead letters"),), (OverTime(), Values("Error", "error_code", 8)), Placement(0, 102, 24, 13), index=Index.DEAD_LETTERS),
)  # fmt: skip

LISTINGS: Final[tuple[Listing, ...]] = (
    Listing("recent_dead_letters", "Dead letters, newest first", "Records that could not be read, with the reason.",
            ("error_code", "error_message", "source.topic", "source.partition", "source.offset"), Placement(24, 102, 24, 13), index=Index.DEAD_LETTERS),
    Listing("recent_alerts", "Not approved, newest first", "Transactions that were blocked or sent to review, with the reasons.",
            ("fd.outcome", "fd.score", "transaction_amt", "transaction_currency", "entity_id", "merchant_id", "fd.rules.id", "fd.reasons.text"), Placement(0, 115, 48, 24), (NOT_APPROVED,)),
)  # fmt: skip


def panel(panel_id: str) -> Panel:
    """Return the panel with an id.

    Raises:
        KeyError: No panel has this id.
    """
    return _BY_ID[panel_id]


_BY_ID: Final = {panel.id: panel for panel in PANELS}
