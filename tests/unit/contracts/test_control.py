"""The control document: its codec, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.control import ControlDocument, decode_control, read_key, read_model
from fraud.contracts.errors import InvalidMessage

BODY = {"author": "ada", "time": "2026-03-01T12:00:00Z", "content": {"name": "m", "version": "a1"}}

parts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}", fullmatch=True)


@given(parts, parts, parts, st.dictionaries(st.text(), st.integers() | st.text()))
def test_what_is_written_is_read(
    kind: str, name: str, version: str, content: dict[str, int | str]
) -> None:
    document = ControlDocument(
        kind=kind,
        name=name,
        version=version,
        author="ada",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        content=content,
    )
    assert decode_control(document.key, document.value) == document


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(key: bytes, value: bytes) -> None:
    """Nothing else rises: whoever follows the topic goes on."""
    with pytest.raises(InvalidMessage):
        decode_control(key, value)


@pytest.mark.parametrize("key", [None, b"", b"model/champion", b"a/b/c/d", b"/b/c", b"a/b c/d"])
def test_a_key_is_kind_name_and_version(key: bytes | None) -> None:
    with pytest.raises(InvalidMessage, match="expected kind/name/version"):
        read_key(key)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (None, "not null"),
        (b"{", "expected JSON"),
        (b"[]", "expected a JSON object"),
        (orjson.dumps(BODY | {"author": ""}), "author"),
        (orjson.dumps(BODY | {"time": "yesterday"}), "time"),
        (orjson.dumps(BODY | {"time": "2026-03-01T12:00:00"}), "time"),
        (orjson.dumps(BODY | {"content": []}), "content"),
        (orjson.dumps({"author": "ada"}), "time"),
    ],
)
def test_a_broken_value_is_refused_by_field(value: bytes | None, named: str) -> None:
    with pytest.raises(InvalidMessage, match=named):
        decode_control(b"model/champion/a1", value)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"name": "m"}, "content.version"), ({"name": "m", "version": "b2"}, "the key names")],
)
def test_a_model_document_names_the_model_of_its_key(content: dict[str, str], named: str) -> None:
    value = orjson.dumps(BODY | {"content": content})
    with pytest.raises(InvalidMessage, match=named):
        read_model(decode_control(b"model/champion/a1", value))
