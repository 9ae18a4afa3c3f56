"""What looks like somebody's number is hidden everywhere, and ordinary numbers are not."""

from __future__ import annotations

import pytest

from fraud.contracts.personal import REDACTED, SSN, is_personal, is_ssn, mask, quotes_masked
from notifier.alerts import mask_entity

SSNS = [
    "070-69-2161",
    "070 69 2161",
    "070.69.2161",
    "070\u00a069\u00a02161",
    "070\u201069\u20102161",
    "070\u201169\u20112161",
    "070\u201269\u20122161",
    "070\u201369\u20132161",
    "070\u201369-2161",
]
"""A social security number as people write it."""

AROUND = ["{}", "ssn:{}", "ssn_{}_1", "x{}y", "({})", "of {}, born", "-{}", "{}.", "no.{}", "{}/7"]

ORDINARY = [
    "070692161",
    "offset 123456789 of partition 3",
    "1772323200000",
    "1772323200.069216",
    "070-69-21610",
    "1070-69-2161",
    "070-692161",
    "070-69 2161",
    "2026-03-01T00:00:00.000Z",
    "192.168.10.1",
    "Chrome/120.0.6099.109",
    "Edg/1.117.00.5938",
    "117.00.5938.1",
    "0b6ee1f2-3c0e-4a55-9a4e-6a1f0f5e7b11",
    "processed_transactions-2026.02.28",
    "cust-0042",
]
"""What logs are full of."""


@pytest.mark.parametrize("ssn", SSNS)
@pytest.mark.parametrize("around", AROUND)
def test_a_social_security_number_is_one_to_all_who_look(ssn: str, around: str) -> None:
    """To logs, to the index and to messages."""
    text = around.format(ssn)
    assert mask(text) == around.format(REDACTED)
    assert is_ssn(text)
    assert is_personal("entity_id", text)
    assert mask_entity(text).startswith("***-**-")
    assert "070" not in mask_entity(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_stay_in_logs(text: str) -> None:
    """Nine bare digits among them: in a text they are an offset, an amount, a time."""
    assert mask(text) == text
    assert SSN.search(text) is None


@pytest.mark.parametrize("text", [text for text in ORDINARY if text != "070692161"])
def test_an_id_that_is_an_ordinary_number_is_shown(text: str) -> None:
    assert not is_personal("entity_id", text)
    assert mask_entity(text) == text


def test_nine_digits_are_a_social_security_number_where_they_are_the_id() -> None:
    assert is_ssn("070692161")
    assert is_ssn(" 070692161 ")
    assert not is_ssn("order 070692161")


def test_quotes_are_found_in_any_case_and_spacing() -> None:
    """A rule writes names as it compares them; two letters are in any text."""
    record = {
        "customer_name": "Ada  Example",
        "entity_id": "4111111111111111",
        "phone": 2025550143,
        "billing_street": "Li",
        "billing_city": "Springfield",
    }
    masked = quotes_masked(record)
    assert masked("ada example, ADA EXAMPLE; card 4111111111111111") == (
        f"{REDACTED}, {REDACTED}; card {REDACTED}"
    )
    assert masked("Like in Springfield, 2025550143") == f"Like in Springfield, {REDACTED}"
    assert quotes_masked({})("of 070.69.2161") == f"of {REDACTED}"
