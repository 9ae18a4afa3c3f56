"""NOTICE names the licence of every file and data set that others have made."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest
from packaging.licenses import canonicalize_license_expression

ROOT = Path(__file__).parents[2]
# What the project writes itself. Any other kind of file may be somebody else's data.
SOURCES = {
    ".css",
    ".html",
    ".j2",
    ".java",
    ".js",
    ".lark",
    ".lock",
    ".md",
    ".py",
    ".toml",
    ".typed",
}
SOURCES |= {".example", ".yaml", ".yml"}
# Files of other kinds that the project writes or generates.
OWN = (
    "dashboards/fraudstream.ndjson",  # make docs
    "docs/images/",  # screenshots of the live page
    "docs/performance/",  # rows of benchmarks
    "docs/reliability/",
    "fraud/contracts/examples/",
    "fraud/contracts/schemas/",  # make docs
    "monitoring/grafana/dashboards/fraudstream.json",  # make docs
    "scoring_api/live/assets/icon.svg",
)


def tracked() -> list[PurePosixPath]:
    """List the files in git."""
    git = shutil.which("git") or pytest.skip("git is not installed")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [PurePosixPath(name) for name in listed.stdout.split("\0") if name]


def needs_entry(path: PurePosixPath) -> bool:
    """Tell whether NOTICE must name the file; the text of a licence is part of another's entry."""
    if "LICENSE" in path.name or path.as_posix().startswith(OWN):
        return False
    return "vendor" in path.parts or path.suffix not in SOURCES | {""}


def entries(notice: str) -> list[dict[str, str]]:
    """Parse the paragraphs of NOTICE that begin with `Files:`; a line indented goes on."""
    paragraphs = [p for p in notice.split("\n\n") if p.startswith("Files:")]
    return [
        dict(re.findall(r"^(\w+): (.+)$", re.sub(r"\n +", " ", p), re.MULTILINE))
        for p in paragraphs
    ]


ENTRIES = entries((ROOT / "NOTICE").read_text("utf-8"))


def test_notice_names_every_file_of_others_and_no_other() -> None:
    """A new data file fails here until its origin and licence are known."""
    named = [name for entry in ENTRIES for name in entry["Files"].split()]
    assert sorted(named) == sorted(str(path) for path in tracked() if needs_entry(path))


def test_data_of_others_is_told_from_sources() -> None:
    for other in ("producer/names.csv", "fraud/bins.parquet", "model/vendor/d3.js", "docs/a.png"):
        assert needs_entry(PurePosixPath(other)), other
    for own in ("producer/names.py", "docs/images/live.png", "model/vendor/d3.LICENSE", "Makefile"):
        assert not needs_entry(PurePosixPath(own)), own


def test_every_entry_has_an_origin_and_a_licence() -> None:
    """The licence is an SPDX expression; vendored files have its text beside them."""
    for entry in ENTRIES:
        assert entry["Origin"]
        assert canonicalize_license_expression(entry["Licence"]) == entry["Licence"]
        if "vendor" in PurePosixPath(entry["Files"]).parts:
            assert PurePosixPath(entry["Text"]) in tracked()


def test_packages_and_images_contain_the_licences() -> None:
    """Each pattern of `license-files` matches, and Docker is sent what the build needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8").splitlines()[1]
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    included = set()
    for pattern in project["license-files"]:
        found = [path.relative_to(ROOT) for path in ROOT.glob(pattern)]
        assert found, pattern
        included |= {path.as_posix() for path in found}
        assert {f"!{path.parts[0]}" for path in found} <= set(sent)
    assert {entry["Text"] for entry in ENTRIES if "Text" in entry} <= included
