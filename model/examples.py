"""Examples: the transactions of a history as the model would have seen each of them at its time.

The features come from the one definition (`fraud.features`), computed in the order of event times
as the stream would have computed them on arrival.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import Transaction, event_time_to_ms
from fraud.features.catalogue import FEATURES, KEYS
from fraud.features.currency import UNKNOWN_AMOUNT
from fraud.features.history import Records
from fraud.features.packing import Packed, pack
from fraud.features.replay import replay
from model.datasets import SIMULATOR, ColumnMapping, Dataset
from model.evaluation import UNKNOWN
from model.reading import Rows, read_rows

CAMPAIGN: Final = "campaign"
"""Column of simulated histories with the kind of fraud; used in reports, never for training."""

TRUTH: Final = "is_fraud"
"""Second column that a simulated history must have: other files may have a column `campaign` too."""

_MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class MappedDataset:
    """File with the mapping of its columns.

    Attributes:
        dataset: File to read.
        mapping: Mapping of its columns.
        simulated: Whether it is known to be simulated, even if it does not say so.
    """

    dataset: Dataset
    mapping: ColumnMapping
    simulated: bool = False

    @property
    def has_truth(self) -> bool:
        """Whether the file is simulated and names the campaign of each transaction."""
        return (
            self.mapping.is_ours
            and {CAMPAIGN, TRUTH} <= set(self.dataset.columns())
            and (self.simulated or self.dataset.made_by() == SIMULATOR)
        )

    def batches(self) -> Iterator[tuple[Rows, list[str], Counter[str]]]:
        """Yield mapped rows in the file's order, with their campaigns, and broken rows by reason.

        Raises:
            DatasetError: The file lacks a mapped column or cannot be read.
        """
        self.dataset.check(self.mapping)
        truth = [CAMPAIGN] if self.has_truth else []
        for columns, count, broken in self.dataset.batches([*self.mapping.fields.values(), *truth]):
            campaigns = [
                value if isinstance(value, str) else "" for value in columns.get(CAMPAIGN, ())
            ]
            yield (
                read_rows(self.mapping, columns, count),
                campaigns if truth else [""] * count,
                broken,
            )
        self.dataset.check_seen(self.mapping)


@dataclass(frozen=True, slots=True)
class History:
    """Packed transactions in event-time order; equal times stay in the order in which they were read.

    Attributes:
        packed: Transactions, length n.
        event_ids: Ids of the transactions.
        label: 1 fraud, 0 legitimate, `UNKNOWN`; int8.
        label_time_ms: Time at which the label became known, UTC epoch milliseconds; 0 without one.
        campaign: Kind of fraud if simulated, else empty.
        repeated: Whether the same event of the same entity came before.
        has_truth: Whether all of it is simulated, so that `campaign` is the truth.
        refused: Number of rows that the contract refuses, by error code.
        refused_why: Number of refused rows by field and expected value.
        other_labels: Number of labels that mean neither fraud nor legitimate, by their text.
        bad_label_times: Labels ignored because label_time could not be parsed, per file.
        without_rate: Number of amounts without an exchange rate, by currency.
        data_hash: Hash of the data in the order in which they were read.
    """

    packed: Packed
    event_ids: list[str]
    label: NDArray[np.int8]
    label_time_ms: NDArray[np.int64]
    campaign: list[str]
    repeated: NDArray[np.bool_]
    has_truth: bool
    refused: dict[ErrorCode, int]
    refused_why: dict[str, int]
    other_labels: dict[str, int]
    bad_label_times: dict[str, int]
    without_rate: dict[str, int]
    data_hash: str

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def event_time_ms(self) -> NDArray[np.int64]:
        """Event times, UTC epoch milliseconds, ascending."""
        times: NDArray[np.int64] = self.packed.records[KEYS[0].name]["event_time_ms"]
        return times

    def told(self) -> dict[str, Any]:
        """Return what readers of any figure must know about the data, as JSON values."""
        return {
            "rows": len(self),
            "refused": {str(reason): count for reason, count in sorted(self.refused.items())},
            "refused_why": self.refused_why,
            "unlabelled": int((self.label == UNKNOWN).sum()),
            "other_labels": dict(Counter(self.other_labels).most_common(_MOST_TOLD)),
            "bad_label_times": self.bad_label_times,
            "amounts_without_rate": sum(self.without_rate.values()),
            "currencies_without_rate": dict(Counter(self.without_rate).most_common(_MOST_TOLD)),
        }


@dataclass(slots=True)
class _Reading:
    """Rows of all files read so far."""

    packed: list[Packed] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    label_time_ms: list[int] = field(default_factory=list)
    campaign: list[str] = field(default_factory=list)
    refused: Counter[ErrorCode] = field(default_factory=Counter)
    refused_why: Counter[str] = field(default_factory=Counter)
    other_labels: Counter[str] = field(default_factory=Counter)
    bad_label_times: Counter[str] = field(default_factory=Counter)
    without_rate: Counter[str] = field(default_factory=Counter)

    def add(self, rows: Rows, campaigns: list[str], broken: Counter[str], file: str) -> None:
        if broken:
            # The stream would receive such rows unchanged, and refuse them for this reason.
            self.refused[ErrorCode.NOT_JSON] += broken.total()
            self.refused_why.update(broken)
        self.other_labels.update(rows.other_labels)
        transactions = []
        for transaction, fraud, label_time, campaign in zip(
            rows.transactions, rows.label, rows.label_time, campaigns, strict=True
        ):
            if isinstance(transaction, InvalidMessage):
                self.refused[transaction.reason] += 1
                self.refused_why[transaction.detail] += 1
                continue
            transactions.append(transaction)
            self.event_ids.append(transaction.event_id)
            known_ms = _known_at_ms(fraud, label_time, transaction)
            if known_ms is None:
                # The label may have become known late, so training must not use it.
                self.bad_label_times[file] += 1
                fraud, known_ms = None, 0
            self.label.append(UNKNOWN if fraud is None else int(fraud))
            self.label_time_ms.append(known_ms)
            self.campaign.append(intern(campaign))
        packed = pack(transactions)
        amounts = packed.records[KEYS[0].name]["amount_micro"]
        for row in np.flatnonzero(amounts == UNKNOWN_AMOUNT).tolist():
            self.without_rate[transactions[row].transaction_currency] += 1
        for values in packed.keys.values():
            values[:] = [None if value is None else intern(value) for value in values]
        self.packed.append(packed)


def _known_at_ms(
    fraud: bool | None, label_time: str | None, transaction: Transaction
) -> int | None:
    """Return when a label became known, None if its time cannot be parsed; 0 without a label."""
    if fraud is None:
        return 0
    if not label_time:
        return transaction.event_time_ms
    try:
        return event_time_to_ms(label_time)
    except (ValueError, OverflowError):
        return None


def read_history(
    sources: Sequence[MappedDataset], on_rows: Callable[[int], None] = lambda _: None
) -> History:
    """Read files of labelled transactions into packed history.

    Rows that the stream would dead-letter are counted as refused and skipped. A label without a time
    counts as known at once; a label whose time cannot be parsed counts as unknown.

    Args:
        sources: Files, in any order of time.
        on_rows: Called with the number of rows of each batch, for a progress bar.

    Raises:
        DatasetError: A file cannot be read or lacks a mapped column.
    """
    reading = _Reading()
    for source in sources:
        for rows, campaigns, broken in source.batches():
            reading.add(rows, campaigns, broken, source.dataset.path.name)
            on_rows(len(campaigns) + broken.total())
    digest = hashlib.sha256()
    for packed in reading.packed:
        for records in (*packed.records.values(), packed.own):
            digest.update(records.tobytes())
    digest.update(np.array(reading.label, np.int8).tobytes())
    digest.update(np.array(reading.label_time_ms, np.int64).tobytes())
    truth = bool(sources) and all(source.has_truth for source in sources)
    return _in_event_order(reading, truth, digest.hexdigest()[:16])


def _joined(parts: list[Records], dtype: np.dtype[np.void]) -> Records:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _in_event_order(reading: _Reading, has_truth: bool, data_hash: str) -> History:
    empty = pack([])
    own = _joined([packed.own for packed in reading.packed], empty.own.dtype)
    records = {
        key.name: _joined([packed.records[key.name] for packed in reading.packed], key.dtype)
        for key in KEYS
    }
    first = records[KEYS[0].name]
    order = np.argsort(first["event_time_ms"], kind="stable")
    keys = {
        key.name: [value for packed in reading.packed for value in packed.keys[key.name]]
        for key in KEYS
    }
    positions = order.tolist()
    events = first["event"][order]
    repeated = np.ones(len(events), np.bool_)
    # The first occurrence of an event counts; later ones are repeats.
    repeated[np.unique(events, return_index=True)[1]] = False
    return History(
        packed=Packed(
            {name: [values[position] for position in positions] for name, values in keys.items()},
            {name: rows[order] for name, rows in records.items()},
            own[order],
        ),
        event_ids=[reading.event_ids[position] for position in positions],
        label=np.array(reading.label, np.int8)[order],
        label_time_ms=np.array(reading.label_time_ms, np.int64)[order],
        campaign=[reading.campaign[position] for position in positions],
        repeated=repeated,
        has_truth=has_truth,
        refused=dict(reading.refused),
        refused_why=dict(reading.refused_why.most_common()),
        other_labels=dict(reading.other_labels.most_common()),
        bad_label_times=dict(reading.bad_label_times),
        without_rate=dict(reading.without_rate.most_common()),
        data_hash=data_hash,
    )


def feature_rows(
    history: History, on_rows: Callable[[int], None] = lambda _: None
) -> NDArray[np.float32]:
    """Compute the feature vectors of a history.

    Args:
        history: Transactions.
        on_rows: Called with the number of rows of each batch, for a progress bar.

    Returns:
        Shape (n, features), C-contiguous.
    """
    matrix = np.empty((len(history), len(FEATURES)), np.float32)
    filled = 0
    for batch in replay(history.packed):
        matrix[filled : filled + len(batch)] = batch
        filled += len(batch)
        on_rows(len(batch))
    return matrix
