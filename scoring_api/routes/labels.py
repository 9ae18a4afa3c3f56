"""`/v1/labels`: whether transactions turned out to be fraud."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from fraud.contracts.label import Label, LabelValue, refuse_future
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import EVENT_TIME_END_MS, MAX_ID_LENGTH
from fraud.runtime.clock import Clock, system_clock
from fraud.security.api_keys import Role
from fraud.security.principals import Principal
from scoring_api.access import author_of, require
from scoring_api.documentation import MANY, ONE, problems
from scoring_api.idempotency import OnceRoute, idempotent
from scoring_api.labels import LabelSender

MAX_LABELS = 1000
"""Most labels in a list."""

_Sender = Annotated[Principal, Depends(require(Role.SCORE))]


def _in_range(time: datetime | None) -> datetime | None:
    if time is not None and not 0 <= time.timestamp() * 1000 < EVENT_TIME_END_MS:
        raise ValueError("expected a time from 1970 to 2099")
    return time


class NewLabel(BaseModel):
    """A label of an event."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"event_id": "try-1", "label": "fraud", "source": "chargeback"}]},
    )  # fmt: skip

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    label: LabelValue
    label_time: Annotated[
        AwareDatetime | None,
        AfterValidator(_in_range),
        Field(description="When it became known, from 1970 to 2099; now if it is left out."),
    ] = None
    source: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$", description="Who says so, such as chargeback or analyst; the key's name if it is left out."),
    ] = None  # fmt: skip


def _shape(body: Any) -> str:
    return MANY if isinstance(body, list) else ONE


_Body = Annotated[
    Annotated[NewLabel, Tag(ONE)]
    | Annotated[list[NewLabel], Tag(MANY), Field(min_length=1, max_length=MAX_LABELS)],
    Discriminator(_shape),
]


class Accepted(BaseModel):
    """How many labels were accepted."""

    accepted: Annotated[int, Field(description="Labels on the topic.")]


def label_routes(
    sender: LabelSender, clock: Clock = system_clock, *, ahead_s: int = 0
) -> APIRouter:
    """Return the routes of labels.

    Args:
        sender: Writes the labels.
        clock: Time now, UTC epoch milliseconds.
        ahead_s: How far a label_time may lie in the future, seconds; 0 accepts any.
    """
    routes = APIRouter(
        prefix="/v1/labels",
        tags=["labels"],
        route_class=OnceRoute,
        dependencies=[Depends(idempotent)],
        responses=problems() | problems(409, 503),
    )

    @routes.post("", summary="Send labels")
    def send(labels: _Body, who: _Sender, request: Request) -> Accepted:
        """Send one label or a list. The topic `labels` has them all when this answers."""
        now_ms = clock()
        records = [
            Label(
                event_id=label.event_id,
                label=label.label,
                label_time=utc_text(
                    now_ms if label.label_time is None else int(label.label_time.timestamp() * 1000)
                ),
                source=label.source or who.name,
            )
            for label in (labels if isinstance(labels, list) else [labels])
        ]
        for record in records:
            refuse_future(record.label_time_ms, now_ms, ahead_s)
        sender.send(records, author_of(who, request))
        return Accepted(accepted=len(records))

    return routes
