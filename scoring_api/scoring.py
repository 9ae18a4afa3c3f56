"""Scoring of requests, by the same code as the streaming job's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
import structlog

from fraud.contracts.errors import InvalidMessage, NotReady
from fraud.contracts.json_items import has_more_items
from fraud.contracts.transaction import (
    MAX_RECORD_BYTES,
    EventTimeLimits,
    Transaction,
    decode,
    from_mapping,
    parse_many,
)
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Decided, Engine, TransactionBatch
from fraud.features.packing import pack
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.metrics import (
    SCORE_SECONDS,
    SHADOW_FAILED,
    TRANSACTIONS_MARKED,
    TRANSACTIONS_SCORED,
)
from scoring_api.history import RecentHistory

MAX_RECORDS: Final = 1000
"""Most records in a list."""

MAX_BODY_BYTES: Final = 16 * MAX_RECORD_BYTES
"""Longest body of a request in bytes; one record alone may have `MAX_RECORD_BYTES`."""

MAX_SIGN_IN_BYTES: Final = 4096
"""Longest body of a sign-in to the live page, which anyone may send."""

_ANY_EVENT_TIME: Final = EventTimeLimits()
_SLICE: Final = 32
"""Records of a list that are decided at once, so that other requests do not wait long."""

_log = structlog.get_logger("scoring_api")


class TooManyRecords(Exception):
    """A list has more than `MAX_RECORDS` records."""


class TooLarge(Exception):
    """A body or a record has too many bytes.

    Attributes:
        limit: Most bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class InvalidRecords(Exception):
    """Some records of a list are invalid.

    Attributes:
        verdicts: Index and error of each invalid record.
    """

    def __init__(self, verdicts: Sequence[tuple[int, InvalidMessage]]) -> None:
        super().__init__(f"{len(verdicts)} records are invalid")
        self.verdicts = verdicts


Seen = tuple[dict[str, list[bytes]], list[bool]]
"""History by which one transaction is decided, as `RecentHistory.rings_with` returns it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Transactions that wait to be decided.

    Attributes:
        transactions: The transactions of one request.
        seen: History of a single transaction, read on arrival; None to read it when deciding.
        decided: Future of their decisions.
    """

    transactions: Sequence[Transaction]
    seen: Seen | None
    decided: asyncio.Future[list[Decided]]


class Scoring:
    """Scores the transactions of requests; belongs to one event loop.

    Requests that arrive while others are being decided are decided together. A batch of ten costs
    little more than a single transaction, so a backlog shrinks faster the longer it is. No request
    waits for others to arrive.

    Args:
        engine: Returns the engine that decides now; called once per batch.
        history: History of the stream; only its expected transactions are changed here.
        waits_for: Returns in one line what is missing to answer; None if nothing is.
        limits: How far an event_time may be from the time of its request.
        clock: Returns the time now, UTC epoch milliseconds.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        history: RecentHistory,
        waits_for: Callable[[], str | None],
        limits: EventTimeLimits = _ANY_EVENT_TIME,
        clock: Clock = system_clock,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._engine = engine
        self._history = history
        self.waits_for = waits_for
        self._asked: list[_Asked] = []
        # The series must exist before the first failure, or its increase is not seen.
        self._shadow_failed = SHADOW_FAILED.labels("scoring_api")

    async def answer(self, body: bytes) -> bytes:
        """Score one record, or a list of them; nothing is stored.

        Args:
            body: A JSON object, or an array of at most `MAX_RECORDS`.

        Returns:
            `{"event_id", "fd"}`, or an array of these in the same order, as JSON.

        Raises:
            NotReady: History or policy do not equal the stream's yet.
            TooLarge: The record is longer than `MAX_RECORD_BYTES`.
            InvalidMessage: The record, or the body as a whole, is invalid.
            TooManyRecords: The list is too long.
            InvalidRecords: Some records of the list are invalid; none was scored.
        """
        if waiting := self.waits_for():
            raise NotReady(waiting)
        if body.lstrip()[:1] == b"[":
            return await self._answer_many(body)
        if len(body) > MAX_RECORD_BYTES:
            raise TooLarge(MAX_RECORD_BYTES)
        transaction = self._timed(decode(body))
        (decided,) = await self._decide([transaction])
        return _answer(transaction, decided)

    async def decide(self, transaction: Transaction, *, expect: bool = False) -> Decided:
        """Decide one transaction as `answer` does.

        Args:
            transaction: The transaction to decide.
            expect: Whether it is going to be sent to the stream. Requests that arrive from now on,
                even before it is decided, are then decided as if the stream had processed it.

        Raises:
            NotReady: History or policy do not equal the stream's yet.
        """
        if waiting := self.waits_for():
            raise NotReady(waiting)
        transaction = self._timed(transaction)
        seen = None
        if expect:
            packed = pack([transaction])
            # Read before it is expected, or the transaction would be a repeat of itself.
            seen = self._history.rings_with(packed)
            self._history.expected.add(packed)
        (decided,) = await self._decide([transaction], seen)
        return decided

    def expect(self, transaction: Transaction) -> None:
        """Decide from now on as if the stream had processed a transaction that is sent to it."""
        self._history.expected.add(pack([self._timed(transaction)]))

    def _timed(self, transaction: Transaction) -> Transaction:
        return self._limits.apply(transaction, self._clock())

    def give_up(self, transaction: Transaction) -> None:
        """Stop expecting a transaction that could not be sent."""
        self._history.expected.give_up(pack([transaction]))

    async def _answer_many(self, body: bytes) -> bytes:
        if has_more_items(body, MAX_RECORDS):
            raise TooManyRecords
        records = parse_many(body)
        transactions: list[Transaction] = []
        invalid: list[tuple[int, InvalidMessage]] = []
        for index, record in enumerate(records):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)  # other requests get their turn
            try:
                transactions.append(self._timed(_checked(record)))
            except InvalidMessage as verdict:
                invalid.append((index, verdict))
        if invalid:
            raise InvalidRecords(invalid)
        answers: list[bytes] = []
        for first in range(0, len(transactions), _SLICE):
            part = transactions[first : first + _SLICE]
            answers += map(_answer, part, await self._decide(part))
        return b"[" + b",".join(answers) + b"]"

    def _decide(
        self, transactions: Sequence[Transaction], seen: Seen | None = None
    ) -> asyncio.Future[list[Decided]]:
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[list[Decided]] = loop.create_future()
        if not self._asked:
            # Runs after this round of the event loop, so that its other requests join the batch.
            loop.call_soon(self._decide_asked)
        self._asked.append(_Asked(transactions, seen, decided))
        return decided

    def _decide_asked(self) -> None:
        asked, self._asked = self._asked, []
        try:
            with SCORE_SECONDS.time():
                every = self._decided(asked)
        except Exception as bug:
            for request in asked:
                if not request.decided.done():
                    request.decided.set_exception(bug)
            return
        decisions = iter(every)
        for request in asked:
            part = list(islice(decisions, len(request.transactions)))
            # It is cancelled if the client hung up.
            if not request.decided.done():
                request.decided.set_result(part)

    def _decided(self, asked: Sequence[_Asked]) -> list[Decided]:
        transactions = [transaction for request in asked for transaction in request.transactions]
        packed = pack(transactions)
        rings, known = self._history.rings_with(packed)
        row = 0
        for request in asked:
            # A history that was read on arrival replaces the current one.
            if request.seen is not None:
                rings_seen, (known[row],) = request.seen
                for name, (ring,) in rings_seen.items():
                    rings[name][row] = ring
            row += len(request.transactions)
        every = self._engine().decide(
            TransactionBatch(
                packed, FieldsOfTransactions(transactions), rings, known, [None] * len(packed)
            )
        )
        for decided in every:
            TRANSACTIONS_SCORED.labels(decided.outcome.value).inc()
            if decided.error:
                _log.error("scoring_api.scoring_failed", error=decided.error)
            if decided.shadow_error:
                self._shadow_failed.inc()
            for mark in decided.marks:
                TRANSACTIONS_MARKED.labels(mark.value).inc()
        return every


def _checked(record: dict[str, Any] | InvalidMessage) -> Transaction:
    if isinstance(record, InvalidMessage):
        raise record
    return from_mapping(record)


def _answer(transaction: Transaction, decided: Decided) -> bytes:
    return b'{"event_id":%b,"fd":%b}' % (orjson.dumps(transaction.event_id), decided.json)
