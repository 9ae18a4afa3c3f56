"""Recognises and masks personal numbers and addresses in ids and in free text.

Logs, notifications and the index use the same patterns, so that none shows what another hides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fraud.contracts.transaction import PERSONAL_FIELDS

REDACTED: Final = "[redacted]"
"""Replacement for personal data."""

_DASHES: Final = "\\-\u2010\u2011\u2012\u2013"
SSN: Final = re.compile(
    rf"(?<!\d)(?<!\d\.)\d{{3}}(?:[{_DASHES}]\d{{2}}[{_DASHES}]|([ \u00a0.])\d{{2}}\1)\d{{4}}(?!\d)(?!\.\d)"
)
"""Social security number in three groups, not part of a longer number or of a version number.

Nine digits without separators count only as a whole id (`is_ssn`): in free text they may as well be
an offset, an amount or a time.
"""
PHONE: Final = re.compile(r"(?<![\w.:-])\+\d[\d ().-]{6,}\d")
"""International phone number in any text."""

_AT_DOMAIN: Final = re.compile(r"@[\w-]+(?:\.[\w-]+)+")
_IN_LOCAL_PART: Final = frozenset("_.+%-")
_NINE_DIGITS: Final = re.compile(r"\s*\d{9}\s*")
_ADDRESS: Final = re.compile(r"[^@\s]@[^@\s]")
_WHOLE_PHONE: Final = re.compile(r"\s*\+[\d ().-]{7,}\s*")
_CARD: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_SHORTEST_QUOTE: Final = 4
"""Shorter personal values are not masked in texts, because they occur in almost any text."""


def mask(text: str) -> str:
    """Replace e-mail addresses, SSN-shaped ids and international phone numbers in free text.

    Example:
        >>> mask("mail to ada@example.com of 070-69-2161 failed at offset 123456789")
        'mail to [redacted] of [redacted] failed at offset 123456789'
    """
    text = _without_addresses(text)
    for pattern in (SSN, PHONE):
        text = pattern.sub(REDACTED, text)
    return text


def _without_addresses(text: str) -> str:
    # Searches to the left of each @: a pattern that begins with the local part would be tried from
    # every character of a long text, in quadratic time.
    parts: list[str] = []
    done = 0
    for found in _AT_DOMAIN.finditer(text):
        at = start = found.start()
        while start > done and (text[start - 1].isalnum() or text[start - 1] in _IN_LOCAL_PART):
            start -= 1
        if start < at:
            parts += (text[done:start], REDACTED)
            done = found.end()
    return "".join([*parts, text[done:]])


def is_ssn(entity_id: str) -> bool:
    """Return whether an id contains a social security number, or consists of nine digits.

    Example:
        >>> is_ssn("ssn:070-69-2161"), is_ssn("070692161"), is_ssn("order 070692161")
        (True, True, False)
    """
    return SSN.search(entity_id) is not None or _NINE_DIGITS.fullmatch(entity_id) is not None


def is_personal(field: str, value: str) -> bool:
    """Return whether the value of a field is personal and must not be shown.

    An entity id is personal if it looks like a social security number, an e-mail address, a phone
    number or a card number; the values of other `PERSONAL_FIELDS` always are.

    Example:
        >>> [is_personal("entity_id", id) for id in ("cust-0042", "070-69-2161", "4111111111111111")]
        [False, True, True]
        >>> is_personal("customer_name", "Ada"), is_personal("billing_city", "Springfield")
        (True, False)
    """
    if field != "entity_id":
        return field in PERSONAL_FIELDS
    return (
        is_ssn(value)
        or _ADDRESS.search(value) is not None
        or _WHOLE_PHONE.fullmatch(value) is not None
        or any(_is_card(found[0]) for found in _CARD.finditer(value))
    )


def _is_card(text: str) -> bool:
    # The Luhn checksum, which card numbers satisfy.
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def quotes_masked(record: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that masks a record's personal values in a text, besides what `mask` does.

    It ignores letter case and the amount of white space, because a rule may have changed both.

    Example:
        >>> masked = quotes_masked({"customer_name": "Ada Example"})
        >>> masked("name ADA  EXAMPLE is on a list, as is bob@example.com")
        'name [redacted] is on a list, as is [redacted]'
    """
    quotes = [
        r"\s+".join(map(re.escape, text.split()))
        for name in PERSONAL_FIELDS
        if type(value := record.get(name)) in (str, int)
        and len(text := str(value).strip()) >= _SHORTEST_QUOTE
        and is_personal(name, text)
    ]
    if not quotes:
        return mask
    # Longest first, because one value may be the beginning of another.
    pattern = re.compile("|".join(sorted(quotes, key=len, reverse=True)), re.IGNORECASE)
    return lambda text: mask(pattern.sub(REDACTED, text))
