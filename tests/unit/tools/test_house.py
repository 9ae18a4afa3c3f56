"""The figures of `tools.house` are what their names say, on a house of a few lines."""

from __future__ import annotations

from tools import house
from tools.house import House

PRODUCT = '''"""Give what it is."""

import json


class Settings:
    """Settings of one thing."""

    class Settings:
        """Read both."""


def run() -> None:
    """Run what has no name."""
    import os

    def inner() -> None:
        import sys

    # A reason.
    value = Consumer({})  # noqa: F821
'''
TEST = '''import pytest


def test_it() -> None:
    """Say it."""
    assert 1
    with pytest.raises(ValueError):
        int("x")
'''
PAGE = "# Let it be\n\nTake one.\nGive two.\n\n- Say three.\n"


def a_house(**files: str) -> House:
    return House(
        {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}
    )


def test_each_figure_counts_what_it_says() -> None:
    made = a_house(fraud__a_dot_py=PRODUCT, tests__test_a_dot_py=TEST, README_dot_md=PAGE)
    assert house.imports_in_functions(made) == 3  # the inner one is in two functions
    assert house.class_names_used_twice(made) == ["Settings"]
    assert house.kafka_clients(made) == ["fraud/a.py"]
    assert house.assertions(made) == 2
    assert house.test_functions(made) == 1
    assert house.banned_openings(made, made.product) == 1
    assert house.banned_openings(made, made.tests) == 1
    assert house.banned_openings_of_pages(made) == 3
    assert house.banned_phrases(made) == 1
    assert house.short_first_lines(made) == 1
    # One comment, eight lines of code.
    assert house.comments_per_100_lines(made) == 100 / 8


def test_a_block_is_a_copy_of_six_lines() -> None:
    lines = [f"value_{number} = {number}" for number in range(10)]
    once = "\n".join(lines) + "\n"
    other = "\n".join(["first = 1", *lines[2:9], "last = 2"]) + "\n"
    made = a_house(fraud__a_dot_py=once, fraud__b_dot_py=other)
    assert house.duplicate_blocks(made) == 1
    assert house.duplicate_blocks(a_house(fraud__a_dot_py=once)) == 0


def test_every_row_of_the_table_can_be_counted() -> None:
    made = a_house(fraud__a_dot_py=PRODUCT, tests__test_a_dot_py=TEST, README_dot_md=PAGE)
    assert all(count(made) >= 0 for count in house.ROWS.values())
