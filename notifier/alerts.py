"""Builds alerts from decisions, with the customer's data masked. No I/O."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from fraud.contracts.decision import Mark, Outcome, decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.personal import is_personal, is_ssn, quotes_masked
from fraud.contracts.times import utc_text
from fraud.contracts.transaction import MAX_ID_LENGTH, event_time_to_ms, from_mapping

_MAX_TEXT: Final = 120
_MAX_REASONS: Final = 10
_MAX_LISTS: Final = 10
_TAG_BYTES: Final = 16
_MAX_TOP: Final = 24
"""Longest top-level domain that is shown, in letters."""
_SHOWN_DIGITS: Final = 4
_IDENTIFYING: Final = (
    "entity_id", "event_id", "transaction_amt", "transaction_currency", "card_bin", "merchant_id",
)  # fmt: skip
DEFAULT_OUTCOMES: Final = frozenset({Outcome.BLOCK})
"""Outcomes that raise an alert unless the routes name others."""


class Severity(StrEnum):
    """How urgent an alert is, from least to most: `low` < `medium` < `high`."""

    LOW = "low"
    """A review."""
    MEDIUM = "medium"
    """A block."""
    HIGH = "high"
    """A block that reaches one of the thresholds of `SeverityRule`."""

    @property
    def rank(self) -> int:
        """Position in the order from 0, which is low."""
        return _RANK[self]


_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}


class SeverityRule(BaseModel):
    """Thresholds of score and amount at which a block has high severity."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    high_score: int = Field(
        990, ge=0, le=1001, description="Score from which on a block is high; 1001 = never."
    )
    high_amount_usd: float | None = Field(
        None, gt=0, description="Amount in US dollars from which on a block is high; none = never."
    )

    def severity(self, outcome: Outcome, score: int | None, amount_usd: float | None) -> Severity:
        """Return the severity of one decision.

        Args:
            outcome: Outcome of the decision.
            score: 0-1000, high = fraud; None when scoring failed.
            amount_usd: Amount in the base currency; None when the exchange rate is unknown.

        Example:
            >>> SeverityRule().severity(Outcome.BLOCK, 995, 12.0)
            <Severity.HIGH: 'high'>
            >>> SeverityRule().severity(Outcome.REVIEW, 995, 12.0)
            <Severity.LOW: 'low'>
        """
        if outcome != Outcome.BLOCK:
            return Severity.LOW
        by_score = score is not None and score >= self.high_score
        by_amount = (
            self.high_amount_usd is not None
            and amount_usd is not None
            and amount_usd >= self.high_amount_usd
        )
        return Severity.HIGH if by_score or by_amount else Severity.MEDIUM


class ReasonLine(BaseModel):
    """One reason, as shown to people."""

    model_config = ConfigDict(frozen=True)
    code: str
    text: str


class Alert(BaseModel):
    """Content of an alert about one decision: masked data only, because the ledger stores it."""

    model_config = ConfigDict(frozen=True)
    event_id: str
    entity: str
    event_time: str
    amount: str
    currency: str
    score: int | None
    reasons: tuple[ReasonLine, ...]
    rules: tuple[str, ...]
    model: str
    policy_version: str
    scored_at: str
    customer_name: str | None
    email_address: str | None
    ip_address: str | None
    place: str | None
    merchant: str | None
    product_category: str | None
    channel: str | None
    source: str
    # Ledgers of the first version lack these fields and held blocks only, hence the defaults.
    outcome: Outcome = Outcome.BLOCK
    severity: Severity = Severity.MEDIUM
    lists: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyedAlert:
    """An alert with its deduplication key and its entity.

    Attributes:
        key: See `alert_key`.
        entity: See `entity_tag`.
        earlier_key: Key under which a ledger of an earlier version may have the alert: it knew events
            by their ids alone. None if the ledger's event is another one.
        alert: Content of the alert.
        decided_ms: When Kafka received the decision, UTC epoch milliseconds; None means unknown.
    """

    key: bytes
    entity: bytes
    alert: Alert
    decided_ms: int | None = None
    earlier_key: bytes | None = None


def alert_key(record: Mapping[str, Any]) -> bytes:
    """Return the 32-byte hash that identifies an event, by its ids and content, in the ledger.

    It is a hash because an entity_id may be a social security number. Message ids derive from it.

    Example:
        >>> record = {"entity_id": "c1", "event_id": "e1", "event_time": "2026-03-01T00:00:00Z"}
        >>> paid = record | {"transaction_amt": 5, "transaction_currency": "usd"}
        >>> alert_key(paid) == alert_key(paid | {"transaction_amt": "5.00"})
        True
        >>> alert_key(paid) == alert_key(paid | {"transaction_amt": 500})
        False
    """
    try:
        identity = from_mapping(dict(record)).identity
    except InvalidMessage:
        # The job publishes valid records only, but whoever writes the topic is told, too.
        identity = repr([record.get(name) for name in _IDENTIFYING])
    return hashlib.sha256(identity.encode(errors="surrogatepass")).digest()


def _key_by_ids(entity_id: str, event_id: str) -> bytes:
    """Return the key that earlier versions gave the alerts of (entity_id, event_id).

    Example:
        >>> _key_by_ids("a", "bc") == _key_by_ids("ab", "c")
        False
    """
    entity = entity_id.encode(errors="surrogatepass")
    event = event_id.encode(errors="surrogatepass")
    return hashlib.sha256(len(entity).to_bytes(8, "big") + entity + event).digest()


def entity_tag(entity_id: str) -> bytes:
    """Return the hash by which waiting alerts are grouped by entity.

    Example:
        >>> len(entity_tag("070-69-2161"))
        16
    """
    return hashlib.sha256(entity_id.encode(errors="surrogatepass")).digest()[:_TAG_BYTES]


def one_line(value: object, at_most: int = _MAX_TEXT) -> str:
    r"""Return a value as one line of text without control characters, cut to `at_most` characters.

    Example:
        >>> one_line("e1\r\nBcc: x@example.com")
        'e1 Bcc: x@example.com'
    """
    text = str(value)[: 4 * at_most]
    # Unicode categories: controls, format marks (such as right-to-left), surrogates, separators of
    # lines and paragraphs.
    clean = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char
        for char in text
    )
    clean = " ".join(clean.split())
    return clean if len(clean) <= at_most else clean[: at_most - 1] + "…"


def mask_email(address: str) -> str:
    """Mask an address, except the first letters of name and domain and the top-level domain.

    Example:
        >>> mask_email("jasonsnyder@lynch.org")
        'j***@l***.org'
        >>> mask_email("no address"), mask_email("ada@example.070692161")
        ('***', 'a***@e***')
    """
    name, at, domain = one_line(address).rpartition("@")
    if not (at and name and domain):
        return "***"
    host, dot, top = domain.rpartition(".")
    shown = dot and host and top.isalpha() and len(top) <= _MAX_TOP
    return f"{name[0]}***@{(host or top)[0]}***" + (f".{top}" if shown else "")


def mask_name(name: str) -> str:
    """Reduce a name to its initials.

    Example:
        >>> mask_name("Ada King Example")
        'A. K. E.'
    """
    return " ".join(f"{part[0]}." for part in one_line(name).split()[:4])


def mask_entity(entity_id: str) -> str:
    """Mask an id that is itself personal data; other ids stay as they are.

    E-mail addresses are masked as by `mask_email`; of other ids the last four digits stay.

    Example:
        >>> mask_entity("070-69-2161"), mask_entity("070692161")
        ('***-**-2161', '***-**-2161')
        >>> mask_entity("4111 1111 1111 1111"), mask_entity("+1 202 555 0143")
        ('***1111', '***0143')
        >>> mask_entity("ada@example.com"), mask_entity("cust-0042")
        ('a***@e***.com', 'cust-0042')
    """
    line = one_line(entity_id, MAX_ID_LENGTH)
    # Cleaning can turn an id into one that looks personal, and back, so both forms are checked.
    forms = (entity_id, line)
    if not any(is_personal("entity_id", form) for form in forms):
        return one_line(line)
    digits = "".join(char for char in line if char.isdecimal())[-_SHOWN_DIGITS:]
    if any(is_ssn(form) for form in forms):
        return f"***-**-{digits}"
    return mask_email(line) if "@" in line else f"***{digits}"


def _text(value: object) -> str | None:
    return one_line(value) or None if isinstance(value, str | int) else None


def _event_time(value: object) -> str:
    try:
        return utc_text(event_time_to_ms(str(value)))
    except (ValueError, OverflowError):
        return one_line(value)


def _amount(value: object) -> str:
    try:
        return f"{float(str(value)):,.2f}"
    except ValueError:
        return one_line(value)


def _reference(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def read_alert(
    raw: bytes | None,
    *,
    outcomes: Set[Outcome] = DEFAULT_OUTCOMES,
    severities: SeverityRule | None = None,
    decided_ms: int | None = None,
) -> KeyedAlert | None:
    """Build the alert of one record of `processed_transactions`.

    Args:
        raw: The record's value.
        outcomes: Outcomes that raise an alert.
        severities: Thresholds of high severity; None means the defaults.
        decided_ms: When Kafka received the record, UTC epoch milliseconds; None means unknown.

    Returns:
        The alert; None for other outcomes and for duplicates.

    Raises:
        InvalidMessage: The value is not a processed transaction.
    """
    record, decision = decode_processed(raw)
    event_id, entity_id = record.get("event_id"), record.get("entity_id")
    for name, value in (("event_id", event_id), ("entity_id", entity_id)):
        if type(value) is not str or not value:
            raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{name}: expected text", name)
    outcome = Outcome(decision["outcome"])
    if outcome not in outcomes or decision.get("duplicate") is True:
        return None
    assert isinstance(event_id, str)  # noqa: S101 - checked above, for the type checker
    assert isinstance(entity_id, str)  # noqa: S101
    alert = _alert(event_id, entity_id, record, decision, severities or SeverityRule())
    marks = decision.get("marks")
    is_reused = isinstance(marks, list) and Mark.EVENT_ID_REUSED in marks
    return KeyedAlert(
        alert_key(record),
        entity_tag(entity_id),
        alert,
        decided_ms,
        earlier_key=None if is_reused else _key_by_ids(entity_id, event_id),
    )


def _amount_usd(decision: dict[str, Any]) -> float | None:
    amount = _reference(decision.get("features")).get("amount_base")
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    return float(amount) if math.isfinite(amount) else None


def _list_line(found: dict[str, Any]) -> str:
    use = f"{found['use']} " if isinstance(found.get("use"), str) else ""
    field = f" by {found['field']}" if isinstance(found.get("field"), str) else ""
    return one_line(f"{use}list {found.get('name')}{field}")


def _alert(
    event_id: str,
    entity_id: str,
    record: dict[str, Any],
    decision: dict[str, Any],
    severities: SeverityRule,
) -> Alert:
    email, name = _text(record.get("email_address")), _text(record.get("customer_name"))
    place = [_text(record.get(f"billing_{part}")) for part in ("city", "state", "country")]
    score = decision["score"] if type(decision.get("score")) is int else None
    outcome = Outcome(decision["outcome"])
    model, source = _reference(decision.get("model")), decision["source"]
    masked = quotes_masked(record)
    return Alert(
        event_id=one_line(event_id, MAX_ID_LENGTH),
        entity=mask_entity(entity_id),
        event_time=_event_time(record.get("event_time")),
        amount=_amount(record.get("transaction_amt")),
        currency=one_line(record.get("transaction_currency", "")).upper(),
        score=score,
        reasons=tuple(
            ReasonLine(
                code=one_line(reason.get("code", "")),
                text=one_line(masked(str(reason.get("text", ""))), 300),
            )
            for reason in _list(decision.get("reasons"))[:_MAX_REASONS]
        ),
        rules=tuple(
            one_line(f"{rule.get('id')} version {rule.get('version')}: {rule.get('outcome')}")
            for rule in _list(decision.get("rules"))
        ),
        model=one_line(f"{model.get('name', 'none')} {model.get('version', '')}"),
        policy_version=one_line(decision.get("policy_version", "")),
        scored_at=one_line(decision.get("scored_at", "")),
        customer_name=mask_name(name) if name else None,
        email_address=mask_email(email) if email else None,
        ip_address=_text(record.get("ip_address")),
        place=", ".join(part for part in place if part) or None,
        merchant=_text(record.get("merchant_id")),
        product_category=_text(record.get("product_category")),
        channel=_text(record.get("channel")),
        source=one_line(f"{source['topic']}-{source['partition']}-{source['offset']}"),
        outcome=outcome,
        severity=severities.severity(outcome, score, _amount_usd(decision)),
        lists=tuple(_list_line(found) for found in _list(decision.get("lists"))[:_MAX_LISTS]),
    )
