"""A list is counted as a JSON parser would count it, chunk by chunk and without parsing it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts import json_items
from fraud.contracts.json_items import has_more_items

TEXTS = st.text(st.sampled_from('a,"\\[]{}:\n\u00e9'), max_size=8)
ITEMS = st.recursive(
    st.none() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(ITEMS, max_size=12), st.integers(1, 12), st.integers(1, 40), st.booleans())
def test_items_are_counted_as_by_a_parser(
    items: list[Any], most: int, chunk: int, escapes: bool
) -> None:
    """Wherever a chunk ends: within text, within an escape, within an item."""
    raw = json.dumps(items, ensure_ascii=escapes).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "_CHUNK_BYTES", chunk)
        assert has_more_items(raw, most) == (len(items) > most)
