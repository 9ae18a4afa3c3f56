"""Their events as our records: names, times, labels. Pure.

An event is read as a row of that service's own CSV files, `EVENT_ID, ENTITY_ID, ENTITY_TYPE,
EVENT_TIMESTAMP, EVENT_LABEL, LABEL_TIMESTAMP` and its variables, so that one mapping file serves
calls and files (`fraudstream replay`, `train`) alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from afd.errors import ValidationException
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.label import Label, LabelValue
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import (
    FIELD_BY_NAME,
    MAX_ID_LENGTH,
    MAX_RECORD_BYTES,
    Transaction,
    event_time_to_ms,
    from_mapping,
)
from model.datasets import LABEL, LABEL_TIME, ColumnMapping, label_value

PAGE: Final = "docs/migrating-from-amazon-fraud-detector.md"

_EVENT: Final = ("event_id", "entity_id", "event_time")
_COLUMNS: Final = MappingProxyType(
    {"event_id": "EVENT_ID", "entity_id": "ENTITY_ID", "event_time": "EVENT_TIMESTAMP"}
)
UNKNOWN: Final = "unknown"
"""The entity id that means: not known (in any case)."""

NOBODY: Final = "unknown/"
"""What the entity id of an event of nobody known begins with; its event id follows."""

FRAUD_LABELS: Final = frozenset({"fraud", "fraudulent", "1", "true"})
LEGITIMATE_LABELS: Final = frozenset({"legit", "legitimate", "not_fraud", "0", "false"})
"""What labels mean unless a mapping file says otherwise, in small letters."""

VARIABLE_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "EMAIL_ADDRESS": "email_address",
        "IP_ADDRESS": "ip_address",
        "USERAGENT": "user_agent",
        "FINGERPRINT": "device_id",
        "PHONE_NUMBER": "phone",
        "CARD_BIN": "card_bin",
        "PRICE": "transaction_amt",
        "CURRENCY_CODE": "transaction_currency",
        "PRODUCT_CATEGORY": "product_category",
        "BILLING_NAME": "customer_name",
        "BILLING_PHONE": "phone",
        "BILLING_ADDRESS_L1": "billing_street",
        "BILLING_CITY": "billing_city",
        "BILLING_STATE": "billing_state",
        "BILLING_ZIP": "billing_zip",
        "BILLING_COUNTRY": "billing_country",
    }
)
"""Our field by their variable's type, for variables that no mapping file and no name maps."""


@dataclass(frozen=True, slots=True)
class DeclaredVariable:
    """A variable as it was declared to us.

    Attributes:
        type: Such as `IP_ADDRESS`; None when it has none.
        default: What an event without it has.
    """

    type: str | None
    default: str | None


@dataclass(frozen=True)
class EventReader:
    """Reads events.

    Attributes:
        mapping: The mapping file; without one, names equal to ours and variables' types count.
        variables: Those declared to us, by name.
    """

    mapping: ColumnMapping | None = None
    variables: Mapping[str, DeclaredVariable] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Return our field by their variable; a variable of our field's name needs no entry."""
        found: dict[str, str] = {}
        for name, variable in sorted(self.variables.items()):
            target = VARIABLE_TYPES.get(variable.type or "")
            if (
                target is not None
                and name not in FIELD_BY_NAME
                and target not in self.variables
                and target not in found.values()
            ):
                found[name] = target
        if self.mapping is not None:
            fields = {
                target: column
                for target, column in self.mapping.fields.items()
                if target not in (LABEL, LABEL_TIME)
            }
            # A field that the file maps or sets comes from there alone.
            taken = fields.keys() | self.mapping.constants.keys()
            found = {name: target for name, target in found.items() if target not in taken}
            found |= {column: target for target, column in fields.items()}
        return found

    def read(self, request: Mapping[str, Any]) -> tuple[Transaction, bytes]:
        """Read an event of GetEventPrediction or SendEvent.

        Returns:
            The transaction, and the record for the topic `transactions`.

        Raises:
            ValidationException: It lacks something that we require, or a value is not as it must be.
        """
        entities = request["entities"]
        if not entities:
            raise ValidationException(
                "Value at 'entities' failed to satisfy constraint: Member must have length greater than or equal to 1"
            )
        event_id = request["eventId"]
        entity_id = entities[0]["entityId"]
        if entity_id.lower() == UNKNOWN:
            # Those of whom nothing is known are not one and the same.
            entity_id = (NOBODY + event_id)[:MAX_ID_LENGTH]
        time = request["eventTimestamp"]
        row = request["eventVariables"]
        own = dict(
            zip(
                _EVENT,
                (event_id, entity_id, f"{time}T00:00:00Z" if len(time) == 10 else time),
                strict=True,
            )
        )
        if reserved := sorted({*_EVENT, *_COLUMNS.values()} & row.keys()):
            raise ValidationException(
                f"Value at 'eventVariables.{reserved[0]}': expected no variable of that name, the event itself has it"
            )
        names = self.names()
        record: dict[str, Any] = dict(self.mapping.constants) if self.mapping else {}
        columns = {**row, **{_COLUMNS[name]: value for name, value in own.items()}}
        for name, value in columns.items():
            target = names.get(name)
            if target is not None:
                record[target] = value
            elif name in row and name not in record:
                record[name] = value
        for name, variable in self.variables.items():
            if variable.default:
                record.setdefault(names.get(name, name), variable.default)
        record = own | record
        # The id by which the event is asked for is the one that it was sent with.
        record["event_id"] = event_id
        record.pop(LABEL, None)
        record.pop(LABEL_TIME, None)
        try:
            transaction = from_mapping(record)
        except InvalidMessage as verdict:
            raise ValidationException(f"{verdict.detail} ({self._where(verdict.field)})") from None
        raw = orjson.dumps(record)
        if len(raw) > MAX_RECORD_BYTES:
            raise ValidationException(f"expected at most {MAX_RECORD_BYTES} bytes in all variables")
        return transaction, raw

    def _where(self, name: str | None) -> str:
        """Say where a field of ours comes from."""
        if name == "event_time":
            return "eventTimestamp"
        variable = next((theirs for theirs, ours in self.names().items() if ours == name), name)
        return f"the variable {variable} in eventVariables; how variables are mapped: {PAGE}"

    def label(self, event_id: str, label: str, label_time: str, source: str) -> Label:
        """Read a label.

        Raises:
            ValidationException: The label means nothing to us, or the time is none.
        """
        if self.mapping is not None:
            is_fraud = self.mapping.label_of(label)
        else:
            said = label.lower()
            is_fraud = (
                True if said in FRAUD_LABELS else False if said in LEGITIMATE_LABELS else None
            )
        if is_fraud is None:
            expected = (
                self.mapping.fraud | self.mapping.legitimate
                if self.mapping
                else FRAUD_LABELS | LEGITIMATE_LABELS
            )
            raise ValidationException(
                f"Value at 'assignedLabel': expected one of {', '.join(sorted(expected))}; others are given a meaning in the file AFD_MAPPING, see {PAGE}"
            )
        return Label(
            event_id=event_id,
            label=label_value(is_fraud),
            label_time=read_time(label_time, "labelTimestamp"),
            source=source,
        )


def read_time(text: str, member: str) -> str:
    """Read a time of a request; without a zone it is UTC.

    Raises:
        ValidationException: It is none.

    Example:
        >>> read_time("2026-03-01T10:00:00+01:00", "labelTimestamp")
        '2026-03-01T09:00:00.000Z'
    """
    try:
        return utc_text(event_time_to_ms(f"{text}T00:00:00Z" if len(text) == 10 else text))
    except (ValueError, OverflowError):
        raise ValidationException(
            f"Value at '{member}': expected an ISO 8601 date and time in UTC"
        ) from None


def their_label(label: str, mapping: ColumnMapping | None) -> str:
    """Translate a label into the name that Amazon Fraud Detector clients use for it."""
    if mapping is not None:
        known = mapping.fraud if label == LabelValue.FRAUD else mapping.legitimate
        return min(known, default=label)
    return "fraud" if label == LabelValue.FRAUD else "legit"
