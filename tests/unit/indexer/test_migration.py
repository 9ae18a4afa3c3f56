"""Documents of an earlier version become those of this one."""

from __future__ import annotations

from typing import Any

import orjson

from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import to_document
from indexer.migration import upgraded
from tests.support.builders import a_processed, a_record

PSEUDONYMS = Pseudonyms(b"k" * 32)
CLEAR = Pseudonyms(b"k" * 32, clear=True)


def of_version_1() -> dict[str, Any]:
    """What version 1 made of `a_processed()`."""
    body = to_document(a_processed(), CLEAR).body
    for name in ("customer_name", "billing_street", "phone", "email_domain", "decision_ms"):
        del body[name]
    body["fd"] = {name: value for name, value in body["fd"].items() if name != "lists"}
    return body | {"email_address": "j***@lynch.org", "indexed_at": "2026-03-01T00:00:01.000Z"}


def test_a_document_of_version_1_becomes_what_it_would_be_today() -> None:
    """But for what it did not hold, and an address that is masked already."""
    today = to_document(a_processed(), PSEUDONYMS).body
    for name in ("customer_name", "billing_street", "phone"):
        del today[name]
    assert upgraded(of_version_1(), PSEUDONYMS) == today | {"email_address": "j***@lynch.org"}


def test_values_in_clear_become_hashes() -> None:
    """And doing it again changes nothing."""
    clear = to_document(a_processed(), CLEAR).body
    hashed = to_document(a_processed(), PSEUDONYMS).body
    assert upgraded(clear, PSEUDONYMS) == hashed
    assert upgraded(hashed, PSEUDONYMS) == hashed
    text = orjson.dumps(upgraded(clear, PSEUDONYMS)).decode()
    assert a_record()["phone"] not in text


def test_values_stay_clear_where_they_may() -> None:
    clear = to_document(a_processed(), CLEAR).body
    assert upgraded(clear, CLEAR) == clear


def test_a_document_that_is_hardly_one_passes() -> None:
    """What others put there is copied as it is."""
    assert upgraded({}, PSEUDONYMS) == {}
    assert upgraded({"fd": "odd", "entity_id": 5}, PSEUDONYMS) == {"fd": "odd", "entity_id": 5}
