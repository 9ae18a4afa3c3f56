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
    docstrings = list(made.docstrings(made.product))
    assert list(map(str, house.banned_openings(docstrings))) == ["fraud/a.py:1: Give what it is."]
    assert len(house.banned_openings(made.docstrings(made.tests))) == 1
    pages = house.banned_openings(house.blocks_of_pages(made))
    assert [page.place for page in pages] == ["README.md:1", "README.md:3", "README.md:6"]
    assert list(map(str, house.banned_phrases(docstrings))) == ["fraud/a.py:14: what has no"]
    assert [text.text for text in house.short_first_lines(docstrings)] == ["Read both."]
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


def test_messages_are_help_descriptions_and_errors() -> None:
    module = """
def run(value=Option(help="Say what.")):
    raise ValueError(f"{value} is none")
"""
    made = a_house(fraud__a_dot_py=module)
    assert [message.text for message in made.messages(made.product)] == [" is none", "Say what."]


def test_a_heading_is_continued_by_a_small_letter() -> None:
    made = a_house(README_dot_md="# Errors\n\nare JSON.\n\n# Pages\n\nLong lists have pages.\n")
    assert list(map(str, house.continued_headings(made))) == ["README.md:1: # Errors"]
