"""A value is on a list however it is written."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.lists import ListChange, ListEntry, ListFold, ListType, ListUse
from fraud.decision.lists import Lookup


def a_lookup(kind: ListType, *values: str) -> Lookup:
    fold = ListFold()
    entries = tuple(ListEntry(value=value) for value in values)
    fold.take("them", "c0", ListChange(type=kind, use=ListUse.BLOCK, add=entries), "ada", 0)
    return Lookup(fold.states()["them"])


@pytest.mark.parametrize(
    ("kind", "entry", "value"),
    [
        (ListType.IP, "::ffff:203.0.113.7", "203.0.113.7"),
        (ListType.IP, "203.0.113.7", "::ffff:203.0.113.7"),
        (ListType.IP, "::ffff:203.0.113.0/120", "203.0.113.7"),
        (ListType.IP, "203.0.113.0/24", "::ffff:cb00:7107"),
        (ListType.IP, "fe80::1", "fe80::1%eth0"),
        (ListType.IP, "fe80::1%eth0", "fe80::1"),
        (ListType.IP, "2001:db8::/32", "2001:db8::1%" + "x" * 1000),
        (ListType.EMAIL, "example.com", "Ada@Example.com."),
        (ListType.EMAIL, "ada@example.com.", "ada@example.com"),
        (ListType.EMAIL, "münchen.example", "x@xn--mnchen-3ya.example"),
        (ListType.EMAIL, "xn--mnchen-3ya.example", "x@MÜNCHEN.example"),
        (ListType.PHONE, "+1 (202) 555-0143", "١٢٠٢٥٥٥٠١٤٣"),
        (ListType.PHONE, "١٢٠٢٥٥٥٠١٤٣", "+12025550143"),
        (ListType.BIN, "411111", "41111122"),
        (ListType.DEVICE, "d-1", " d-1 "),
    ],
)
def test_a_value_is_found_as_it_is_meant(kind: ListType, entry: str, value: str) -> None:
    other = {ListType.IP: "198.51.100.1", ListType.EMAIL: "x@example.net"}.get(kind, "555555")
    assert a_lookup(kind, entry).members([value, other, None], 0).tolist() == [True, False, False]


NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "10.1.2.3", "2001:db8::/32"]
ADDRESSES = ["10.1.2.3", "10.1.2.4", "10.1.3.1", "10.2.1.1", "10.9.9.9", "2001:db8::1", "192.0.2.1"]


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(NETWORKS)), st.lists(st.sampled_from(NETWORKS)), st.booleans(), st.booleans()),
        max_size=8,
    )
)  # fmt: skip
def test_a_lookup_made_from_the_one_before_finds_the_same(
    changes: list[tuple[list[str], list[str], bool, bool]],
) -> None:
    """And the one before goes on as it was."""
    fold = ListFold()
    lookup: Lookup | None = None
    for number, (added, removed, replaced, looked) in enumerate(changes):
        fold.take(
            "them",
            f"c{number}",
            ListChange(
                type=ListType.IP,
                use=ListUse.BLOCK,
                add=tuple(ListEntry(value=value) for value in added),
                remove=tuple(removed),
                replace=replaced,
            ),
            "ada",
            0,
        )
        if looked:
            before = None if lookup is None else lookup.members(ADDRESSES, 0).tolist()
            state = fold.states()["them"]
            after = Lookup(state, lookup)
            assert (
                after.members(ADDRESSES, 0).tolist() == Lookup(state).members(ADDRESSES, 0).tolist()
            )
            assert lookup is None or lookup.members(ADDRESSES, 0).tolist() == before
            lookup = after


@pytest.mark.parametrize("kind", list(ListType))
def test_long_values_are_looked_up_and_not_held(kind: ListType) -> None:
    entry = {ListType.IP: "10.0.0.0/8", ListType.EMAIL: "example.com"}.get(kind, "4111")
    lookup = a_lookup(kind, entry)
    tracemalloc.start()
    try:
        for number in range(20):
            assert not lookup.members([f"{number}" + "x" * 100_000], 0).any()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
