"""Pages, docstrings, help and error texts use none of the words that the style bans."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tools.house import (
    House,
    banned_openings,
    banned_phrases,
    blocks_of_pages,
    continued_headings,
    lines_of_pages,
    read_house,
    short_first_lines,
)

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"

MEANINGS = "docs/features.md"
"""Page of the features' meanings. A model names their hash: other words would need a new model."""

MOST_README_WORDS = 900


@cache
def house() -> House:
    return read_house()


def package(path: str) -> str:
    """Return the package that owns a file: `fraud/kafka`, `notifier`, `tests`."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "fraud" and len(parts) > 2 else parts[0]


FILES = sorted({*house().product, *house().tools, *house().tests, *house().benchmarks})
PACKAGES = sorted(set(map(package, FILES)))


def files_of(name: str) -> list[str]:
    return [path for path in FILES if package(path) == name]


@pytest.mark.parametrize("name", PACKAGES)
def test_texts_of_code_have_no_banned_words(name: str) -> None:
    """Docstrings begin with a verb of the field and name their subjects."""
    docstrings = list(house().docstrings(files_of(name)))
    texts = [*docstrings, *house().messages(files_of(name))]
    assert list(map(str, banned_openings(texts))) == []
    assert list(map(str, banned_phrases(texts))) == []
    if name != "tests":
        assert list(map(str, short_first_lines(docstrings))) == []


def test_pages_have_no_banned_words() -> None:
    """A reader of a page never reads a sentence twice."""
    assert list(map(str, banned_openings(blocks_of_pages(house())))) == []
    found = list(map(str, banned_phrases(lines_of_pages(house()))))
    assert [finding for finding in found if not finding.startswith(MEANINGS)] == []


def test_no_sentence_flows_out_of_its_heading() -> None:
    """A heading is a noun phrase and the text below it stands alone."""
    assert list(map(str, continued_headings(house()))) == []


def test_a_page_is_named_for_its_title() -> None:
    """A page is found by its name."""
    for page in (ROOT / "docs").glob("*.md"):
        title = page.read_text("utf-8").partition("\n")[0].lower()
        if page.name != "README.md":
            assert all(word in title for word in page.stem.split("-")), f"{page.name}: {title}"


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= MOST_README_WORDS


def test_every_decision_has_a_date_and_a_status() -> None:
    """A reader must know whether a decision still holds."""
    head = re.compile(
        r"# \d{4}: .+\n\nDate: \d{4}-\d\d-\d\d\. Status: (?:accepted|superseded)\b.*\.\n"
    )
    for page in DECISIONS.glob("0*.md"):
        assert head.match(page.read_text("utf-8")), page.name


def test_the_index_explains_every_missing_number_of_decisions() -> None:
    """A gap looks like a lost page."""
    numbers = {int(page.name[:4]) for page in DECISIONS.glob("0*.md")}
    missing = sorted(set(range(1, max(numbers) + 1)) - numbers)
    explained = " and ".join(f"{number:04}" for number in missing) + " were withdrawn"
    assert explained in (DECISIONS / "README.md").read_text("utf-8")
