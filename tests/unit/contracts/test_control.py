"""The control document: its codec, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.control import (
    Activations,
    ControlDocument,
    decode_control,
    read_key,
    read_model,
)
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.versions import version_of

BODY = {"author": "ada", "time": "2026-03-01T12:00:00Z", "content": {"name": "m", "version": "a1"}}

NOW: dict[str, Any] = {
    "author": "ada",
    "time": datetime(2026, 3, 1, tzinfo=UTC),
    "content": {"name": "m", "version": "a1"},
}

parts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}", fullmatch=True)


@given(
    parts, parts, parts, st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.text())
)
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


@pytest.mark.parametrize(
    ("kind", "name"), [("rules", "active"), ("model", "champion"), ("model", "challenger")]
)
def test_a_change_has_an_id_in_the_key_and_may_say_what_it_replaces(kind: str, name: str) -> None:
    """So that no second one of the same version takes the first off a compacted topic."""
    one, other = (
        ControlDocument(kind=kind, name=name, version="a1", change=change, expected=expected, **NOW)
        for change, expected in (("c1", "b2"), ("c2", None))
    )
    assert one.key == f"{kind}/{name}/a1@c1".encode()
    assert one.key != other.key
    for document in (one, other):
        assert decode_control(document.key, document.value) == document
    assert b"expected" not in other.value
    before = decode_control(f"{kind}/{name}/a1".encode(), other.value)
    assert (before.version, before.change) == ("a1", None)


def test_what_a_value_says_of_itself_does_not_replace_its_key() -> None:
    value = orjson.dumps(BODY | {"kind": "rules", "name": "active", "change": "c9", "more": 1})
    document = decode_control(b"model/champion/a1", value)
    assert (document.kind, document.name, document.change) == ("model", "champion", None)


def activating(version: str, expected: str | None = None, change: str = "") -> ControlDocument:
    return ControlDocument(
        kind="rules",
        name="active",
        version=version,
        change=change or f"of{version[:20]}",
        expected=expected,
        **NOW,
    )


def void(*documents: ControlDocument) -> list[str]:
    activations = Activations()
    for document in documents:
        activations.take(document)
    return [one.version for one in documents if activations.void(one)]


def test_of_two_that_are_to_replace_the_same_rules_the_second_is_void() -> None:
    """And what follows goes on from the first, from the very start of a topic."""
    assert void(activating("b", "a"), activating("c", "a")) == ["c"]
    race = [activating("b", "a"), activating("c", "b"), activating("d", "b"), activating("e", "c")]
    assert void(*race) == ["d"]
    assert void(*race, activating("b", "e", "c2"), activating("f", "b")) == ["d"]
    assert void(activating("b", "a"), activating("c"), activating("d", "b")) == ["d"]


def test_an_expected_version_of_12_digits_is_that_of_the_whole_hash() -> None:
    """Documents from before a version was a whole hash are judged as they were."""
    one, two, three = (version_of(number) for number in range(3))
    assert void(activating(two, one), activating(three, one[:12])) == [three]
    assert void(activating(two[:12], one[:12]), activating(three, two)) == []
    assert void(activating(two[:12], one[:12]), activating(three, one)) == [three]


def test_a_document_that_was_lost_makes_none_void() -> None:
    """What it put in force is not known, and so no expectation of it can be judged."""
    whole = [activating(version, before) for before, version in zip("abcd", "bcde", strict=True)]
    for lost in range(len(whole)):
        assert void(*whole[:lost], *whole[lost + 1 :]) == []


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
