"""The tests are independent of each other: what several of them need is in tests/support."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# Also within texts that a test runs as a program.
_IMPORT = re.compile(r"^\s*(?:from|import) +(tests(?:\.\w+)*)(?: +import +(\w+))?", re.MULTILINE)


def imported_tests(text: str) -> list[str]:
    """Return the modules below tests, other than helpers, that a file imports."""
    found = (".".join(filter(None, match.groups())) for match in _IMPORT.finditer(text))
    return [name for name in found if not name.startswith("tests.support")]


def test_no_test_imports_another() -> None:
    imports = {
        str(path.relative_to(TESTS)): names
        for path in TESTS.rglob("*.py")
        if (names := imported_tests(path.read_text("utf-8")))
    }
    assert imports == {}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("from tests.unit.a.test_b import read", ["tests.unit.a.test_b.read"]),
        ("    import tests.conftest", ["tests.conftest"]),
        ("from tests import conftest", ["tests.conftest"]),
        ("from tests.support.builders import a_record", []),
        ("from tests.support import naive", []),
    ],
)
def test_an_import_is_found_wherever_it_is(line: str, names: list[str]) -> None:
    assert imported_tests(f"x = 1\n{line}\n") == names
