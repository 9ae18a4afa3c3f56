"""Operations on events: GetEventPrediction, SendEvent, UpdateEventLabel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import orjson
from starlette.concurrency import run_in_threadpool

from afd import predictions
from afd.catalogue import Catalogue
from afd.errors import (
    InternalServerException,
    ResourceNotFoundException,
    ValidationException,
)
from afd.events import PAGE
from afd.operations import Answer, Operation, Request, author_of
from fraud.contracts.label import Label
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import Transaction
from fraud.decision.engine import Decided
from fraud.kafka.async_producer import AsyncProducer, NotPublished
from fraud.security.api_keys import Role
from fraud.security.audit import Author
from fraud.security.principals import Principal


class EventScorer(Protocol):
    """Decides transactions as the streaming job will (`scoring_api.scoring.Scoring`)."""

    async def decide(self, transaction: Transaction, *, expect: bool = False) -> Decided:
        """Decide a transaction; with `expect`, it counts as sent to the stream from now on."""
        ...

    def expect(self, transaction: Transaction) -> None:
        """Count a transaction as sent to the stream."""
        ...

    def give_up(self, transaction: Transaction) -> None:
        """Stop counting a transaction that could not be sent."""
        ...


class EventOperations:
    """Handles the operations that score events, send them, and send their labels.

    Args:
        scoring: Decides the events.
        catalogue: Declarations and policy state.
        names: Names by which clients know models and outcomes.
        publisher: Writes events to Kafka.
        send_labels: Sends labels and records the sender in the audit log; called in a thread.
        publishes_events: Whether events are sent to the stream.
    """

    def __init__(
        self,
        scoring: EventScorer,
        catalogue: Catalogue,
        names: predictions.Names,
        publisher: AsyncProducer,
        send_labels: Callable[[Sequence[Label], Author], None],
        *,
        publishes_events: bool,
    ) -> None:
        self._scoring = scoring
        self._catalogue = catalogue
        self._names = names
        self._publisher = publisher
        self._send_labels = send_labels
        self._publishes_events = publishes_events

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "GetEventPrediction": Operation(Role.SCORE, self.get_event_prediction),
            "SendEvent": Operation(Role.SCORE, self.send_event),
            "UpdateEventLabel": Operation(Role.SCORE, self.update_event_label),
        }

    async def get_event_prediction(self, request: Request, _caller: Principal) -> Answer:
        """Decide an event as the streaming job will, and send it there unless that is off."""
        if request.get("externalModelEndpointDataBlobs"):
            raise ValidationException(
                f"externalModelEndpointDataBlobs: there are no external models, see {PAGE}"
            )
        self._check(request)
        transaction, raw = self._catalogue.reader().read(request)
        if not self._publishes_events:
            decided = await self._scoring.decide(transaction)
        else:
            # Events of the same entity that follow at once must count this one already.
            with self._expected(transaction):
                decided = await self._scoring.decide(transaction, expect=True)
                await self._send(Topic.TRANSACTIONS, transaction.entity_id, raw)
        return predictions.prediction(orjson.loads(decided.json), self._names)

    async def send_event(self, request: Request, caller: Principal) -> Answer:
        """Send an event to the stream, and its label if the request has one."""
        if not self._publishes_events:
            raise ValidationException("events are not taken: AFD_PUBLISH_EVENTS is false")
        self._check(request)
        reader = self._catalogue.reader()
        transaction, raw = reader.read(request)
        label, label_time = request.get("assignedLabel"), request.get("labelTimestamp")
        if (label is None) != (label_time is None):
            raise ValidationException(
                "expected assignedLabel and labelTimestamp together, or neither"
            )
        known = (
            reader.label(transaction.event_id, label, label_time, caller.name)
            if label and label_time
            else None
        )
        self._scoring.expect(transaction)
        with self._expected(transaction):
            await self._send(Topic.TRANSACTIONS, transaction.entity_id, raw)
        if known is not None:
            await self._send_label(known, caller)
        return {}

    async def update_event_label(self, request: Request, caller: Principal) -> Answer:
        """Send the label of an event, which need not be known."""
        event_id = request["eventId"]
        label = self._catalogue.reader().label(
            event_id, request["assignedLabel"], request["labelTimestamp"], caller.name
        )
        await self._send_label(label, caller)
        return {}

    @contextmanager
    def _expected(self, transaction: Transaction) -> Iterator[None]:
        """Stop expecting an event if the block that sends it fails."""
        try:
            yield
        except Exception:
            self._scoring.give_up(transaction)
            raise

    async def _send_label(self, label: Label, caller: Principal) -> None:
        try:
            await run_in_threadpool(self._send_labels, [label], author_of(caller))
        except NotPublished as problem:
            raise InternalServerException(str(problem)) from None
        except OSError as problem:
            raise InternalServerException(
                f"the audit log cannot be written: {type(problem).__name__}"
            ) from None

    def _check(self, request: Request) -> None:
        """Check that the event type and the detector exist, and that the named version is active.

        Any name passes until the first one of its kind is declared.
        """
        event_type = request["eventTypeName"]
        if self._catalogue.is_another_event_type(event_type):
            raise ResourceNotFoundException(f"unknown event type: {event_type}")
        if (detector := request.get("detectorId")) is not None:
            self._catalogue.check_decides(detector, request.get("detectorVersionId"))

    async def _send(self, topic: Topic, key: str, value: bytes) -> None:
        try:
            await self._publisher.send(topic, key, value)
        except NotPublished as problem:
            raise InternalServerException(str(problem)) from None
