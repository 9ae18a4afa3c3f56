"""From the body of a request to its answer, with the stream's own code."""

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
    Transaction,
    decode,
    from_mapping,
    parse_many,
)
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Decided, Engine, TransactionBatch
from fraud.features.packing import pack
from fraud.runtime.metrics import SCORE_SECONDS, SHADOW_FAILED, TRANSACTIONS_SCORED
from scoring_api.history import RecentHistory

MAX_RECORDS: Final = 1000
"""Most records in a list."""

MAX_BODY_BYTES: Final = 16 * MAX_RECORD_BYTES
"""Longest body of a request in bytes; one record alone may have `MAX_RECORD_BYTES`."""

MAX_SIGN_IN_BYTES: Final = 4096
"""Longest body of a sign-in to the live page, which anyone may send."""

_SLICE: Final = 32
"""Records of a list that are worked on at once: those who ask for one do not wait long behind."""

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
        verdicts: Index and verdict of each.
    """

    def __init__(self, verdicts: Sequence[tuple[int, InvalidMessage]]) -> None:
        super().__init__(f"{len(verdicts)} records are invalid")
        self.verdicts = verdicts


Seen = tuple[dict[str, list[bytes]], list[bool]]
"""What one transaction is decided by, as `RecentHistory.rings_with` gives it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Transactions that wait to be decided.

    Attributes:
        transactions: See there.
        seen: What the only one of them is decided by; None takes what is there when it is.
        decided: Takes the decisions.
    """

    transactions: Sequence[Transaction]
    seen: Seen | None
    decided: asyncio.Future[list[Decided]]


class Scoring:
    """Answers requests; belongs to one event loop.

    Requests that come while others are being decided are decided together: a batch of ten costs
    little more than one alone, so what is waiting is worked off faster the more it is. None waits
    for others to come.

    Args:
        engine: Gives what decides now; asked once per batch.
        history: What the stream remembers. It is looked at and never changed.
        waits_for: Says in a line what is missing to answer, None when nothing is.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        history: RecentHistory,
        waits_for: Callable[[], str | None],
    ) -> None:
        self._engine = engine
        self._history = history
        self.waits_for = waits_for
        self._asked: list[_Asked] = []
        # The first failure is an increase only of a series that was there before.
        self._shadow_failed = SHADOW_FAILED.labels("scoring_api")

    async def answer(self, body: bytes) -> bytes:
        """Score one record, or a list of them; nothing is stored.

        Args:
            body: A JSON object, or an array of at most `MAX_RECORDS`.

        Returns:
            `{"event_id", "fd"}`, or an array of these in the same order, as JSON.

        Raises:
            NotReady: See there.
            TooLarge: The record, or one of the list, is longer than `MAX_RECORD_BYTES`.
            InvalidMessage: The record is invalid, or the body as a whole.
            TooManyRecords: The list is too long.
            InvalidRecords: Some of the list are invalid; none was scored.
        """
        if waiting := self.waits_for():
            raise NotReady(waiting)
        if body.lstrip()[:1] == b"[":
            return await self._answer_many(body)
        if len(body) > MAX_RECORD_BYTES:
            raise TooLarge(MAX_RECORD_BYTES)
        transaction = decode(body)
        (decided,) = await self._decide([transaction])
        return _answer(transaction, decided)

    async def decide(self, transaction: Transaction, *, expect: bool = False) -> Decided:
        """Decide one transaction as `answer` does.

        Args:
            transaction: See there.
            expect: Whether it is going to be sent to the stream: whatever is asked from now on is
                decided as if it had come from there already, also what is asked before this is
                decided.

        Raises:
            NotReady: See there.
        """
        if waiting := self.waits_for():
            raise NotReady(waiting)
        seen = None
        if expect:
            packed = pack([transaction])
            # What it sees itself is what was there before it.
            seen = self._history.rings_with(packed)
            self._history.expected.add(packed)
        (decided,) = await self._decide([transaction], seen)
        return decided

    def expect(self, transaction: Transaction) -> None:
        """Expect a transaction that is sent to the stream: decide as if it had come from there."""
        self._history.expected.add(pack([transaction]))

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
                await asyncio.sleep(0)
            try:
                transactions.append(_checked(record))
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
            # After all that this round of the loop still brings.
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
            # A client that hung up has cancelled it.
            if not request.decided.done():
                request.decided.set_result(part)

    def _decided(self, asked: Sequence[_Asked]) -> list[Decided]:
        transactions = [transaction for request in asked for transaction in request.transactions]
        packed = pack(transactions)
        rings, known = self._history.rings_with(packed)
        row = 0
        for request in asked:
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
        return every


def _checked(record: dict[str, Any] | InvalidMessage) -> Transaction:
    if isinstance(record, InvalidMessage):
        raise record
    return from_mapping(record)


def _answer(transaction: Transaction, decided: Decided) -> bytes:
    return b'{"event_id":%b,"fd":%b}' % (orjson.dumps(transaction.event_id), decided.json)
