"""What a mail says about a blocked transaction, with its customer masked. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from fraud.contracts.dead_letter import utc_text
from fraud.contracts.decision import Outcome, decode_processed
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import MAX_ID_LENGTH, event_time_to_ms

_MAX_TEXT: Final = 120
_SSN: Final = re.compile(r"(?<!\d)\d{3}([- ])\d{2}\1(\d{4})(?!\d)|^\d{3}(\d{2})(\d{4})$")
_MAX_REASONS: Final = 10


class ReasonLine(BaseModel):
    """One reason, as the mail shows it."""

    model_config = ConfigDict(frozen=True)
    code: str
    text: str


class Alert(BaseModel):
    """All that a mail needs. Kept in the ledger until it is sent, so it holds masked data only."""

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


@dataclass(frozen=True, slots=True)
class KeyedAlert:
    """An alert and the key that it is sent once for.

    Attributes:
        key: See `alert_key`.
        alert: What the mail says.
    """

    key: bytes
    alert: Alert


def alert_key(entity_id: str, event_id: str) -> bytes:
    """Give the 32 bytes that stand for (entity_id, event_id) in the ledger and the Message-ID.

    A hash, because an entity_id may be a social security number.

    Example:
        >>> alert_key("a", "bc") == alert_key("ab", "c")
        False
    """
    entity = entity_id.encode(errors="surrogatepass")
    event = event_id.encode(errors="surrogatepass")
    return hashlib.sha256(len(entity).to_bytes(8, "big") + entity + event).digest()


def one_line(value: object, at_most: int = _MAX_TEXT) -> str:
    r"""Make any value fit for one line of a mail: no line breaks or control characters, not long.

    Example:
        >>> one_line("e1\r\nBcc: x@example.com")
        'e1 Bcc: x@example.com'
    """
    text = str(value)[: 4 * at_most]
    # Categories of controls, format marks (such as right-to-left), surrogates, line separators.
    clean = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char
        for char in text
    )
    clean = " ".join(clean.split())
    return clean if len(clean) <= at_most else clean[: at_most - 1] + "…"


def mask_email(address: str) -> str:
    """Keep the first letter of name and domain, and the top-level domain.

    Example:
        >>> mask_email("jasonsnyder@lynch.org")
        'j***@l***.org'
        >>> mask_email("no address")
        '***'
    """
    name, at, domain = one_line(address).rpartition("@")
    if not (at and name and domain):
        return "***"
    host, dot, top = domain.rpartition(".")
    return f"{name[0]}***@{(host or top)[0]}***" + (f".{top}" if dot and host else "")


def mask_name(name: str) -> str:
    """Keep the initials.

    Example:
        >>> mask_name("Ada King Example")
        'A. K. E.'
    """
    return " ".join(f"{part[0]}." for part in one_line(name).split()[:4])


def mask_entity(entity_id: str) -> str:
    """Hide what looks like a social security number in an id, but for the last four digits.

    Example:
        >>> mask_entity("070-69-2161")
        '***-**-2161'
        >>> mask_entity("070692161")
        '***-**-2161'
        >>> mask_entity("cust-0042")
        'cust-0042'
    """
    return _SSN.sub(lambda found: f"***-**-{found[2] or found[4]}", one_line(entity_id))


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


def read_alert(raw: bytes | None) -> KeyedAlert | None:
    """Read one record of `processed_transactions`.

    Returns:
        The alert to send, None when the decision asks for none: it is no block, or a duplicate.

    Raises:
        InvalidMessage: The value is no such record.
    """
    record, decision = decode_processed(raw)
    event_id, entity_id = record.get("event_id"), record.get("entity_id")
    for name, value in (("event_id", event_id), ("entity_id", entity_id)):
        if type(value) is not str or not value:
            raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{name}: expected text", name)
    if decision["outcome"] != Outcome.BLOCK or decision.get("duplicate") is True:
        return None
    assert isinstance(event_id, str)  # noqa: S101 - checked above, for the type checker
    assert isinstance(entity_id, str)  # noqa: S101
    return KeyedAlert(alert_key(entity_id, event_id), _alert(event_id, entity_id, record, decision))


def _alert(
    event_id: str, entity_id: str, record: dict[str, Any], decision: dict[str, Any]
) -> Alert:
    email, name = _text(record.get("email_address")), _text(record.get("customer_name"))
    place = [_text(record.get(f"billing_{part}")) for part in ("city", "state", "country")]
    score = decision.get("score")
    model, source = _reference(decision.get("model")), decision["source"]
    return Alert(
        event_id=one_line(event_id, MAX_ID_LENGTH),
        entity=mask_entity(entity_id),
        event_time=_event_time(record.get("event_time")),
        amount=_amount(record.get("transaction_amt")),
        currency=one_line(record.get("transaction_currency", "")).upper(),
        score=score if type(score) is int else None,
        reasons=tuple(
            ReasonLine(
                code=one_line(reason.get("code", "")), text=one_line(reason.get("text", ""), 300)
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
    )
