"""Lists: values are compared as people mean them, and a list is the fold of its changes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.control import ControlDocument, list_version, read_list_change
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.lists import (
    KeptEntry,
    ListChange,
    ListEntry,
    ListFold,
    ListState,
    ListType,
    ListUse,
    normal,
)

values = st.sampled_from([f"cust-{number}" for number in range(8)])


def a_change(
    *values: str, kind: ListType = ListType.ENTITY, use: ListUse = ListUse.BLOCK, **more: object
) -> ListChange:
    return ListChange.model_validate(
        {"type": kind, "use": use, "add": [{"value": value} for value in values]} | more
    )


def fold(*changes: ListChange) -> ListState | None:
    """Fold changes that each have an id of their own."""
    folding = ListFold()
    for number, change in enumerate(changes):
        folding.take("them", f"c{number}", change, "ada", 0)
    return folding.state("them")


def kept(**entry: object) -> KeptEntry:
    """Put an entry on a list, and return what is kept of it."""
    state = fold(ListChange.model_validate({"type": "entity", "use": "block", "add": [entry]}))
    assert state is not None
    return state.entries["a"]


@pytest.mark.parametrize(
    ("kind", "written", "compared"),
    [
        (ListType.ENTITY, " cust-1 ", "cust-1"),
        (ListType.EMAIL, "Ada@Example.COM", "ada@example.com"),
        (ListType.EMAIL, "@Example.com", "example.com"),
        (ListType.EMAIL, "mail.example.com", "mail.example.com"),
        (ListType.IP, "203.0.113.7/32", "203.0.113.7"),
        (ListType.IP, "203.0.113.7/24", "203.0.113.0/24"),
        (ListType.IP, "2001:DB8::0001", "2001:db8::1"),
        (ListType.IP, "::ffff:203.0.113.7", "203.0.113.7"),
        (ListType.IP, "::ffff:203.0.113.7/120", "203.0.113.0/24"),
        (ListType.IP, "FE80::1%eth0", "fe80::1"),
        (ListType.EMAIL, "Ada@example.com.", "ada@example.com"),
        (ListType.EMAIL, "münchen.example", "xn--mnchen-3ya.example"),
        (ListType.PHONE, "٠١٢٣٤٥٦", "0123456"),
        (ListType.BIN, "411111", "411111"),
        (ListType.PHONE, "+1 (202) 555-0143", "12025550143"),
    ],
)
def test_a_value_is_written_as_it_is_compared(kind: ListType, written: str, compared: str) -> None:
    assert normal(kind, written) == compared
    assert normal(kind, compared) == compared


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ListType.EMAIL, "ada"),
        (ListType.EMAIL, "a@b@c"),
        (ListType.IP, "10.0.0.256"),
        (ListType.IP, "10.0.0.0/33"),
        (ListType.BIN, "41111x"),
        (ListType.BIN, "411"),
        (ListType.PHONE, "call me"),
        (ListType.ENTITY, "  "),
        (ListType.TEXT, "x" * 321),
    ],
)
def test_what_is_no_such_value_is_refused_and_not_repeated(kind: ListType, value: str) -> None:
    with pytest.raises(ValueError, match="expected") as told:
        normal(kind, value)
    assert not value.strip() or value not in str(told.value)


@given(st.lists(st.tuples(st.lists(values), st.lists(values), st.booleans()), max_size=8))
def test_a_list_is_the_fold_of_its_changes(
    changes: list[tuple[list[str], list[str], bool]],
) -> None:
    """Removed before added; a replacement starts anew."""
    expected: set[str] = set()
    for added, removed, replaced in changes:
        expected = (set() if replaced else expected - set(removed)) | set(added)
    state = fold(
        *(
            a_change(*added, remove=removed, replace=replaced)
            for added, removed, replaced in changes
        )
    )
    assert set(state.entries if state is not None else ()) == expected


@given(st.lists(values, min_size=1, max_size=8), st.integers(20, 200))
def test_a_change_in_parts_counts_as_one_once_the_last_is_there(
    added: list[str], limit: int
) -> None:
    whole = a_change(*added, remove=["cust-0"], replace=True)
    parts = whole.cut(limit)
    folding = ListFold()
    states = []
    for part in parts:
        folding.take("them", "c0", part, "ada", 0)
        states.append(folding.state("them"))
    assert states[:-1] == [None] * (len(parts) - 1)
    assert states[-1] == fold(whole)


def test_a_part_that_is_missing_leaves_the_list_as_it_was() -> None:
    parts = a_change("a", "b", "c").cut(10)
    folding = ListFold()
    folding.take("them", "c0", a_change("z"), "ada", 0)
    assert len(parts) == 3
    for part in (parts[0], parts[2]):
        folding.take("them", "c1", part, "ada", 0)
    assert set(folding.states()["them"].entries) == {"z"}


def test_the_version_names_the_state() -> None:
    """Another change is another version, though the entries be the same."""
    one, two = fold(a_change("a")), fold(a_change("a"), a_change("a"))
    assert one
    assert two
    assert one.entries == two.entries
    assert one.version != two.version
    assert one == fold(a_change("a"))
    replaced = fold(a_change("b"), a_change("a", replace=True))
    assert replaced == fold(a_change("c"), a_change("a", replace=True))


def test_a_known_change_with_other_content_is_refused() -> None:
    """The same one again changes nothing, in parts or not."""
    folding = ListFold()
    parts = a_change("b", "c").cut(3)
    for _ in range(2):
        folding.take("them", "c0", a_change("a"), "ada", 0)
        for part in parts:
            folding.take("them", "c1", part, "ada", 0)
    before = folding.state("them")
    assert before == fold(a_change("a"), a_change("b", "c"))
    for change_id, change in (("c0", a_change("x")), ("c1", a_change("x", part=2, parts=2))):
        with pytest.raises(InvalidMessage, match=f"what change {change_id} of the list them said"):
            folding.take("them", change_id, change, "ada", 0)
    assert folding.state("them") == before


def test_a_bad_value_changes_nothing() -> None:
    folding = ListFold()
    folding.take("them", "c0", a_change("10.0.0.1", kind=ListType.IP), "ada", 0)
    before = folding.states()
    with pytest.raises(InvalidMessage, match="entry 1 of a list of type ip: expected an IP"):
        folding.take("them", "c1", a_change("10.0.0.2", "x", kind=ListType.IP), "ada", 0)
    with pytest.raises(InvalidMessage, match="type: expected ip"):
        folding.take("them", "c2", a_change("10.0.0.2"), "ada", 0)
    assert folding.states() == before


def test_a_dropped_list_is_gone_and_may_come_again() -> None:
    folding = ListFold()
    folding.take("them", "c0", a_change("a"), "ada", 0)
    folding.take("them", "c1", a_change(dropped=True), "ada", 0)
    assert folding.states() == {}
    folding.take("them", "c2", a_change("b"), "ada", 0)
    assert set(folding.states()["them"].entries) == {"b"}


def test_a_state_that_was_given_stays_as_it_is() -> None:
    """Whoever looks keeps what it saw; changes between two looks make one copy."""
    folding = ListFold()
    folding.take("them", "c0", a_change("a", "b"), "ada", 0)
    first = folding.states()["them"]
    for number, value in enumerate("cd", start=1):
        folding.take("them", f"c{number}", a_change(value, remove=["a"]), "ada", 0)
    second = folding.states()["them"]
    assert (set(first.entries), set(second.entries)) == ({"a", "b"}, {"b", "c", "d"})
    assert (second.since, set(second.changed)) == (first.version, {"a", "c", "d"})
    assert folding.states()["them"] is second
    folding.take("them", "c3", a_change("e", replace=True), "ada", 0)
    assert folding.states()["them"].since is None
    assert set(second.entries) == {"b", "c", "d"}


def test_an_entry_keeps_its_expiry() -> None:
    entry = kept(value="a", expires_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert entry.expires_ms == 1_772_323_200_000
    assert kept(value="a").expires_ms == 0


def test_a_list_can_be_looked_at_with_more_entries() -> None:
    """It stays as it is; a value of another type is named by its place."""
    before = fold(a_change("10.0.0.1", kind=ListType.IP))
    assert before is not None
    after = before.with_entries([ListEntry(value="10.1.2.3/8")])
    assert (set(before.entries), set(after.entries)) == ({"10.0.0.1"}, {"10.0.0.1", "10.0.0.0/8"})
    assert after.version != before.version
    with pytest.raises(InvalidMessage, match="entry 1 of a list of type ip"):
        before.with_entries([ListEntry(value="10.0.0.2"), ListEntry(value="x")])


@pytest.mark.parametrize(
    "end", ["1970-01-01T00:00:00Z", "1969-12-31T00:00:00Z", "0001-01-01T00:00:00+14:00"]
)
def test_an_entry_that_ended_before_1970_ended(end: str) -> None:
    """0 would be never."""
    assert kept(value="a", expires_at=end).expires_ms == 1


def test_a_document_says_which_part_it_is() -> None:
    def document(version: str, name: str = "them") -> ControlDocument:
        return ControlDocument(
            kind="list",
            name=name,
            version=version,
            author="ada",
            time=datetime(2026, 3, 1, tzinfo=UTC),
            content=a_change("a").model_dump(mode="json"),
        )

    assert read_list_change(document(list_version("ab12", 1))) == ("ab12", a_change("a"))
    with pytest.raises(InvalidMessage, match="part that the key names"):
        read_list_change(document("ab12.2"))
    with pytest.raises(InvalidMessage, match="small letters"):
        read_list_change(document("ab12.1", name="Them"))
