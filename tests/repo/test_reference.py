"""What is written about the code is what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tools.reference import SETTINGS, pages

ROOT = Path(__file__).parents[2]
PACKAGES = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "benchmarks"]


@pytest.mark.parametrize("path", pages(), ids=str)
def test_generated_files_are_up_to_date(path: Path) -> None:
    """`make docs` rewrites them."""
    assert (ROOT / path).read_text("utf-8") == pages()[path]


def test_every_settings_class_is_in_the_reference() -> None:
    """Else its settings would be missing in .env.example."""
    found = set()
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
                if isinstance(node, ast.ClassDef) and any(b.endswith("Settings") for b in bases):
                    found.add(f"{module}:{node.name}")
    assert found == {place for _, place in SETTINGS}


def test_every_example_of_a_docstring_is_run() -> None:
    """An example outside of the test paths would say what the code once did."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]
    paths = [ROOT / path for path in options["ini_options"]["testpaths"]]
    with_examples = [
        file
        for file in ROOT.glob("*/**/*.py")
        if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
        and re.search(r"^\s*>>> ", file.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(with_examples) > 20
    for file in with_examples:
        assert any(file.is_relative_to(path) for path in paths), file


def test_make_help_lists_every_target() -> None:
    """Whoever types `make` sees what there is."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert sorted(targets) == sorted(described)


def _anchors(page: Path) -> set[str]:
    """Return the fragments that a page's headings have on the hosting platform."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in words}


def test_links_between_documents_lead_somewhere() -> None:
    """A page and its section must exist, for the README as well."""
    for page in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]:
        links = re.findall(r"\]\((?!https?:|mailto:)([^)#]*)#?([^)]*)\)", page.read_text("utf-8"))
        for target, section in links:
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.relative_to(ROOT)} -> {target}"
            assert not section or section in _anchors(linked), (
                f"{page.relative_to(ROOT)} -> {target}#{section}"
            )


def test_the_index_of_docs_lists_every_page_by_its_title() -> None:
    """A page that nothing links to is not read."""
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = {target: title for title, target in re.findall(r"\[([^]]+)\]\(([^)]+)\)", index)}
    pages_of_docs = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {target for target in listed if "/" not in target} == pages_of_docs
    for target in [*pages_of_docs, "decisions/README.md"]:
        first_line = (ROOT / "docs" / target).read_text("utf-8").partition("\n")[0]
        assert first_line == f"# {listed[target]}"


def test_the_index_of_decisions_lists_every_page() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(path.name for path in folder.glob("0*.md"))


def test_the_changelog_begins_with_the_version_in_work() -> None:
    """Between releases the version ends in `.dev0`, and what changed is unreleased."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest
    assert (newest[1] == "Unreleased") == project["version"].endswith(".dev0")


def test_the_lock_names_no_address() -> None:
    """Names and hashes only: where packages come from is the user's choice."""
    for lock in ("requirements.lock", "requirements-services.lock", "requirements-flink.lock"):
        assert "://" not in (ROOT / lock).read_text("utf-8")
