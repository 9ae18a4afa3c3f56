"""Conversion of AFD events to transaction records and labels. Pure.

An event is read like a row of AFD's CSV files, `EVENT_ID, ENTITY_ID, ENTITY_TYPE, EVENT_TIMESTAMP,
EVENT_LABEL, LABEL_TIMESTAMP` and its variables, so that one mapping file serves calls and files
(`fraudstream replay`, `train`) alike.
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
"""Entity id of an unknown entity; upper or lower case does not matter."""

NOBODY: Final = "unknown/"
"""Prefix of the entity id of an event whose entity is unknown; the event id follows."""

FRAUD_LABELS: Final = frozenset({"fraud", "fraudulent", "1", "true"})
LEGITIMATE_LABELS: Final = frozenset({"legit", "legitimate", "not_fraud", "0", "false"})
"""Known labels in lower case, unless a mapping file defines others."""

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
"""Transaction field by AFD type, for variables that neither a mapping file nor their name maps."""


@dataclass(frozen=True, slots=True)
class DeclaredVariable:
    """A variable that a client declared.

    Attributes:
        type: AFD variable type, such as `IP_ADDRESS`; None if it was left out.
        default: Value for events without the variable; may be None or empty.
    """

    type: str | None
    default: str | None


@dataclass(frozen=True)
class EventReader:
    """Reads AFD events as transactions.

    Attributes:
        mapping: The mapping file; without one, variables map by their name or type.
        variables: Declared variables by name.
    """

    mapping: ColumnMapping | None = None
    variables: Mapping[str, DeclaredVariable] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Return transaction fields by variable; variables named like a field need no entry."""
        found: dict[str, str] = {}
        for name, variable in sorted(self.variables.items()):
            # A type maps one variable only, and not to a field that a variable is named like.
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
            # A field that the mapping file maps or sets does not come from elsewhere as well.
            taken = fields.keys() | self.mapping.constants.keys()
            found = {name: target for name, target in found.items() if target not in taken}
            found |= {column: target for target, column in fields.items()}
        return found

    def read(self, request: Mapping[str, Any]) -> tuple[Transaction, bytes]:
        """Read an event of GetEventPrediction or SendEvent.

        Returns:
            The transaction, and the record for the topic `transactions`.

        Raises:
            ValidationException: A required value is missing, or a value is invalid.
        """
        entities = request["entities"]
        if not entities:
            raise ValidationException(
                "Value at 'entities' failed to satisfy constraint: Member must have length greater than or equal to 1"
            )
        event_id = request["eventId"]
        entity_id = entities[0]["entityId"]
        if entity_id.lower() == UNKNOWN:
            # Unknown entities must not share a history, so each event gets an entity of its own.
            entity_id = (NOBODY + event_id)[:MAX_ID_LENGTH]
        time = request["eventTimestamp"]
        row = request["eventVariables"]
        # A date without a time means midnight UTC.
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
            # Only for variables that the event lacks.
            if variable.default:
                record.setdefault(names.get(name, name), variable.default)
        record = own | record
        # Clients look the event up by the id they sent, whatever a mapping file makes of it.
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
        """Return the part of a request that a field comes from, for error messages."""
        if name == "event_time":
            return "eventTimestamp"
        variable = next((theirs for theirs, ours in self.names().items() if ours == name), name)
        return f"the variable {variable} in eventVariables; how variables are mapped: {PAGE}"

    def label(self, event_id: str, label: str, label_time: str, source: str) -> Label:
        """Read the label of an event.

        Raises:
            ValidationException: The label's meaning is unknown, or the time is invalid.
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
    """Parse a date or time of a request; without a zone it is UTC.

    Raises:
        ValidationException: The text is not an ISO 8601 date or time.

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
