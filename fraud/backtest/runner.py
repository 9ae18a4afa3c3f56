"""Run backtests on the decisions of the last days, read from Kafka in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import Protocol, TypeVar

from fraud.backtest.past_decisions import KnownLabels
from fraud.contracts.control import ControlDocument, decode_control
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.times import DAY_MS
from fraud.contracts.topics import Topic
from fraud.kafka.control import read_control
from fraud.kafka.range_reader import TopicSpan
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.settings import KafkaSettings


class Backtest(Protocol):
    """A computation over past decisions that keeps its own results."""

    def add(self, values: Sequence[bytes | None]) -> None:
        """Process the values of the next records of `processed_transactions`, in reading order."""
        ...


B = TypeVar("B", bound=Backtest)


@dataclass(frozen=True)
class BacktestRunner:
    """Read the input of backtests from Kafka. All methods raise `CannotRead` and `Stopped`.

    Attributes:
        settings: How to reach Kafka, and the topics' physical names.
        days: Days to read back, by the time of publication; Kafka keeps 30 days by default.
        limit: Maximum number of decisions, the latest ones; None reads all.
        on_progress: Called with the records read and their total, several times a second.
        stop: Ends reading when set.
        clock: Time now, UTC epoch milliseconds.
    """

    settings: KafkaSettings
    days: float = 30
    limit: int | None = None
    on_progress: Callable[[int, int], None] = lambda _done, _total: None
    stop: Event | None = None
    clock: Clock = system_clock

    @cached_property
    def since_ms(self) -> int:
        """Time of publication from which decisions are read, UTC epoch milliseconds."""
        return max(0, self.clock() - round(self.days * DAY_MS))

    def run(self, make: Callable[[], B], *, service: str) -> B:
        """Run a backtest over all decisions, and return it.

        Args:
            make: Creates the backtest, after the end of the decisions is fixed. Labels and control
                documents that it reads are therefore at least as new as the decisions.
            service: Name of the reader, for the broker's logs.
        """
        with TopicSpan(
            self.settings,
            Topic.PROCESSED,
            since_ms=self.since_ms,
            latest=self.limit,
            service=service,
        ) as span:
            backtest = make()
            for values in span.values(self.on_progress, self.stop):
                backtest.add(values)
        return backtest

    def labels(self) -> KnownLabels:
        """Read the labels of the transactions.

        Labels come after their transactions; reading starts a day earlier in case clocks differ.
        """
        labels = KnownLabels()
        since_ms = max(0, self.since_ms - DAY_MS)
        with TopicSpan(
            self.settings, Topic.LABELS, since_ms=since_ms, service="fraudstream_labels"
        ) as span:
            for batch in span.batches(self.stop):
                labels.add([message.value() for message in batch])
        return labels

    def control_documents(self) -> Iterator[ControlDocument]:
        """Read the documents that count; invalid ones are skipped, as followers do."""
        for message in read_control(self.settings, self.stop).records:
            try:
                document = decode_control(message.key, message.value)
            except InvalidMessage:
                continue
            yield document
