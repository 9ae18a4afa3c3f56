"""Documents that were written in clear become those of an index without personal values."""

from __future__ import annotations

import orjson

from fraud.security.pseudonyms import Pseudonyms
from indexer.documents import to_document
from indexer.migration import upgraded
from tests.support.builders import a_processed, a_record

PSEUDONYMS = Pseudonyms(b"k" * 32)
CLEAR = Pseudonyms(b"k" * 32, clear=True)


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
