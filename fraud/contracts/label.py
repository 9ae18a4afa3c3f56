"""The label: what a transaction turned out to be, often weeks later."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fraud.contracts.transaction import MAX_ID_LENGTH


class LabelValue(StrEnum):
    """What a transaction turned out to be."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"


class Label(BaseModel):
    """One record of the topic `labels`, keyed by event_id."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    label: LabelValue
    label_time: Annotated[str, Field(description="When the label became known, ISO 8601.")]
    source: Annotated[str, Field(description="Who says so, such as chargeback or analyst.")]
